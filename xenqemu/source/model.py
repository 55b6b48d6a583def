"""What the source stage takes and what it hands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from packaging.version import Version


class SourceKind(Enum):
    """The forms in which a QEMU can be given."""

    CHECKOUT = "checkout"
    GIT = "git"
    TARBALL = "tarball"
    DIRECTORY = "directory"
    DISTRO = "distro"


@dataclass(frozen=True)
class QemuSource:
    """A QEMU as the user named it.

    `location` is a path, a URL, or for `DISTRO` the wanted series (`10.2`, empty for the newest supported);
    `ref` a git ref (None: HEAD, with the state of the work tree checked); `dirty` takes uncommitted changes along;
    `sha256`, or `signature` with `keyring`, verify a tarball; `refresh` asks the archive again for what it has
    now instead of taking what was found the last time.
    """

    kind: SourceKind
    location: str
    ref: str | None = None
    dirty: bool = False
    sha256: str | None = None
    signature: Path | None = None
    keyring: Path | None = None
    refresh: bool = False


@dataclass(frozen=True)
class QemuTree:
    """A pristine QEMU, imported into the bare object store at `repository`.

    `tree` is the git tree id of the normalised content (see `xenqemu.source.normalise`): the same content gives the
    same id, in whatever form it came. `origin` says where it came from and how it was verified, for the manifest,
    without paths of this machine and without credentials: `location` is a base name, a URL or `distro:SERIES`.
    """

    repository: Path
    tree: str
    version: Version
    origin: Mapping[str, str] = field(default_factory=dict)
