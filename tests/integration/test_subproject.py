"""The Makefile as a part of another build, with a real Xen tree and a real QEMU tarball, and no network."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from xenqemu.build.hardening import inspect_elf
from xenqemu.series.catalogue import load_series
from xenqemu.state import StateDir

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def tarball(xenqemu: Run, shared_state: StateDir) -> Path:
    plan = json.loads(xenqemu("build", "--qemu", f"distro:{load_series().supported[-1]}", "--dry-run", "--json").stdout)
    origin: dict[str, str] = plan["qemu"]["origin"]
    return shared_state.downloads / origin["sha256"] / origin["file"]


def test_an_outer_makefile_installs_it_like_a_part_of_xen(
    tarball: Path, xen_tree: Path, newest_xen: str, shared_state: StateDir, tmp_path: Path
) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "Makefile").write_text(
        "install:\n"
        f"\t$(MAKE) -C {ROOT} XEN_ROOT={xen_tree} QEMU_SRC={tarball} DESTDIR={tmp_path}/image prefix=/usr "
        f"LIBEXEC_BIN=/usr/lib/xen-{newest_xen}/bin SHAREDIR=/usr/share BUILD_FLAGS=--build-xen-libs install\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XENQEMU_", "MAKE"))}
    environment |= {
        "XENQEMU_STATE_DIR": str(shared_state.root),
        "CC": "ccache gcc",
        "CCACHE_DIR": str(shared_state.root / "ccache"),
        "PIP_NO_INDEX": "1",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
    }
    argv = ["make", "-C", str(outer), "--silent", "-j2", "install"]
    first = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert first.stdout == ""
    binary = tmp_path / f"image/usr/lib/xen-{newest_xen}/bin/qemu-system-xen"
    report = inspect_elf(binary)
    assert f"libxenctrl.so.{newest_xen}" in report.needed
    assert (report.rpath, report.runpath) == ("", "")
    assert (tmp_path / "image/usr/share/qemu-xen/qemu/keymaps/de").is_file()
    assert not list((tmp_path / "image").rglob("libxen*"))

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "image").rglob("*") if path.is_file()}
    again = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "image").rglob("*") if path.is_file()} == before

    libraries = next(
        path.parent for path in shared_state.xen.rglob(f"libxenctrl.so.{newest_xen}") if "dist/install" in str(path)
    )
    machines = subprocess.run(
        [binary, "-M", "help"], env={"LD_LIBRARY_PATH": str(libraries)}, capture_output=True, text=True, check=True
    )
    assert "xenfv" in machines.stdout
