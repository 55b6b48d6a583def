"""Reading shared libraries: whose machine, which SONAME, what they need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile


@dataclass(frozen=True)
class SharedObject:
    """What a shared library says of itself; `soname` is empty when it has none, `machine` as in `x86-64 64-bit`."""

    machine: str
    soname: str
    needed: tuple[str, ...]


class NotSharedObjectError(Exception):
    """The file is no ELF shared library; the text says what it is instead."""


def _machine(elf: ELFFile) -> str:
    return f"{elf.get_machine_arch()} {elf.elfclass}-bit"


def _dynamic(elf: ELFFile) -> DynamicSection:
    if elf.header["e_type"] != "ET_DYN":
        raise NotSharedObjectError("an ELF file but not a shared library")
    section = elf.get_section_by_name(".dynamic")
    if not isinstance(section, DynamicSection):
        raise NotSharedObjectError("an ELF file without a dynamic section")
    return section


def read(path: Path) -> SharedObject:
    """Return what the shared library at `path` says of itself.

    Raises `NotSharedObjectError` for anything else (a linker script, a truncated file), `OSError` when unreadable.
    """
    content = path.read_bytes()
    if content[:4] != b"\x7fELF":
        raise NotSharedObjectError("not an ELF file")
    try:
        elf = ELFFile(BytesIO(content))
        soname, needed = "", []
        tag: Any
        for tag in _dynamic(elf).iter_tags():
            if tag.entry.d_tag == "DT_SONAME":
                soname = tag.soname
            elif tag.entry.d_tag == "DT_NEEDED":
                needed.append(tag.needed)
        return SharedObject(_machine(elf), soname, tuple(needed))
    except NotSharedObjectError:
        raise
    except Exception as error:
        # pyelftools trips over a damaged file in whatever it was reading: ELFError, KeyError, AssertionError, ...
        raise NotSharedObjectError("a damaged ELF file") from error


@cache
def native_machine() -> str:
    """Return the machine that this process runs as, in the words of `SharedObject.machine`."""
    with Path("/proc/self/exe").open("rb") as file:
        return _machine(ELFFile(file))
