"""What a finished device model is like: figures of the file, and of what the program says of itself."""

from __future__ import annotations

import re
from pathlib import Path

from xenqemu.build.cost import measure_program
from xenqemu.elf import open_elf
from xenqemu.proc import run
from xenqemu.profile_pipeline import count_types
from xenqemu.sysroot import sysroot_of

# What ld.so(8) says with --list of an object that it has mapped; the vDSO is the kernel's and has no path.
_MAPPED = re.compile(r"^\s*(?:\S+ => )?(?P<path>/\S.*?) \(0x[0-9a-f]+\)$", re.MULTILINE)


def examine(program: Path) -> dict[str, float]:
    """Return the figures of a built device model; those that need it to run are left out where it does not.

    Raises `BuildError` when it is no ELF program.
    """
    cost = measure_program(program)
    found: dict[str, float] = {
        "stripped": cost.stripped,
        "text": cost.text,
        "data": cost.data,
        "relocations": cost.relocations,
        "relocation-count": count_relocations(program),
        "needed": cost.libraries,
    }
    mapped = mapped_libraries(program)
    if mapped:
        found["libraries"] = len(mapped)
    device_types, qom_types = count_types(program)
    if device_types is not None:
        found["device-types"] = device_types
    if qom_types is not None:
        found["qom-types"] = qom_types
    return found


def count_relocations(program: Path) -> int:
    """Return how many places the loader adjusts at a start: a packed table (SHT_RELR) has more than it has entries.

    Raises `BuildError` for what is no ELF file.
    """
    with open_elf(program) as elf:
        sections = [section for section in elf.iter_sections() if section["sh_flags"] & 0x2]
        return sum(section.num_relocations() for section in sections if hasattr(section, "num_relocations"))


def mapped_libraries(program: Path) -> tuple[str, ...]:
    """Return the files that the loader maps for the program, itself among them; none where it cannot.

    One that lies in a system of its own is asked of that one's loader (see `xenqemu.sysroot`).
    """
    sysroot = sysroot_of(program)
    words = sysroot.load("--list") if sysroot else ("ldd",)
    done = run((*words, program), check=False)
    return read_mapped(done.stdout) if done.ok else ()


def read_mapped(text: str) -> tuple[str, ...]:
    """Return the paths in what `ldd` or `ld.so --list` says."""
    return tuple(dict.fromkeys(match["path"] for match in _MAPPED.finditer(text)))
