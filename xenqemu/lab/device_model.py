"""A device model of this machine, made ready to run in a dom0 that is another system.

Dom0's C library may be older or newer than the one that the device model was linked against, so it goes there with all
of its shared libraries and with this machine's dynamic loader, and a script at the path that the config names starts it
through that loader.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from xenqemu.errors import LabError
from xenqemu.lab.model import DOM0_FIRMWARE, OverlayFile
from xenqemu.proc import run
from xenqemu.sysroot import sysroot_of
from xenqemu.xen import layout

DOM0_ROOT = "/usr/lib/xenqemu/dm"
_SCRIPT = b"#!"
_ELF = b"\x7fELF"
_RESOLVED = re.compile(r"^\s*(?P<soname>\S+) => (?P<path>/.*?) \(0x[0-9a-f]+\)$", re.MULTILINE)
_XENCTRL = re.compile(r"^libxenctrl\.so\.(?P<series>[0-9]+\.[0-9]+)$", re.MULTILINE)
# pthread_cancel loads it by name at run time (glibc's misc/unwind-link.c), so that no file says it is needed.
_UNWINDER = "libgcc_s.so.1"
# Data that a device model for Xen can ask for is small: keymaps, boot ROMs. What is larger is firmware for others.
_LARGEST_DATA = 512 * 1024
_DATA_SUFFIXES = (".bin", ".rom")


@dataclass(frozen=True)
class DeviceModel:
    """A program that xl can start as a device model.

    `script` says that it is one, which runs as it is. `loader` is a program's dynamic loader, None for a static one,
    `libraries` maps the name by which each library is asked for to its file, `data` is QEMU's data directory or None,
    `xen` the release whose libxenctrl it is linked against (`4.17`), empty when it is none.
    """

    path: Path
    script: bool = False
    loader: Path | None = None
    libraries: dict[str, Path] = field(default_factory=dict)
    data: Path | None = None
    xen: str = ""


def inspect_device_model(path: Path) -> DeviceModel:
    """Return what the device model at `path` consists of, without running any of its code.

    Which files its libraries are is asked of its own dynamic loader (`ld.so --list`), because only that knows all the
    rules: RPATH, RUNPATH, LD_LIBRARY_PATH, the cache. One that lies in a system of its own (see `xenqemu.sysroot`)
    takes that one's. Raises `LabError` when it is no program, damaged, another machine's, or lacks a library.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LabError(f"the device model {path} cannot be read: {error.strerror}", "name another with --dm") from error
    if not os.access(path, os.X_OK):
        raise LabError(f"the device model {path} is not executable", f"chmod +x {path}")
    if magic.startswith(_SCRIPT):
        return DeviceModel(path, script=True)
    if magic != _ELF:
        raise LabError(
            f"the device model {path} is neither an ELF program nor a script", "name a qemu-system-xen with --dm"
        )
    loader, sysroot = _loader(path), sysroot_of(path)
    if loader is None:
        return DeviceModel(path, data=_data(path))
    if sysroot is not None:
        loader = sysroot.loader.resolve()
    libraries = _libraries(path, sysroot.load() if sysroot else (str(loader),))
    xen = _XENCTRL.search("\n".join(libraries))
    return DeviceModel(path, False, loader, libraries, _data(path), xen["series"] if xen else "")


def _loader(path: Path) -> Path | None:
    """Return the dynamic loader that the ELF program asks for, None for a static one."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    size = path.stat().st_size
    loader = None
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            machine, segment = elf["e_machine"], None
            for segment in elf.iter_segments():
                # A loader that maps what is not in the file dies of SIGBUS, which explains nothing.
                if int(segment["p_offset"]) + int(segment["p_filesz"]) > size:
                    raise LabError(f"the device model {path} is truncated ({size} bytes)", "build or copy it again")
                if segment["p_type"] == "PT_INTERP":
                    loader = Path(_interpreter(segment))
    except (ELFError, ValueError, KeyError, AssertionError, OSError) as error:
        raise LabError(f"the device model {path} is a damaged ELF file", "build or copy it again") from error
    if segment is None or elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
        raise LabError(f"the device model {path} is an ELF file but no program", "name a qemu-system-xen with --dm")
    if machine != "EM_X86_64":
        raise LabError(
            f"the device model {path} is for {str(machine).removeprefix('EM_')}, the lab's dom0 is x86-64",
            "name one for x86-64 with --dm",
        )
    return loader


def _interpreter(segment: Any) -> str:
    return str(segment.get_interp_name())


def _libraries(path: Path, loader: Sequence[str]) -> dict[str, Path]:
    environment = {"LC_ALL": "C"}
    search = [os.environ["LD_LIBRARY_PATH"]] if os.environ.get("LD_LIBRARY_PATH") else []
    # In a Xen tree's DESTDIR the libraries of that Xen are not yet where its RUNPATH says.
    for folder in path.absolute().parents:
        if folder.parts[-2:] == ("dist", "install"):
            search += map(str, layout.prefix(folder, str(folder)).library_dirs)
    if search:
        environment["LD_LIBRARY_PATH"] = ":".join(search)
    # A library made for a newer processor, from a folder glibc-hwcaps, would not run on the emulated one.
    listed = run((*loader, "--glibc-hwcaps-mask", "none", "--list", path), env=environment, check=False)
    if not listed.ok:
        said = listed.stderr.strip().splitlines() or [f"the dynamic loader ended with {listed.returncode}"]
        reason = said[-1].rpartition("error while loading shared libraries: ")[2]
        raise LabError(
            f"the device model {path} cannot be loaded: {reason}",
            "install what it lacks, or name its folder in LD_LIBRARY_PATH",
        )
    found = {match["soname"]: Path(match["path"]) for match in _RESOLVED.finditer(listed.stdout)}
    # By a path goes the dynamic loader itself, where it is another than the one that the program names.
    libraries = {soname: library for soname, library in found.items() if "/" not in soname}
    for folder in dict.fromkeys(library.parent for library in libraries.values()):
        if (folder / _UNWINDER).is_file():
            libraries.setdefault(_UNWINDER, folder / _UNWINDER)
    return libraries


def _data(path: Path) -> Path | None:
    """Return QEMU's data directory of the program, as its own build and Xen's lay it out, or None.

    In a build folder it is below qemu-bundle, at the path where it will be installed (`get_relocated_path` in QEMU's
    util/cutils.c).
    """
    for prefix in path.resolve().parents[1:5]:
        for name in ("share/qemu-xen/qemu", "share/qemu"):
            if (prefix / name).is_dir():
                return prefix / name
    bundled = sorted((path.resolve().parent / "qemu-bundle").glob("**/share/qemu"))
    return bundled[0] if bundled else None


def overlay_of(model: DeviceModel, starters: Sequence[str]) -> tuple[OverlayFile, ...]:
    """Return the files of `model` in dom0, to be started at each of `starters`; the same model's are the same files.

    QEMU looks for its data relative to /proc/self/exe (util/cutils.c, `qemu_init_exec_dir`), which is the loader
    here; so it is told where they are with `-L`: its own first, then dom0's VGA BIOS and boot ROMs.
    """
    root = f"{DOM0_ROOT}/{sha256(os.fsencode(model.path)).hexdigest()[:12]}"
    if model.script:
        return tuple(OverlayFile(starter, model.path, 0o755) for starter in starters)
    program = f"{root}/bin/{model.path.name}"
    files = [OverlayFile(program, model.path, 0o755)]
    command: list[str] = [program]
    if model.loader is not None:
        loader = f"{root}/bin/ld.so"
        files.append(OverlayFile(loader, model.loader, 0o755))
        command = [loader, "--library-path", f"{root}/lib", "--argv0", model.path.name, program]
    files += [OverlayFile(f"{root}/lib/{soname}", library, 0o755) for soname, library in model.libraries.items()]
    if model.data is not None:
        files += _data_files(model.data, f"{root}/share")
        command += ["-L", f"{root}/share"]
    command += ["-L", DOM0_FIRMWARE]
    script = f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'.encode()
    files += [OverlayFile(starter, script, 0o755) for starter in starters]
    return tuple(files)


def _data_files(folder: Path, destination: str) -> list[OverlayFile]:
    files = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        wanted = path.suffix in _DATA_SUFFIXES or name.parts[0] == "keymaps"
        if wanted and path.is_file() and path.stat().st_size <= _LARGEST_DATA:
            files.append(OverlayFile(f"{destination}/{name.as_posix()}", path))
    return files
