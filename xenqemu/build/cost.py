"""What a build costs: the sizes of its program, and how they come about. Measured from the files, never estimated."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from xenqemu.elf import open_elf
from xenqemu.errors import MissingError
from xenqemu.proc import CommandFailedError, run

_SHF_WRITE, _SHF_ALLOC = 0x1, 0x2
# What strip(1) takes away: the symbol table with its names, and debug information.
_SYMBOLS = (".symtab", ".strtab", ".debug", ".zdebug", ".gdb_index")
# Folders whose own folders are areas (hw/net, target/i386); others are one area each.
_AREA_DEPTH = 2


@dataclass(frozen=True)
class ProgramCost:
    """The sizes of a program in bytes, and how many libraries it names.

    `stripped` is the file without symbols and debug information; `text` what is mapped read-only, code and constants;
    `data` what each process has its own copy of, `bss` what it has zeroed; `relocations` what the loader reads to
    adjust `data` at each start. `libraries` are those that it names itself, not those that they need in turn.
    """

    stripped: int
    text: int
    data: int
    bss: int
    relocations: int
    libraries: int

    def as_dict(self) -> dict[str, int]:
        """Return the sizes by their names."""
        return asdict(self)


def measure_program(path: Path) -> ProgramCost:
    """Measure the ELF program at `path`; raises `BuildError` when it is none."""
    with open_elf(path) as elf:
        dynamic = elf.get_section_by_name(".dynamic")
        libraries = 0 if dynamic is None else sum(tag.entry.d_tag == "DT_NEEDED" for tag in dynamic.iter_tags())
        return _measure(path.stat().st_size, elf, libraries)


def _measure(size: int, elf: Any, libraries: int) -> ProgramCost:
    text = data = bss = relocations = stripped = 0
    for section in elf.iter_sections():
        kind, flags, bytes_ = str(section["sh_type"]), int(section["sh_flags"]), int(section["sh_size"])
        if not flags & _SHF_ALLOC:
            if section.name.startswith(_SYMBOLS):
                stripped += bytes_ + int(elf["e_shentsize"])
        elif kind in ("SHT_RELA", "SHT_REL", "SHT_RELR"):
            relocations += bytes_
        elif kind == "SHT_NOBITS":
            bss += bytes_
        elif flags & _SHF_WRITE:
            data += bytes_
        else:
            text += bytes_
    return ProgramCost(size - stripped, text, data, bss, relocations, libraries)


def measure_areas(build: Path) -> dict[str, int]:
    """Return the bytes of code and data that the objects in the build folder have, by where their sources are.

    An area is a folder of QEMU's source, `hw/net`, or what was generated into one of the build's, `qapi (generated)`.
    The linker has not yet left out what nobody calls. A build folder without a compilation database, or a machine
    without size(1), gives no areas.
    """
    try:
        entries = json.loads((build / "compile_commands.json").read_bytes())
    except (OSError, ValueError):
        return {}
    objects = {
        entry["output"]: _area(entry["file"]) for entry in entries if (build / entry.get("output", "?")).is_file()
    }
    areas: dict[str, int] = {}
    for name, size in _sizes(build, sorted(objects)).items():
        areas[objects[name]] = areas.get(objects[name], 0) + size
    return areas


def _area(source: str) -> str:
    path = PurePosixPath(source)
    generated = path.parts[:2] != ("..", "src")
    folders = path.parent.parts if generated else path.parent.parts[2:]
    name = "/".join(folders[:_AREA_DEPTH]) or "."
    return f"{name} (generated)" if generated else name


def _sizes(build: Path, objects: list[str]) -> dict[str, int]:
    if not objects:
        return {}
    try:
        output = run(("size", *objects), cwd=build).stdout
    except (CommandFailedError, MissingError):
        return {}
    rows = (line.split(maxsplit=5) for line in output.splitlines()[1:])
    return {name: int(text) + int(data) for text, data, _, _, _, name in rows}
