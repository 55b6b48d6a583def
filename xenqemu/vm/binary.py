"""Which device model a VM is to use: the one that was named, or else the newest that xenqemu has built."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import MissingError, UsageError
from xenqemu.state import StateDir

# What `make`, and `xenqemu build` without --out, leave in the current folder.
BUILT_HERE = Path("dist/bin/qemu-system-xen")
_PROGRAMS = (2, 3)  # ET_EXEC, ET_DYN
_SHORTEST_KEY = 4


@dataclass(frozen=True)
class Binary:
    """A device model: its absolute `path`, `origin` for how it was chosen, the `key` of its artifact if it has one."""

    path: Path
    origin: str
    key: str = ""


def choose_binary(state: StateDir, *, named: Path | None = None, key: str | None = None) -> Binary:
    """Return the device model `named`, else that of the artifact whose key begins with `key`, else the newest.

    The newest is ./dist/bin/qemu-system-xen if it is there, else the artifact used last. The path is made absolute
    and else left as it was given: a link there is meant to be followed whenever a guest starts.
    Raises `UsageError` for what is no program or no artifact, `MissingError` when nothing has been built.
    """
    if named is not None:
        return Binary(_checked(named), "--dm")
    if key is not None:
        return _artifact(complete_key(key, state), state, "--artifact")
    if BUILT_HERE.exists():
        return Binary(_checked(BUILT_HERE), "built in this folder")
    from xenqemu.build import find_artifact, list_artifacts

    for entry in list_artifacts(state):
        if find_artifact(entry.key, state):
            return _artifact(entry.key, state, "the artifact used last")
    raise MissingError(
        f"there is no device model to use: neither ./{BUILT_HERE} nor an artifact in {state.artifacts}",
        "run `xenqemu build`, or name one with --dm",
    )


def complete_key(key: str, state: StateDir, what: str = "--artifact") -> str:
    """Return the key of the artifact that begins with `key`; `what` is what messages call it.

    Raises `UsageError` when it is too short, or fits none or several.
    """
    if len(key) < _SHORTEST_KEY:
        raise UsageError(f"{what} {key!a} is too short", f"give at least {_SHORTEST_KEY} characters of the key")
    found = [path.name for path in state.artifacts.glob("*") if path.name.startswith(key)]
    if len(found) == 1:
        return found[0]
    fits = f"fits {len(found)} artifacts" if found else "fits no artifact"
    raise UsageError(f"{what} {key} {fits}", "`xenqemu cache list` shows the keys")


def _artifact(key: str, state: StateDir, origin: str) -> Binary:
    from xenqemu.build import find_artifact  # with the whole build stage, which --dm does not need

    found = find_artifact(key, state)
    if found is None:
        raise UsageError(f"the artifact {key} is damaged", "build it again with `xenqemu build`")
    return Binary(_checked(found.binary), origin, key)


def _absolute(path: Path) -> Path:
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: no such home directory", "name the device model's file") from error
    plain = Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow the link itself)
    try:
        path.stat()
        # `..` after a link leads elsewhere than its name says.
        return plain if plain.exists() and plain.samefile(path) else path.absolute()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "name the device model's file") from error


def _checked(path: Path) -> Path:
    """Return `path`, absolute, if it is a program that this machine's kernel can start."""
    absolute = _absolute(path)
    if not absolute.is_file():
        raise UsageError(f"{absolute} is no file", "name the device model's file, such as dist/bin/qemu-system-xen")
    if not os.access(absolute, os.X_OK):
        raise UsageError(f"{absolute} is not executable", f"`chmod a+x {absolute}` if it is a device model")
    try:
        with absolute.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise UsageError(f"{absolute}: {error.strerror}", "the device model has to be readable") from error
    reason = _why_no_program(head)
    if reason:
        raise UsageError(f"{absolute} is {reason}", "name the device model's binary itself: qemu-system-xen or -i386")
    return absolute


def _why_no_program(head: bytes) -> str:
    if head.startswith(b"#!"):
        return "a script and no ELF program"
    if not head.startswith(b"\x7fELF") or len(head) < 20:
        return "no ELF program"
    with Path("/proc/self/exe").open("rb") as file:
        own = _elf_kind(file.read(20))
    kind, *machine = _elf_kind(head)
    if kind not in _PROGRAMS:
        return "an ELF file but no program"
    return "" if machine == own[1:] else "a program for another kind of processor"


def _elf_kind(head: bytes) -> list[int]:
    """Return the file's type, its machine, and of how many bits and which byte order it is."""
    return [*struct.unpack_from("<HH" if head[5] == 1 else ">HH", head, 16), *head[4:6]]
