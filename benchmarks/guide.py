"""The manual build: upstream QEMU as it is, `--target-list=i386-softmmu --enable-xen`, everything else by default."""

from __future__ import annotations

import bz2
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Cost, build_steps, run

_PROGRAM = "qemu-system-i386"
_FIRMWARE = re.compile(r"'(edk2-[\w-]+\.fd)'")
_DEVICE_TREE = re.compile(r"'([\w-]+)\.dt[bs]'")


@dataclass(frozen=True)
class ManualBuild:
    """What the manual build took and left behind."""

    unpack: Cost
    configure: Cost
    compile: Cost
    steps: int
    program: Path
    stand_ins: int


def unpack(tarball: Path, into: Path) -> tuple[Path, Cost]:
    """Unpack `tarball` into the new folder `into` as a user would, with tar; return its top folder and the cost."""
    into.mkdir(parents=True)
    cost = run(["tar", "-xf", tarball], cwd=into, log=into.with_suffix(".log"))
    folders = [path for path in into.iterdir() if path.is_dir()]
    return (folders[0] if len(folders) == 1 else into), cost


def add_stand_ins(tree: Path) -> int:
    """Give a QEMU tree without firmware blobs what configure demands of them; return how many files that took.

    The tarballs of a distribution's archive have none, and pc-bios/meson.build of 10.2 ends without the packed UEFI
    images, pc-bios/dtb/meson.build without the device trees (sources where dtc is installed, else the compiled
    ones), even with --disable-install-blobs. A Xen device model reads none of them, so empty ones do: this is
    the one step that the manual build needs beyond the guide's. A full upstream tree has all of them and stays as
    it is.
    """
    bios = tree / "pc-bios"
    wanted: dict[Path, bytes] = {}
    for name in _FIRMWARE.findall(_text(bios / "meson.build")):
        wanted[bios / f"{name}.bz2"] = bz2.compress(b"")
    # where the device trees are listed, and where they are, has moved between releases
    for folder in (bios, bios / "dtb"):
        for name in _DEVICE_TREE.findall(_text(folder / "meson.build")):
            wanted[folder / f"{name}.dts"] = b"/dts-v1/;\n/ { };\n"
            wanted[folder / f"{name}.dtb"] = b""
    missing = {path: content for path, content in wanted.items() if not path.exists()}
    for path, content in missing.items():
        path.write_bytes(content)
    return len(missing)


def build(tarball: Path, work: Path, jobs: int) -> ManualBuild:
    """Do the manual build of `tarball` below the new folder `work`.

    Raises `RuntimeError` with the end of the log when a step fails.
    """
    tree, unpacked = unpack(tarball, work / "guide")
    stand_ins = add_stand_ins(tree)
    folder = tree / "build"
    folder.mkdir()
    log = work / "guide-build.log"
    configure: list[str | Path] = [tree / "configure", "--target-list=i386-softmmu", "--enable-xen"]
    configure += ["--disable-install-blobs", f"--python={sys.executable}", "--disable-download"]
    configured = run(configure, cwd=folder, log=log, env=environment())
    # Only the device model: a plain `make` builds tools and test programs too, and the comparison would flatter.
    compiled = run([_ninja(), "-j", str(jobs), _PROGRAM], cwd=folder, log=log, env=environment())
    steps = build_steps(log.read_text(errors="backslashreplace"))
    return ManualBuild(unpacked, configured, compiled, steps, folder / _PROGRAM, stand_ins)


def environment() -> dict[str, str]:
    """Return the environment of a measured build: this process's, with compiler caches off and ninja in PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XENQEMU_", "MAKE", "MFLAGS"))}
    return kept | {"PATH": path, "CCACHE_DISABLE": "1", "XENQEMU_LAUNCHER": "none"}


def _ninja() -> Path:
    return Path(sys.executable).with_name("ninja")


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
