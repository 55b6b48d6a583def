"""`patches list`: what applies to which QEMU, at a glance."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

from xenqemu.series.catalogue import check_supported, load_series
from xenqemu.series.model import Series
from xenqemu.versions import parse_version


@dataclass(frozen=True)
class ListedTopic:
    """One topic: `files` has, for each version of the listing, the file that applies (None: not needed)."""

    topic: str
    summary: str
    files: tuple[str | None, ...]


@dataclass(frozen=True)
class Listing:
    """The topics for `versions`."""

    versions: tuple[str, ...]
    rows: tuple[ListedTopic, ...]


def list_series(version: str | None, series: Series | None = None) -> Listing:
    """Return what applies to QEMU `version`, or to every supported one; with a version only the topics it needs.

    Raises `UsageError` for what is no version and `SourceError` for one outside the supported range.
    """
    series = series or load_series()
    if version is None:
        versions = tuple(Version(name) for name in series.supported)
    else:
        versions = (parse_version(version),)
        check_supported(series, versions[0])
    rows = []
    for topic in series.topics:
        needed = tuple(topic.file_for(entry) if topic.needed_for(entry) else None for entry in versions)
        if version is None or needed[0] is not None:
            rows.append(ListedTopic(topic.name, topic.summary, tuple(path.name if path else None for path in needed)))
    return Listing(tuple(str(entry) for entry in versions), tuple(rows))
