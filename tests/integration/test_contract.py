"""The table of the contract has what the libxl of both supported Xens can pass, no less and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from xenqemu.series.catalogue import load_series

# What QEMU took away and the series gives back, as far as a device model can be asked without Xen.
MENDED = {"acpi-off", "chroot", "runas", "restrict-limits", "sound-hda", "qmp-cpu-add-pc"}
# Of a libxl before 4.20.3, which passes numbers as text.
MENDED_TEXT = {"usbctrl-xhci-text", "usbdev-text"}
SCRIPT = Path(__file__).resolve().parents[2] / "scripts/contract"


def test_the_table_and_libxl_agree(xen_sources: Mapping[str, Path], tmp_path: Path) -> None:
    for series, tarball in xen_sources.items():
        (tmp_path / series).mkdir()
        check_table(tarball, tmp_path / series)


def check_table(tarball: Path, folder: Path) -> None:
    wanted = ("--wildcards", "*/tools/libs/light/*", "*/xen/Makefile")
    subprocess.run(["tar", "--no-same-owner", "-xf", tarball, "-C", folder, *wanted], check=True)
    tree = next(folder.glob("**/tools/libs/light")).parents[2]
    done = subprocess.run([sys.executable, SCRIPT, tree], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "all of it is in the table" in done.stdout

    # A libxl that passes one thing more, or one less, is noticed.
    source = tree / "tools/libs/light/libxl_dm.c"
    text = source.read_text()
    source.write_text(text.replace('"-no-shutdown"', '"-new-option"', 1))
    done = subprocess.run([sys.executable, SCRIPT, tree], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not in the table: '-new-option'" in done.stdout
    assert "not in this Xen: '-no-shutdown'" in done.stdout


@pytest.mark.parametrize("series", load_series().supported)
def test_a_device_model_of_the_project_takes_all_of_it(xenqemu: Run, tmp_path: Path, series: str) -> None:
    xenqemu("build", "--qemu", f"distro:{series}", "--out", tmp_path / "dist")
    for xen, mended in (("4.17", MENDED | MENDED_TEXT), ("4.20", MENDED - {"chroot", "runas"})):
        # Refused is nothing: it would end with 8.
        done = xenqemu("contract", "check", tmp_path / "dist/bin/qemu-system-xen", "--xen", xen, "--json")
        verdicts = {one["id"]: one["verdict"] for one in json.loads(done.stdout)["results"]}
        assert {verdicts[name] for name in mended} == {"taken"}
        assert {name for name in MENDED_TEXT if name in verdicts} == mended & MENDED_TEXT


def test_profile_full_takes_the_password_of_spice(xenqemu: Run, tmp_path: Path) -> None:
    newest = f"distro:{load_series().supported[-1]}"
    xenqemu("build", "--qemu", newest, "--profile", "full", "--cc", "ccache gcc", "--out", tmp_path / "dist")
    done = xenqemu("contract", "check", tmp_path / "dist/bin/qemu-system-xen", "--xen", "4.17", "--json")
    verdicts = {one["id"]: one["verdict"] for one in json.loads(done.stdout)["results"]}
    assert verdicts["spice"] == verdicts["spice-password"] == "taken"
