"""Source packages from the machine's own archive."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xenqemu.archive.apt import APT_HELPER, PrivateApt, complaint, is_absent, require_apt, updated_apts
from xenqemu.archive.mirrors import Archive, Mirror, machine_archive
from xenqemu.errors import SourceError, UnservedError
from xenqemu.source.download import settle
from xenqemu.source.verify import sha256_of
from xenqemu.state import StateDir
from xenqemu.ui import Ui

_REMEMBERED = {"path", "version", "sha256", "suite", "aged"}
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<name>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class FetchedSource:
    """The upstream tarball of a source package: upstream `version`, checksum in the signed index of `suite`.

    `aged` says that the machine is set up to take an index of any age, as a mirror frozen at a date needs it.
    """

    path: Path
    version: str
    sha256: str
    suite: str
    aged: bool = False


@dataclass(frozen=True)
class Listed:
    """A source package that a suite lists: `package` is its Debian version, `version` the upstream one in that."""

    suite: str
    package: str
    version: str


def upstream_version(version: str) -> str:
    """Return the upstream part of a Debian version: `1:10.2.0~rc1+ds-2` is `10.2.0-rc1` (deb-version(7))."""
    upstream = version.partition(":")[2] if ":" in version else version
    upstream = upstream.rpartition("-")[0] if "-" in upstream else upstream
    return re.sub(r"\+(ds|dfsg|repack|really).*$", "", upstream).replace("~", "-")


def in_series(version: str, series: str) -> bool:
    """Return whether upstream `version` is of `series` (`10.2`; empty for any)."""
    return not series or version == series or version.startswith((f"{series}.", f"{series}-", f"{series}+"))


def _listed(apt: PrivateApt, package: str) -> list[Listed]:
    """Return the versions of the source package that the suite lists."""
    from debian.deb822 import Sources

    shown = apt.run("apt-cache", "-q", "showsrc", "--only-source", package).stdout
    found = Sources.iter_paragraphs(shown, use_apt_pkg=False)
    versions = dict.fromkeys(str(stanza["Version"]) for stanza in found if stanza.get("Package") == package)
    return [Listed(apt.suite, version, upstream_version(version)) for version in versions]


def _download(apt: PrivateApt, package: str, version: str, state: StateDir) -> tuple[Path, str] | str:
    """Return the upstream tarball of the package and its SHA-256 (hexadecimal), or in a line why it cannot be had.

    `apt-get source --print-uris` names the file with the checksum of the signed index; apt-helper checks it,
    and goes on with a partial file.
    """
    argv = ("apt-get", "-q", "source", "--only-source", "--download-only", "--print-uris", f"{package}={version}")
    shown = apt.run(*argv)
    files = [match for match in _URI.finditer(shown.stdout) if re.search(r"\.orig\.tar\.\w+$", match["name"])]
    if not files:
        return complaint(shown) if not shown.ok else "the index names no upstream tarball"
    file = files[0]
    path = state.downloads / file["sha256"] / file["name"]
    if _intact(path, file["sha256"], state):
        return path, file["sha256"]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    done = apt.run(APT_HELPER, "-q", "download-file", file["uri"], str(part), f"SHA256:{file['sha256']}")
    if not done.ok or not part.is_file():
        return complaint(done)
    if part.is_symlink():  # what apt makes of a file: URI
        copy = path.with_name(path.name + ".copy")
        shutil.copyfile(part, copy)
        copy.replace(part)
    settle(part, path)
    return path, file["sha256"]


def _intact(path: Path, sha256: str, state: StateDir) -> bool:
    """Return whether the file at `path` is there and has this checksum; one that is damaged is removed."""
    if not path.is_file():
        return False
    if sha256_of(path, state) == sha256:
        return True
    path.unlink()
    return False


def _candidates(package: str, apts: Iterable[PrivateApt], wanted: Sequence[str]) -> list[tuple[PrivateApt, Listed]]:
    """Return what the suites list of the `wanted` series, newest first; of equals the machine's own suite first."""
    from debian.debian_support import NativeVersion

    found = [
        (apt, listed)
        for apt in apts
        for listed in _listed(apt, package)
        if any(in_series(listed.version, series) for series in wanted)
    ]
    return sorted(found, key=lambda item: NativeVersion(item[1].package), reverse=True)


def listing_suites(
    package: str, series: str, state: StateDir, ui: Ui, *, archive: Archive | None = None
) -> tuple[tuple[Mirror, str], ...]:
    """Return where the archive (the machine's, unless given) lists the source package in a version of `series`.

    Each is a mirror and a suite, that with the newest version first. Raises `MissingError` where there is no archive.
    """
    archive = archive or machine_archive()
    with state.lock(f"apt-{package}", ui):
        apts, _ = updated_apts(archive, state, ui, refresh=False)
        return tuple((apt.mirror, apt.suite) for apt, _ in _candidates(package, apts, (series,)))


def fetch_source(
    package: str,
    series: str,
    state: StateDir,
    ui: Ui,
    *,
    supported_series: Sequence[str] = (),
    refresh: bool = False,
    archive: Archive | None = None,
) -> FetchedSource:
    """Fetch the upstream tarball of the source package, the newest of `series` that any suite of the archive serves.

    An empty `series` means the newest of `supported_series`, or of all when that is empty too. A listed version
    whose file is not served gives way to the next older one, with a warning. What was found is remembered and taken
    again without network, unless `refresh` is given. `archive` is the machine's unless given.

    Raises `MissingError` where there is no apt or no archive, `SourceError` when nothing fits, or `UnservedError` of
    these when nothing that fits comes.
    """
    wanted = (series,) if series else tuple(supported_series) or ("",)
    key = "_".join((package, *(name or "any" for name in wanted)))
    known = None if refresh else _remembered(state, key)
    if known is not None:
        return known
    require_apt("name a tarball, a checkout or a git URL with --qemu instead")
    archive = archive or machine_archive()
    with state.lock(f"apt-{package}", ui):
        known = None if refresh else _remembered(state, key)  # another run may have fetched it meanwhile
        if known is None:
            with ui.step(
                f"getting the source of {package} {series or 'in its newest version'} from the package archive"
            ):
                known = _fetch(package, wanted, archive, state, ui, refresh=refresh)
            facts = {"path": str(known.path.relative_to(state.root)), "version": known.version}
            state.remember("archive", key, {**facts, "sha256": known.sha256, "suite": known.suite, "aged": known.aged})
    return known


def _remembered(state: StateDir, key: str) -> FetchedSource | None:
    facts = state.recall("archive", key)
    # An older xenqemu remembered less: what it lacks is asked for again, or the origin would depend on who asked first.
    if facts is None or facts.keys() != _REMEMBERED or not _intact(state.root / facts["path"], facts["sha256"], state):
        return None
    return FetchedSource(state.root / facts["path"], facts["version"], facts["sha256"], facts["suite"], facts["aged"])


def _fetch(
    package: str, wanted: Sequence[str], archive: Archive, state: StateDir, ui: Ui, *, refresh: bool
) -> FetchedSource:
    apts, problems = updated_apts(archive, state, ui, refresh=refresh)
    if not apts:
        raise SourceError(
            f"the package archive cannot be read: {problems[0]}",
            "check the network and /etc/apt; or name a tarball, a checkout or a git URL with --qemu",
        )
    left_out = [problem for problem in problems if not is_absent(problem)]
    for problem in left_out:
        ui.warn(f"left out, as its index cannot be used: {problem}")
    tried: set[tuple[str, str]] = set()
    for apt, listed in _candidates(package, apts, wanted):
        if (apt.mirror.uri, listed.version) in tried:
            continue
        result = _download(apt, package, listed.package, state)
        if not isinstance(result, str):
            return FetchedSource(result[0], listed.version, result[1], listed.suite, apt.aged)
        tried.add((apt.mirror.uri, listed.version))
        ui.warn(f"{package} {listed.version} is listed in {listed.suite} but cannot be had: {result}")
    asked = ", ".join(dict.fromkeys(apt.suite for apt in apts))
    what = f"{package} {' or '.join(filter(None, wanted))}".strip()
    if tried:
        raise UnservedError(
            f"the package archive lists {what} but does not serve it", "try again later, or another series"
        )
    others = f"; {len(left_out)} could not be used, see above" if left_out else ""
    raise SourceError(
        f"the package archive has no {what} (asked: {asked}{others})", "name another series, or another source"
    )
