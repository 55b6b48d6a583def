"""What is looked for, and what was found."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version


@dataclass(frozen=True)
class Requirement:
    """One entry of requirements.toml, whose head explains the fields; what an entry leaves out is empty here."""

    name: str
    group: str
    kind: str
    needed_for: str
    apt: tuple[str, ...]
    required: bool
    program: str
    args: tuple[str, ...]
    module: str
    package: str
    header: str
    library: str
    minimum: Version | None


@dataclass(frozen=True)
class Check:
    """How looking for one requirement went.

    `detail` is its version and where it is, or what is wrong; `apt` are the packages that bring it. Without one
    that is `required` a build with default settings fails.
    """

    name: str
    kind: str
    found: bool
    detail: str
    needed_for: str
    apt: tuple[str, ...]
    required: bool


def load_requirements(path: Path | None = None) -> tuple[Requirement, ...]:
    """Return the entries of requirements.toml (default: the one beside this module), in its order."""
    file = path or Path(__file__).with_name("requirements.toml")
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["requirement"]
    return tuple(
        Requirement(
            name=entry["name"],
            group=entry["group"],
            kind=entry["kind"],
            needed_for=entry["needed_for"],
            apt=tuple(entry["apt"]),
            required=entry.get("required", True),
            program=entry.get("program", ""),
            args=tuple(entry.get("args", ["--version"])),
            module=entry.get("module", ""),
            package=entry.get("package", ""),
            header=entry.get("header", ""),
            library=entry.get("library", ""),
            minimum=Version(entry["minimum"]) if "minimum" in entry else None,
        )
        for entry in entries
    )
