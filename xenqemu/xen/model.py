"""What the xen stage takes and what it hands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version


@dataclass(frozen=True)
class XenLibrary:
    """One shared library of Xen: `name` as in `-lNAME`, its SONAME, the file, and the file's SHA-256."""

    name: str
    soname: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class XenSdk:
    """The headers and libraries of one Xen.

    `origin` is `system`, `prefix` or `tree`; `location` what the user named. `include_dirs` and `library_dirs` are
    empty for directories that the compiler searches anyway. `version` is the library interface version (4.17, 4.20).
    """

    origin: str
    location: str
    version: Version
    include_dirs: tuple[Path, ...]
    library_dirs: tuple[Path, ...]
    libraries: tuple[XenLibrary, ...]
