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
    `libraries` are those that QEMU links, then the libraries of Xen that these need.
    """

    origin: str
    location: str
    version: Version
    include_dirs: tuple[Path, ...]
    library_dirs: tuple[Path, ...]
    libraries: tuple[XenLibrary, ...]


@dataclass(frozen=True)
class Layout:
    """Where one Xen keeps its files: every directory to look in, those of the compiler's own search path too."""

    origin: str
    location: str
    include_dirs: tuple[Path, ...]
    library_dirs: tuple[Path, ...]


@dataclass(frozen=True)
class XenReport:
    """What there is of a Xen at `layout`, usable or not.

    `sdk` is None when QEMU cannot be built against it, and then `missing` says why, one entry for each header or
    library; `hint` is what to do about it. `version` is None when libxenctrl does not tell it.
    """

    layout: Layout
    version: Version | None
    libraries: tuple[XenLibrary, ...]
    missing: tuple[str, ...]
    hint: str
    sdk: XenSdk | None
