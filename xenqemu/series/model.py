"""What the series stage works with and hands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xenqemu.versions import release_of


@dataclass(frozen=True)
class Topic:
    """One topic of the series: a folder with a patch file for each range of QEMU versions.

    `versions` limits the QEMUs that need the topic at all; `files` maps the first version that a file fits to it.
    """

    name: str
    summary: str
    versions: SpecifierSet
    files: tuple[tuple[Version, Path], ...]

    def needed_for(self, version: Version) -> bool:
        """Whether a QEMU of `version` needs this topic."""
        return self.versions.contains(release_of(version), prereleases=True)

    def file_for(self, version: Version) -> Path | None:
        """Return the file with the highest version not above `version`, or None when every file is for later ones.

        A development tree or a release candidate counts as the release that it leads to.
        """
        fitting = [path for first, path in self.files if first <= release_of(version)]
        return fitting[-1] if fitting else None

    def neighbours(self, path: Path) -> tuple[Path, ...]:
        """Return the files before and after `path`, for the QEMUs around those that it is for."""
        paths = [candidate for _, candidate in self.files]
        position = paths.index(path)
        return (*paths[max(0, position - 1) : position], *paths[position + 1 : position + 2])


@dataclass(frozen=True)
class Series:
    """The topics in order, and the release series of QEMU that are built and tested."""

    folder: Path
    supported: tuple[str, ...]
    topics: tuple[Topic, ...]


@dataclass(frozen=True)
class Hunk:
    """How one hunk of a patch applied to the file at `path`.

    `offset` is how many lines away from where the patch says, `fuzz` how many context lines had to be ignored.
    """

    path: str
    number: int
    offset: int
    fuzz: int


@dataclass(frozen=True)
class AppliedPatch:
    """One patch that applied: its commit in the store and how its hunks went in."""

    topic: str
    file: str
    sha256: str
    commit: str
    hunks: tuple[Hunk, ...]


@dataclass(frozen=True)
class PatchedTree:
    """A QEMU with the series applied: `commit` in the store has one commit a topic on top of `base`.

    `listed` is false for a version between the supported ones, for which the series was only tried.
    """

    commit: str
    base: str
    version: Version
    listed: bool
    patches: tuple[AppliedPatch, ...]
