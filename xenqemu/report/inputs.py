"""What went into a build, from its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xenqemu.report.model import Cell, Column, Fact, Table, Words
from xenqemu.report.words import items, table, tables, text

_ORIGINS = {
    "location": "named as",
    "file": "archive",
    "suite": "suite",
    "verified": "verified by",
    "ref": "ref",
    "sha256": "SHA-256 of it",
}
_TOOLS = ("compiler", "assembler", "linker", "strip", "meson", "target")


def input_facts(manifest: Mapping[str, Any]) -> tuple[Fact, ...]:
    """Return source, Xen, profile and tools; what the manifest does not say is left out."""
    return tuple(fact for fact in _facts(manifest) if fact.value)


def _facts(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    yield Fact("QEMU", text(manifest, "qemu", "version"))
    for name, title in _ORIGINS.items():
        yield Fact(title, text(manifest, "qemu", "origin", name), code=name == "sha256")
    yield Fact("commit with the series", text(manifest, "qemu", "commit"), code=True)
    bundled = " (libraries bundled)" if table(manifest, "xen").get("bundled") else ""
    kind = text(manifest, "xen", "kind")
    yield Fact("Xen", f"{text(manifest, 'xen', 'version')}{f', from {kind}' if kind else ''}{bundled}")
    yield Fact("profile", text(manifest, "profile", "name"))
    for name in _TOOLS:
        yield Fact(name, text(manifest, "tools", name))
    variables = table(manifest, "environment")
    yield Fact("environment", " ".join(f"{name}={said}" for name, said in variables.items()), code=True)
    yield Fact("xenqemu", text(manifest, "xenqemu"))


def flag_groups(manifest: Mapping[str, Any]) -> tuple[Words, ...]:
    """Return the flags of configure, compiler and linker, by what they are for; groups without any are left out."""
    groups = (
        ("configure", items(manifest, "configure")),
        ("hardening", items(manifest, "hardening", "flags")),
        ("size", items(manifest, "size", "flags")),
        ("compiler flags of the command", items(manifest, "options", "compiler_flags")),
        ("CFLAGS", items(manifest, "options", "cflags")),
        ("LDFLAGS", items(manifest, "options", "ldflags")),
    )
    return tuple(Words(name, tuple(map(str, words))) for name, words in groups if words)


def input_tables(manifest: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the libraries of the system and of Xen, and the files that the target consists of."""
    columns = (Column("name", code=True), Column("version"))
    libraries = tuple((Cell(name), Cell(str(said))) for name, said in table(manifest, "libraries").items())
    digests = (Column("name", code=True), Column("SHA-256", code=True))
    xen = tuple((Cell(text(one, "soname")), Cell(text(one, "sha256"))) for one in tables(manifest, "xen", "libraries"))
    files = tuple((Cell(text(one, "path")), Cell(text(one, "sha256"))) for one in tables(manifest, "target"))
    found = (
        Table("libraries", "Libraries of the system", columns, libraries, folded=False),
        Table("xen-libraries", "Libraries of Xen", digests, xen),
        Table("target-files", "Files of the target", digests, files),
    )
    return tuple(one for one in found if one.rows)
