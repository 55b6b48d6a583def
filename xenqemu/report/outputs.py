"""What came out of a build: the program as it is, and what its manifest says of how it came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xenqemu.build.hardening import ElfReport
from xenqemu.elf import open_elf
from xenqemu.report.model import Cell, Check, Column, Fact, Subject, Table
from xenqemu.report.words import counted, format_size, number, size_cells, table, tables, text

_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 0x1, 0x2, 0x4
_SIZES = {"text": "of that text", "data": "of that data", "bss": "zeroed memory (bss)"}
_RELOCATIONS = ("SHT_RELA", "SHT_REL", "SHT_RELR")


def output_facts(subject: Subject, elf: ElfReport) -> tuple[Fact, ...]:
    """Return what the program is."""
    manifest = subject.manifest
    sizes = table(manifest, "cost", "program")
    facts = [
        Fact("program", str(subject.binary), code=True),
        Fact("size", format_size(subject.binary.stat().st_size)),
        *(Fact(title, format_size(size)) for name, title in _SIZES.items() if (size := number(sizes, name))),
        Fact("SHA-256", subject.sha256, code=True),
        Fact("build id", elf.build_id, code=True),
        Fact("run path", elf.rpath or elf.runpath, code=True),
        Fact("key", text(manifest, "key"), code=True),
    ]
    return tuple(fact for fact in facts if fact.value)


def checks(manifest: Mapping[str, Any], elf: ElfReport) -> tuple[Check, ...]:
    """Return the protections, as the file has them; what a file cannot show is as the flags were chosen."""
    features = [str(feature) for feature in table(manifest, "hardening").get("features", ())]
    enforced = [name for name, there in (("IBT", elf.ibt), ("SHSTK", elf.shstk)) if there]
    landing = f"marked for {' and '.join(enforced)}" if enforced else "in the code; not marked for enforcement"
    return (
        Check("position independent", elf.pie),
        Check("full RELRO", elf.relro == "full", "" if elf.relro == "full" else elf.relro),
        Check("non-executable stack", elf.nx_stack),
        Check("stack protector", elf.stack_protector),
        Check("FORTIFY", bool(elf.fortified), counted(len(elf.fortified), "checked function")),
        Check("control-flow protection", elf.control_flow, landing if elf.control_flow else ""),
        Check("stack clash protection", "stack-clash-protection" in features, "as compiled"),
        Check("variables zeroed", "zero-initialised-variables" in features, "as compiled"),
    )


def output_tables(subject: Subject, elf: ElfReport) -> tuple[Table, ...]:
    """Return the sections of the program, the libraries that it names, where its code came from, and all files."""
    manifest = subject.manifest
    areas = sorted(
        ((str(name), float(size)) for name, size in table(manifest, "cost", "areas").items() if _is_size(size)),
        key=lambda area: (-area[1], area[0]),
    )
    files = [(text(one, "path"), number(one, "size") or 0.0) for one in tables(manifest, "outputs")]
    largest_first = sorted(files, key=lambda file: (-file[1], file[0]))
    found = (
        _sections(subject),
        Table(
            "needed", "Libraries that it names", (Column("soname", code=True),), tuple((Cell(x),) for x in elf.needed)
        ),
        _sized("areas", "Where code and data came from", "folder of QEMU", areas),
        _sized("files", "All files", "file", largest_first),
    )
    return tuple(one for one in found if one.rows)


def _is_size(size: object) -> bool:
    return isinstance(size, (int, float)) and not isinstance(size, bool)


def _sized(name: str, caption: str, title: str, rows: list[tuple[str, float]]) -> Table:
    cells = size_cells([size for _, size in rows])
    columns = (Column(title, code=True), Column("size", number=True))
    return Table(name, caption, columns, tuple((Cell(what), cell) for (what, _), cell in zip(rows, cells, strict=True)))


def _sections(subject: Subject) -> Table:
    found = sorted(_elf_sections(subject), key=lambda section: (-section[2], section[0]))
    sizes = size_cells([size for _, _, size in found])
    rows = tuple((Cell(name), Cell(what), size) for (name, what, _), size in zip(found, sizes, strict=True))
    columns = (Column("section", code=True), Column("what it is"), Column("size", number=True))
    return Table("sections", "Sections of the program", columns, rows)


def _elf_sections(subject: Subject) -> Iterator[tuple[str, str, int]]:
    with open_elf(subject.binary) as elf:
        for section in elf.iter_sections():
            if section.name and int(section["sh_size"]):
                kind = _kind(str(section["sh_type"]), int(section["sh_flags"]))
                yield section.name, kind, int(section["sh_size"])


def _kind(kind: str, flags: int) -> str:
    if not flags & _SHF_ALLOC:
        return "not loaded"
    if kind in _RELOCATIONS:
        return "relocations"
    if flags & _SHF_EXECINSTR:
        return "code"
    if kind == "SHT_NOBITS":
        return "zeroed memory"
    return "data" if flags & _SHF_WRITE else "constants"
