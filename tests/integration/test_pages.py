"""The commands of README and docs that need neither a guest nor a long build, run as they stand on their pages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.console import ROOT, commands, readers_checkout
from tests.integration.conftest import Execute, Run
from xenqemu.state import StateDir

CONFIG = 'name = "my-guest"\ntype = "hvm"\nmemory = 32\n'
# What libxl and the device model say of a guest with acpi = 0: xenqemu/explain/causes.toml has both lines.
LIBXL = "libxl: error: libxl_create.c:1896:domcreate_devmodel_started: Domain 10:device model did not start: -3\n"
DEVICE_MODEL = "xen-qemu-system-i386: -no-acpi: invalid option\n"


@pytest.fixture
def checkout(xenqemu: Run, shared_state: StateDir, tmp_path: Path) -> Path:
    return readers_checkout(tmp_path / "src/qemu", xenqemu("build", "--dry-run", "--json").stdout, shared_state)


def test_completion_and_manual_pages(page: Execute, tmp_path: Path) -> None:
    for folder in (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"):
        (tmp_path / folder).mkdir(parents=True)
    assert "complete -" in page(after="complete -p xenqemu >&2")
    for written in (
        ".local/share/bash-completion/completions/xenqemu",
        ".zfunc/_xenqemu",
        ".config/fish/completions/xenqemu.fish",
        ".local/share/man/man1/xenqemu-vm-use.1",
    ):
        assert (tmp_path / written).stat().st_size > 100


def test_subproject(page: Execute, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "xenqemu").symlink_to(ROOT)
    page()
    program = tmp_path / "image/usr/local/lib/xen/bin/qemu-system-xen"
    assert os.access(program, os.X_OK)
    assert (tmp_path / "image/usr/local/share/qemu-xen/qemu/keymaps/de").is_file()


def test_packaging(page: Execute, tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_text(CONFIG)
    # What installing it would do; that dpkg does it is tried by test_package.py.
    page(before={"xenqemu vm use": "dpkg-deb -x packages/*.deb installed"})
    program = tmp_path / "installed/usr/lib/xenqemu-system-xen/bin/qemu-system-xen"
    assert f'device_model_override = "{program}"' in (tmp_path / "my.cfg").read_text()


def test_ci(page: Execute, tmp_path: Path) -> None:
    page()
    assert "https://example.org/xenqemu.git" in (tmp_path / ".github/workflows/xenqemu.yml").read_text()


def test_guide_ci(page: Execute, tmp_path: Path) -> None:
    page()
    assert "10.0,10.2" in (tmp_path / ".github/workflows/xenqemu.yml").read_text()


def test_vm(page: Execute, dist: Path, tmp_path: Path) -> None:
    config = tmp_path / "etc/xen/guest.cfg"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)
    page(before={"xenqemu vm revert": "grep -q ^device_model_override etc/xen/guest.cfg || exit"})
    assert config.read_text() == CONFIG


def test_contract(page: Execute, dist: Path) -> None:
    said = page()
    assert "-no-acpi" in said


def test_report(page: Execute, dist: Path, tmp_path: Path) -> None:
    page()
    for name in ("xenqemu-report.html", "report.html"):
        assert "<!DOCTYPE html>" in (tmp_path / name).read_text()[:20]


def test_benchmarks(page: Execute, dist: Path, tmp_path: Path) -> None:
    shutil.copytree(dist, tmp_path / "other", symlinks=True)
    assert "binary, stripped" in page()


def test_troubleshooting(page: Execute, state: StateDir, tmp_path: Path) -> None:
    # A host's folder of logs, and the lab's last run, where a guest is looked for whose logs this host does not have.
    host, run = tmp_path / "var/log/xen", state.lab / "runs/1"
    for folder in (host, run):
        folder.mkdir(parents=True)
        (folder / "qemu-dm-my-guest.log").write_text(DEVICE_MODEL)
        (folder / "xl-my-guest.log").write_text(LIBXL)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/xl").write_text(f"#!/bin/sh\necho '{LIBXL.strip()}' >&2\nexit 1\n")
    (tmp_path / "bin/xl").chmod(0o755)
    said = page(state)
    assert said.count("acpi = 0 makes libxl pass -no-acpi") == len(commands("troubleshooting.md"))


def test_a_change_in_the_series(page: Execute, checkout: Path, tmp_path: Path) -> None:
    page()
    assert (tmp_path / "work/configs/targets/xen-dm-softmmu.mak").is_file()
