"""Contenders that are an upstream QEMU as it is, configured by hand: the guide's build, and what is made of it."""

from __future__ import annotations

import bz2
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xenqemu.bench.model import Contender
from xenqemu.bench.process import Cost, build_steps, environment, quick, run

# A file of hw/xen that every supported QEMU has.
EDITED = "hw/xen/xen-bus.c"
_FIRMWARE = re.compile(r"'(edk2-[\w-]+\.fd)'")
_DEVICE_TREE = re.compile(r"'([\w-]+)\.dt[bs]'")
_DEVICES = "xenqemu-bench"
_NOOP_RUNS = 5


@dataclass(frozen=True)
class Place:
    """Where a build by hand is: the tree, its build folder, what it made."""

    tree: Path
    program: str

    @property
    def build(self) -> Path:
        """Its build folder."""
        return self.tree / "build"

    @property
    def binary(self) -> Path:
        """The device model, once it is built."""
        return self.build / self.program

    @property
    def log(self) -> Path:
        """What configure and ninja said."""
        return self.tree.parent / "build.log"


def unpack(tarball: Path, into: Path) -> tuple[Path, Cost]:
    """Unpack `tarball` into the new folder `into` as a user would, with tar; return its top folder and the cost."""
    into.mkdir(parents=True)
    cost = run(["tar", "-xf", tarball], cwd=into, log=into / "unpack.log")
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


def compile_cold(
    contender: Contender, tarball: Path, folder: Path, jobs: int, cache: Path | None = None
) -> tuple[Place, Cost]:
    """Unpack, configure and compile in the folder, which is made anew, and return where and at what cost.

    With `cache` the compiler is called through ccache, which has its files there. Only the device model is compiled:
    a plain `make` builds tools and test programs too, and the comparison would flatter. Raises `BuildError`.
    """
    shutil.rmtree(folder, ignore_errors=True)  # a cold build that was interrupted is none
    tree, unpacked = unpack(tarball, folder)
    add_stand_ins(tree)
    place = Place(tree, contender.program)
    words = list(contender.configure)
    if contender.devices:
        target = next(word.partition("=")[2] for word in words if word.startswith("--target-list="))
        listed = tree / "configs" / "devices" / target / f"{_DEVICES}.mak"
        listed.write_text("".join(f"CONFIG_{symbol}=y\n" for symbol in contender.devices))
        words.append(f"--with-devices-{target.partition('-')[0]}={_DEVICES}")
    words += ["--disable-install-blobs", f"--python={sys.executable}", "--disable-download"]
    words += ["--cc=ccache cc"] if cache else []
    place.build.mkdir()
    env = environment(cache, folder)
    configured = run([tree / "configure", *words], cwd=place.build, log=place.log, env=env)
    return place, unpacked + configured + compile_again(place, jobs, env)


def compile_again(place: Place, jobs: int, env: Mapping[str, str]) -> Cost:
    """Call ninja for the device model and return what it took. Raises `BuildError`."""
    return run([_ninja(), "-j", str(jobs), place.program], cwd=place.build, log=place.log, env=env)


def nothing_to_do(place: Place) -> float:
    """Return the seconds that ninja takes to find that nothing is to be done. Raises `BuildError`."""
    return quick([_ninja(), place.program], cwd=place.build, times=_NOOP_RUNS, env=environment())


def steps(place: Place) -> int:
    """Return how many steps the build had."""
    return build_steps(_text(place.log))


def find_place(contender: Contender, folder: Path) -> Place | None:
    """Return the place of a finished build in the folder, None where there is none."""
    places = (Place(tree, contender.program) for tree in folder.glob("*/") if (tree / "configure").is_file())
    return next((place for place in places if place.binary.is_file()), None)


def edit(tree: Path, text: str) -> None:
    """Change a file of hw/xen in the tree, by a comment that says `text` at its end."""
    with (tree / EDITED).open("a") as file:
        file.write(f"/* {text} */\n")


def _ninja() -> Path:
    return Path(sys.executable).with_name("ninja")


def _text(path: Path) -> str:
    return path.read_text(errors="backslashreplace") if path.is_file() else ""
