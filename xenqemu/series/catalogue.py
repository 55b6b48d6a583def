"""`patches/series.toml` and the folders beside it: which topics there are and which file of each fits a version."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from xenqemu.errors import PatchError, SourceError
from xenqemu.resources import data_dir
from xenqemu.series.model import Series, Topic
from xenqemu.versions import DEVELOPMENT


def load_series(folder: Path | None = None) -> Series:
    """Read the series in `folder` (default: the project's own `patches/`).

    Raises `PatchError` when `series.toml` or a folder is malformed: every topic must be listed, must exist, and must
    hold nothing but `VERSION.patch` files.
    """
    folder = folder or data_dir("patches")
    catalogue = folder / "series.toml"
    try:
        data = tomllib.loads(catalogue.read_text())
        supported = tuple(str(Version(name)) for name in data["versions"]["supported"])
        topics = tuple(_topic(folder, entry) for entry in data["topic"])
    except OSError as error:
        raise PatchError(f"{catalogue} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError, InvalidVersion, InvalidSpecifier) as error:
        raise PatchError(
            f"{catalogue} is malformed: {error}", "it needs [versions] supported and one [[topic]] for each folder"
        ) from error
    listed = {topic.name for topic in topics}
    stray = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in listed)
    if stray:
        raise PatchError(f"{folder / stray[0]} is no topic of {catalogue.name}", "add a [[topic]] for it, or remove it")
    return Series(folder, supported, topics)


def _topic(folder: Path, entry: dict[str, str]) -> Topic:
    name = entry["name"]
    files = []
    for path in sorted((folder / name).glob("*")):
        try:
            first = Version(path.stem)
        except InvalidVersion:
            first = None
        if first is None or path.suffix != ".patch":
            raise PatchError(f"{path} is not named after a QEMU version", "call it like 10.0.patch")
        files.append((first, path))
    if not files:
        raise PatchError(f"topic {name} has no patch in {folder / name}", "add a file like 10.0.patch")
    return Topic(name, entry["summary"], SpecifierSet(entry.get("versions", "")), tuple(sorted(files)))


def supported_range(series: Series) -> str:
    """Return the supported range as text for messages: `7.2 to 10.2.x`."""
    return f"{series.supported[0]} to {series.supported[-1]}.x"


def is_listed(series: Series, version: Version) -> bool:
    """Whether `version` is a release of a supported series, not a development tree or one in between."""
    return f"{version.major}.{version.minor}" in series.supported and version.micro < DEVELOPMENT


def check_supported(series: Series, version: Version) -> None:
    """Raise `SourceError` when `version` is outside the range from the first to the last supported series."""
    last = Version(series.supported[-1])
    newest = (last.major, last.minor, DEVELOPMENT)
    if version < Version(series.supported[0]) or (version.major, version.minor, version.micro) >= newest:
        raise SourceError(
            f"QEMU {version} is outside the supported range, {supported_range(series)}",
            "choose a QEMU in that range, for example --qemu distro; docs/series.md tells how to add a version",
        )


def select(series: Series, version: Version) -> tuple[tuple[Topic, Path], ...]:
    """Return the topics that QEMU `version` needs, in order, each with the file that fits it.

    Raises `PatchError` when a needed topic has files for later versions only.
    """
    chosen = []
    for topic in series.topics:
        if not topic.needed_for(version):
            continue
        path = topic.file_for(version)
        if path is None:
            first = topic.files[0][0]
            raise PatchError(
                f"topic {topic.name} has no patch for QEMU {version}: its first file is for {first}",
                f"add patches/{topic.name}/{version.major}.{version.minor}.patch",
            )
        chosen.append((topic, path))
    return tuple(chosen)
