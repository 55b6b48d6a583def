"""Packages of the machine's archive with all that they depend on, unpacked without installing them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from xenqemu.archive.apt import Kind, PrivateApt, complaint, require_apt
from xenqemu.archive.mirrors import machine_archive
from xenqemu.errors import LabError, MissingError
from xenqemu.proc import run
from xenqemu.state import StateDir, publish
from xenqemu.ui import Ui

_ALTERNATIVE = "the lab needs a Debian with its package archive in /etc/apt"
# What apt-get says of each package in a simulation.
_INST = re.compile(r"^Inst (?P<name>\S+) \((?P<version>\S+) .*\[(?P<architecture>\S+)\]\)", re.MULTILINE)
_FILE = re.compile(r"^'file:(?://)?(?P<path>/[^']+)' (?P<name>\S+) ", re.MULTILINE)
# Folders that are links on an installed system, and real folders in packages made before /usr was merged.
_MERGED = ("bin", "sbin", "lib", "lib64")


@dataclass(frozen=True)
class Closure:
    """Packages that fit together, all of one suite: the files and the version of each by its name.

    Those files that are in the folder `ours` can be fetched again, others are the machine's own.
    """

    files: Mapping[str, Path]
    versions: Mapping[str, str]
    ours: Path


def fetch_closure(
    packages: Sequence[str], suites: Mapping[str, str], state: StateDir, ui: Ui, *, refresh: bool
) -> Closure:
    """Fetch `packages` and what they depend on (not what they recommend) from the archive's suite.

    `suites` names the suite for each family of distributions. apt verifies the files against the signed index. Raises
    `MissingError` where there is no such archive or no space, `LabError` when it does not have the packages.
    """
    require_apt(_ALTERNATIVE)
    try:
        archive = machine_archive()
    except MissingError as error:
        raise MissingError(error.message, _ALTERNATIVE) from error
    suite = next((suites[family] for family in sorted(suites) if family in archive.origins), None)
    if suite is None:
        raise MissingError("the lab knows no suite of this machine's distribution", _ALTERNATIVE)
    problems = []
    places = {(mirror.uri, mirror.signed_by): mirror for mirror in archive.mirrors}
    for mirror in places.values():
        apt = PrivateApt(state.apt, mirror, suite, Kind.BINARY)
        with state.lock(f"apt-{apt.name}", ui):
            problem = apt.update(archive.origins, refresh=refresh)
            found = problem or download_closure(apt, packages)
        if isinstance(found, Closure):
            return found
        problems.append(found)
    if "No space left" in problems[0]:
        raise MissingError(
            f"no space left for the virtual host's packages in {state.apt}", "free some, or use another --state-dir"
        )
    raise LabError(
        f"the package archive does not give what the virtual host is made of: {problems[0]}",
        "check the network and /etc/apt, then try again",
    )


def download_closure(apt: PrivateApt, packages: Sequence[str]) -> Closure | str:
    """Return the closure of `packages`, or in a line why it cannot be had; apt goes on where it was interrupted."""
    install = ("apt-get", "-q", "-y", "--no-install-recommends", "install", *packages)
    for how in ("--download-only", "--simulate"):
        done = apt.run(*install, how)
        if not done.ok:
            return complaint(done)
    found = [match.groupdict() for match in _INST.finditer(done.stdout)]
    # apt's name for a file has the version's colon quoted (pkgAcqArchive::QueueNext).
    names = {one["name"]: "{name}_{version}_{architecture}.deb".format_map(one).replace(":", "%3a") for one in found}
    files = {name: apt.downloads / file for name, file in names.items()}
    if not all(path.is_file() for path in files.values()):
        # What a mirror on this machine has is not copied.
        for match in _FILE.finditer(apt.run(*install, "--print-uris").stdout):
            files |= {name: Path(unquote(match["path"])) for name, file in names.items() if file == match["name"]}
    return Closure(files, {one["name"]: one["version"] for one in found}, apt.downloads)


class Unpacked:
    """The files of many packages, found by the path that they have on an installed system with /usr merged."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._files: dict[str, Path] = {}
        for folder in folders:
            for path in _walk(folder):
                self._files.setdefault(merged(str(path.relative_to(folder))), path)

    def below(self, files: Mapping[str, Path]) -> Unpacked:
        """Return these files with `files`, by their paths, laid over them."""
        result = Unpacked(())
        result._files = {**self._files, **files}
        return result

    def add(self, path: str, file: Path) -> None:
        """Add one that no package has."""
        self._files[path] = file

    def match(self, pattern: str) -> list[str]:
        """Return the paths that `pattern` (of fnmatch, `*` also over slashes) fits; LabError when there is none."""
        if pattern in self._files:
            return [pattern]
        found = fnmatch.filter(self._files, pattern)
        if not found:
            raise LabError(
                f"no package of the archive has {pattern}", "report it: the archive has moved what the lab uses"
            )
        return sorted(found)

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def __getitem__(self, path: str) -> Path:
        return self._files[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)


def merged(path: str) -> str:
    """Return where the relative `path` of a package is on a system with /usr merged."""
    return f"usr/{path}" if path.partition("/")[0] in _MERGED else path


def _walk(folder: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        for name in (*names, *(name for name in folders if Path(top, name).is_symlink())):
            yield Path(top, name)


def unpack(closure: Closure, folder: Path) -> Unpacked:
    """Unpack every package into a folder of its own below `folder`; no script of a package runs.

    Apart from one another, no package can lead the files of another astray by a link. Raises `MissingError` for one
    that is damaged, or where no space is left.
    """

    def one(item: tuple[str, Path]) -> Path:
        name, file = item
        target = folder / name
        target.mkdir()
        done = run(("dpkg-deb", "--extract", file, target), check=False)
        if not done.ok:
            if file.parent == closure.ours:
                file.unlink(missing_ok=True)  # or the next run would trip over it again
            raise MissingError(
                f"{file.name} cannot be unpacked: {done.stderr.strip()}",
                "try again; free some disk space where the state directory is",
            )
        return target

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return Unpacked(list(pool.map(one, closure.files.items())))


def make_of(closure: Closure, folder: Path, state: StateDir, assemble: Callable[[Unpacked, Path], None]) -> Path:
    """Have `assemble` make something of the packages' files in an empty folder, which becomes `folder`; return that.

    A `folder` that is there, which the caller has found damaged, gives way. Raises what `unpack` and `assemble` raise.
    """
    with state.scratch("packages") as scratch:
        packages, made = scratch / "packages", scratch / "made"
        packages.mkdir()
        made.mkdir()
        assemble(unpack(closure, packages), made)
        if folder.exists():
            folder.rename(scratch / "damaged")
        return publish(made, folder)
