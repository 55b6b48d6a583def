"""Which version of the GNU C library files need, and which there is."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.version import Version

from xenqemu.elf import open_elf
from xenqemu.errors import BuildError

_NAME = re.compile(r"GLIBC_(\d+(?:\.\d+)+)")
_NEEDED, _DEFINED = "SHT_GNU_verneed", "SHT_GNU_verdef"


def needed_glibc(file: Path) -> Version:
    """Return the C library that the ELF `file` needs at least; 0 when it does not say, or is none.

    It is what the linker has put down (.gnu.version_r and .gnu.version_d, Linux Standard Base).
    """
    return _newest(file, _NEEDED)


def provided_glibc(libc: Path) -> Version:
    """Return which version the C library in the file `libc` is."""
    return _newest(libc, _DEFINED)


def _newest(file: Path, kind: str) -> Version:
    found = [Version("0")]
    try:
        with open_elf(file) as elf:
            for section in elf.iter_sections(kind):
                for _, entries in section.iter_versions():
                    found += [Version(match[1]) for entry in entries if (match := _NAME.fullmatch(entry.name))]
    except BuildError:
        return Version("0")
    return max(found)
