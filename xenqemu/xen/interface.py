"""What QEMU needs of a Xen, as read from interface.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Interface:
    """`modules` maps a library's name (`-lNAME`) to its pkg-config module; `headers` are relative to an -I."""

    modules: dict[str, str]
    headers: tuple[str, ...]


@cache
def interface() -> Interface:
    """Return what QEMU needs of a Xen."""
    data = tomllib.loads((Path(__file__).parent / "interface.toml").read_text(encoding="utf-8"))
    return Interface(
        {library["name"]: library["module"] for library in data["library"]}, tuple(data["headers"]["required"])
    )
