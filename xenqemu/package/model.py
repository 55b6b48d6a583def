"""What packaging takes and what it hands on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.version import Version

from xenqemu.errors import UsageError

# Debian Policy, sections 5.6.1 and 5.6.12.
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_REVISION = re.compile(r"[A-Za-z0-9+.~]+")
_MAINTAINER = re.compile(r"[^<>\n]*[^<>\s] <[^<>@\s]+@[^<>@\s]+>")
_DEFAULT_NAME = "xenqemu-system-xen"
_DEFAULT_PROFILE = "hvm"


@dataclass(frozen=True)
class Build:
    """A finished build: the folder with its files, each as its manifest says."""

    tree: Path
    manifest: Mapping[str, Any]

    @property
    def qemu(self) -> Version:
        """The version of QEMU."""
        return Version(self.manifest["qemu"]["version"])

    @property
    def xen(self) -> str:
        """The release of the Xen that it was built for (`4.17`)."""
        return ".".join(str(self.manifest["xen"]["version"]).split(".")[:2])

    @property
    def profile(self) -> str:
        """The name of its profile."""
        return str(self.manifest["profile"]["name"])

    @property
    def program(self) -> PurePosixPath:
        """The device model, relative to the folder."""
        return PurePosixPath(self.manifest["program"])

    @property
    def libraries(self) -> tuple[PurePosixPath, ...]:
        """The libraries of Xen that come along, relative to the folder."""
        return tuple(path for path in self.files if ".so." in path.name)

    @property
    def files(self) -> tuple[PurePosixPath, ...]:
        """Every file, relative to the folder, sorted; debug information is in none of them."""
        paths = (PurePosixPath(output["path"]) for output in self.manifest["outputs"])
        return tuple(sorted(path for path in paths if path.suffix != ".debug"))

    @property
    def debug(self) -> PurePosixPath | None:
        """The file with the program's debug information, None when it was built without."""
        path = self.program.with_name(f"{self.program.name}.debug")
        return path if any(output["path"] == str(path) for output in self.manifest["outputs"]) else None


@dataclass(frozen=True)
class PackageRequest:
    """What to make of a build: `name` of the package (empty: by its profile), its `revision`, where it goes.

    `date`, in seconds since 1970, is that of every file in it. `maintainer` is `Name <address>`, for Debian.
    """

    out: Path
    date: int
    name: str = ""
    revision: str = "1"
    maintainer: str = ""

    def name_for(self, build: Build) -> str:
        """Return the package's name; raises `UsageError` for one that dpkg would refuse."""
        default = _DEFAULT_NAME
        if build.profile != _DEFAULT_PROFILE:
            default += f"-{re.sub('[^a-z0-9+.]+', '-', build.profile.lower()).strip('-')}"
        name = self.name or default
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"'{name}' cannot be a package's name", "lower case letters, digits, '+', '-' and '.': --name"
            )
        return name

    def version_for(self, build: Build) -> str:
        """Return the package's version; raises `UsageError` for a revision that cannot be part of one.

        A revision of `0xenqemu1` sorts before any that a distribution would give the same QEMU. The release of Xen is
        in it because one for a newer Xen replaces one for an older, and not the other way round. A candidate sorts
        before its release (`~`, deb-version(7)).
        """
        if not _REVISION.fullmatch(self.revision):
            raise UsageError(f"'{self.revision}' cannot be a revision", "letters, digits, '+', '.' and '~': --revision")
        qemu = re.sub(r"(?<=\d)(a|b|rc|\.dev)(?=\d)", r"~\1", str(build.qemu))
        return f"{qemu}+xen{build.xen}-0xenqemu{self.revision}"

    def checked_maintainer(self) -> str:
        """Return who answers for a Debian package (Policy, section 3.3); raises `UsageError` without one."""
        if not _MAINTAINER.fullmatch(self.maintainer):
            given = f"'{self.maintainer}' is no" if self.maintainer else "a Debian package needs a"
            raise UsageError(
                f"{given} maintainer",
                "--maintainer 'Name <address@host>', or DEBFULLNAME and DEBEMAIL, as dch takes them",
            )
        return self.maintainer


@dataclass(frozen=True)
class Packaged:
    """A package: its file, the name and the version in it, and the packages that it depends on (Debian's only)."""

    path: Path
    name: str
    version: str
    sha256: str
    size: int
    depends: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "file": self.path.absolute(),
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "size": self.size,
            "depends": list(self.depends),
        }
