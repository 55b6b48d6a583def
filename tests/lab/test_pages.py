"""The commands of docs that boot guests, run as they stand on their pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.console import readers_checkout
from tests.integration.conftest import Execute, Run
from xenqemu.state import StateDir


def test_lab(page: Execute, dist: Path) -> None:
    page()


def test_passthrough(page: Execute, dist: Path, xenqemu: Run, tmp_path: Path) -> None:
    done = xenqemu("lab", "cases", "boot-sector", "--save", tmp_path)
    config = Path(done.stdout.strip()).read_text()
    (tmp_path / "my.cfg").write_text(f'{config}\npci = ["0000:00:18.0"]\n')
    said = page()
    assert "booted a guest under Xen" in said


def test_stubdom(page: Execute, xenqemu: Run, tmp_path: Path) -> None:
    done = xenqemu("lab", "cases", "boot-sector", "--save", tmp_path)
    config = tmp_path / "my.cfg"
    config.write_bytes(Path(done.stdout.strip()).read_bytes())
    before = config.read_bytes()
    said = page(before={"xenqemu lab boot": "grep -q ^stubdomain_ramdisk my.cfg || exit"})
    assert "booted a guest under Xen" in said
    assert config.read_bytes() == before
    made = json.loads((tmp_path / "dist/stubdom/manifest.json").read_bytes())
    assert made["initramfs"]["size"] <= 12_000_000
    assert made["memory"] <= 96


def test_lab_host(page: Execute, dist: Path) -> None:
    said = page()
    assert re.search(r"^xen_version +: 4\.\d+\.\d+$", said, re.MULTILINE)


def test_index(page: Execute, xenqemu: Run, tmp_path: Path) -> None:
    done = xenqemu("lab", "cases", "boot-sector", "--save", tmp_path)
    config = tmp_path / "my.cfg"
    config.write_bytes(Path(done.stdout.strip()).read_bytes())
    before = config.read_bytes()
    page(before={"xenqemu lab boot": "grep -q ^device_model_override my.cfg || exit"})
    assert config.read_bytes() == before


def test_guide_developers(page: Execute, xenqemu: Run, shared_state: StateDir, tmp_path: Path) -> None:
    readers_checkout(tmp_path / "src/qemu", xenqemu("build", "--dry-run", "--json").stdout, shared_state)
    # Nothing is changed in it, so that nothing is compiled: what is tried is the way, and not the compiler.
    said = page(before={"xenqemu contract check": "xenqemu build --out dist >&2"})
    assert "booted a guest under Xen" in said


def test_guide_ci(page: Execute, tmp_path: Path) -> None:
    page()
    assert "<testsuite" in (tmp_path / "results.xml").read_text()
    assert (tmp_path / "page.md").is_file()
