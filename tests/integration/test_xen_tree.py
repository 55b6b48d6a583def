"""A real Xen source tree: its libraries built by xenqemu, and programs that use them and no other Xen."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from xenqemu import xen
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi
from xenqemu.xen import elf
from xenqemu.xen.interface import interface
from xenqemu.xen.model import XenSdk

# Includes what QEMU's hw/xen includes, and calls a function of every library that QEMU's meson.build asks for.
_PROGRAM = b"""
#include <stddef.h>
#include <stdint.h>
#include <xenctrl.h>
#include <xenstore.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xenevtchn.h>
#include <xendevicemodel.h>
#include <xentoolcore.h>
#include <xen/hvm/e820.h>
#include <xen/hvm/hvm_info_table.h>
#include <xen/hvm/ioreq.h>
int main(void)
{
    return !xc_interface_open(NULL, NULL, 0) + !xs_open(0) + !xenforeignmemory_open(NULL, 0)
        + !xengnttab_open(NULL, 0) + !xenevtchn_open(NULL, 0) + !xendevicemodel_open(NULL, 0)
        + xentoolcore_restrict_all(1);
}
"""


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path} {path.lstat().st_mode} {path.lstat().st_mtime_ns}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def sdk(xen_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> XenSdk:
    """The libraries of that tree, built from nothing."""
    state = StateDir(tmp_path_factory.mktemp("state")).create()
    before = _content(xen_tree)
    built = xen.locate(str(xen_tree), state, PlainUi(), build_libs=True)
    assert _content(xen_tree) == before
    return built


def test_version_and_libraries(sdk: XenSdk, newest_xen: str) -> None:
    assert sdk.version == Version(newest_xen)
    sonames = {library.soname for library in sdk.libraries}
    assert {f"libxenctrl.so.{newest_xen}", "libxenstore.so.4", "libxencall.so.1"} <= sonames
    assert {library.name for library in sdk.libraries} >= set(interface().modules)


def _needed(program: Path, flags: list[str]) -> tuple[str, ...]:
    subprocess.run(["cc", "-x", "c", "-", "-o", program, *flags], input=_PROGRAM, check=True)
    return elf.read(program).needed


def test_a_program_needs_the_libraries_of_this_xen(sdk: XenSdk, newest_xen: str, tmp_path: Path) -> None:
    libraries = [f"-l{name}" for name in interface().modules]
    needed = _needed(tmp_path / "program", [*xen.compile_flags(sdk), *xen.link_flags(sdk), *libraries])
    assert f"libxenctrl.so.{newest_xen}" in needed


def test_pkg_config_finds_this_xen_before_the_systems(
    sdk: XenSdk, newest_xen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in xen.pkg_config_files(sdk).items():
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("PKG_CONFIG_PATH", str(tmp_path))
    modules = list(interface().modules.values())
    told = subprocess.run(
        ["pkg-config", "--cflags", "--libs", *modules], check=True, capture_output=True, text=True
    ).stdout
    assert f"libxenctrl.so.{newest_xen}" in _needed(tmp_path / "program", told.split())
    version = subprocess.run(
        ["pkg-config", "--modversion", "xencontrol"], check=True, capture_output=True, text=True
    ).stdout
    assert version == f"{newest_xen}.0\n"


def test_the_systems_xen_stays_its_own(
    shared_state: StateDir, sdk: XenSdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PKG_CONFIG_PATH", raising=False)
    system = xen.locate("system", shared_state, PlainUi())
    libraries = [f"-l{name}" for name in interface().modules]
    needed = _needed(tmp_path / "program", [*xen.compile_flags(system), *xen.link_flags(system), *libraries])
    ctrl = next(library for library in system.libraries if library.name == "xenctrl")
    assert ctrl.soname in needed
    assert ctrl.path not in [library.path for library in sdk.libraries]


def test_xen_info(
    xenqemu: Callable[..., subprocess.CompletedProcess[str]],
    sdk: XenSdk,
    xen_tree: Path,
    newest_xen: str,
    tmp_path: Path,
) -> None:
    prefix = sdk.include_dirs[0].parent.parent.parent
    told = json.loads(xenqemu("xen", "info", str(prefix), "--json").stdout)
    assert (told["usable"], told["version"], told["origin"]) == (True, newest_xen, "prefix")
    told = json.loads(xenqemu("xen", "info", str(xen_tree), "--json", exit_code=5, state=tmp_path).stdout)
    assert told["usable"] is False
    assert "header xen/hvm/ioreq.h" in told["reasons"]
