"""What an ELF file says of its own hardening and of the libraries that it needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xenqemu.elf import open_elf
from xenqemu.errors import BuildError

_X86_FEATURE_1_AND = 0xC0000002
_IBT, _SHSTK = 1, 2
_DF_BIND_NOW, _DF_1_NOW, _DF_1_PIE = 0x8, 0x1, 0x08000000
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_PACIASP = b"\x3f\x23\x03\xd5"
# A program whose code was compiled with landing pads has them by the thousand; a few come from the C library's own
# start-up objects, whatever the flags were.
_LANDING_PADS = 16


@dataclass(frozen=True)
class ElfReport:
    """What `inspect_elf` found.

    `relro` is `full`, `partial` or `none`. `control_flow` says that the code has landing pads (x86) or signed return
    addresses (Arm); `ibt` and `shstk` that the file also carries the note which lets the system enforce it, which
    takes a C library whose start-up objects carry it too. `fortified` are the checking variants that it calls.
    """

    pie: bool
    relro: str
    nx_stack: bool
    stack_protector: bool
    fortified: tuple[str, ...]
    control_flow: bool
    ibt: bool
    shstk: bool
    needed: tuple[str, ...]
    soname: str
    rpath: str
    runpath: str
    build_id: str

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def inspect_elf(path: Path) -> ElfReport:
    """Read the ELF file at `path`; raises `BuildError` when it is none, or one without a dynamic section."""
    with open_elf(path) as elf:
        try:
            return _report(elf)
        except LookupError as error:
            hint = "QEMU must not be linked statically"
            raise BuildError(f"{path} is no dynamically linked ELF file", hint) from error


def _report(elf: Any) -> ElfReport:
    segments: dict[str, list[Any]] = {}
    for segment in elf.iter_segments():
        segments.setdefault(str(segment["p_type"]), []).append(segment)
    dynamic = segments["PT_DYNAMIC"][0]
    tags: dict[str, list[Any]] = {}
    for tag in dynamic.iter_tags():
        tags.setdefault(str(tag.entry.d_tag), []).append(tag)

    def value(name: str) -> int:
        return int(tags[name][0].entry.d_val) if name in tags else 0

    flags_1 = value("DT_FLAGS_1")
    now = bool("DT_BIND_NOW" in tags or value("DT_FLAGS") & _DF_BIND_NOW or flags_1 & _DF_1_NOW)
    relro = "none" if "PT_GNU_RELRO" not in segments else "full" if now else "partial"
    stack = segments.get("PT_GNU_STACK", [])
    imported = sorted({symbol.name for symbol in dynamic.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF"})
    features, build_id = _notes(segments.get("PT_NOTE", []))
    return ElfReport(
        pie=elf["e_type"] == "ET_DYN" and ("PT_INTERP" in segments or bool(flags_1 & _DF_1_PIE)),
        relro=relro,
        nx_stack=bool(stack) and not int(stack[0]["p_flags"]) & 1,
        stack_protector="__stack_chk_fail" in imported,
        fortified=tuple(name for name in imported if name.startswith("__") and name.endswith("_chk")),
        control_flow=_landing_pads(elf) >= _LANDING_PADS,
        ibt=bool(features & _IBT),
        shstk=bool(features & _SHSTK),
        needed=tuple(tag.needed for tag in tags.get("DT_NEEDED", ())),
        soname=tags["DT_SONAME"][0].soname if "DT_SONAME" in tags else "",
        rpath=tags["DT_RPATH"][0].rpath if "DT_RPATH" in tags else "",
        runpath=tags["DT_RUNPATH"][0].runpath if "DT_RUNPATH" in tags else "",
        build_id=build_id,
    )


def _notes(segments: list[Any]) -> tuple[int, str]:
    """Return the x86 feature bits and the build id of the note segments."""
    features, build_id = 0, ""
    for segment in segments:
        for note in segment.iter_notes():
            if note["n_type"] == "NT_GNU_BUILD_ID":
                build_id = str(note["n_desc"])
            elif note["n_type"] == "NT_GNU_PROPERTY_TYPE_0":
                for item in note["n_desc"]:
                    if item["pr_type"] in (_X86_FEATURE_1_AND, "GNU_PROPERTY_X86_FEATURE_1_AND"):
                        features |= int(item["pr_data"])
    return features, build_id


def _landing_pads(elf: Any) -> int:
    """Return how many landing pads (x86-64) or signed prologues (AArch64) the executable code has."""
    pattern = {"EM_X86_64": _ENDBR64, "EM_AARCH64": _PACIASP}.get(str(elf["e_machine"]))
    if pattern is None:
        return 0
    return sum(
        segment.data().count(pattern)
        for segment in elf.iter_segments()
        if segment["p_type"] == "PT_LOAD" and int(segment["p_flags"]) & 1
    )
