"""Source packages from the machine's own archive, by an apt configuration of xenqemu's own.

Nothing on the system is read but its configuration, nothing is changed, no root is needed. apt itself does the
work: the archive's signatures, the mirrors, proxies and credentials that the machine is set up with.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import MissingError, SourceError
from xenqemu.proc import Completed, run
from xenqemu.source.aptsources import Archive, Mirror, machine_archive
from xenqemu.source.download import settle
from xenqemu.source.verify import sha256_of
from xenqemu.state import StateDir, write_atomic
from xenqemu.ui import Ui

_HELPER = "/usr/lib/apt/apt-helper"
# What apt says of a suite that the archive does not have (over http, and in a folder), and we of somebody else's.
_ABSENT = re.compile(r"404|does not have a Release file|File not found|is an archive of")
# An index this young (seconds) is not asked for again, unless a refresh is.
_FRESH = 3600.0
# What is taken over of the machine's `Acquire` settings (apt.conf(5)): how to reach a server. Everything else there
# may weaken what is verified, or names what is fetched.
_CONNECTION = ("ftp", "http", "https", "socks5h", "tor", "forceipv4", "forceipv6", "enablesrvrecords", "by-hash")
_AGE = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
_FALSE = ("0", "no", "false", "without", "off", "disable")  # apt's StringToBool
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


class PrivateApt:
    """apt with folders of its own below `folder`, for one suite of one mirror.

    One of them that fails says nothing about the others, which one apt for all of them would.
    """

    def __init__(self, folder: Path, mirror: Mirror, suite: str) -> None:
        self._source = mirror.source(suite)
        key = hashlib.sha256(self._source.encode()).hexdigest()[:12]
        self.mirror = mirror
        self.suite = suite
        self.name = f"{suite}-{key}"
        self._folder = folder / self.name

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C"}

    def _configure(self) -> None:
        """Write the configuration: ours for folders and verification, the machine's for connections, and no hooks.

        A machine may allow unsigned archives for itself (`Acquire::AllowInsecureRepositories`; apt-secure(8)); what
        is recorded as verified must not come that way. An index that has expired is signed all the same, and a mirror
        frozen at a date serves nothing else: whether its age counts stays the machine's to say, and is recorded.
        """
        for name in ("lists/partial", "cache/archives/partial", "sources.list.d"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        top = self._folder
        ours = {
            "Dir::Etc::Parts": os.devnull,
            "Dir::Etc::Main": os.devnull,
            "Dir::Etc::SourceList": os.devnull,
            "Dir::Etc::SourceParts": f"{top}/sources.list.d/",
            "Dir::Etc::Preferences": os.devnull,
            "Dir::Etc::PreferencesParts": os.devnull,
            "Dir::State": f"{top}/",
            "Dir::State::Lists": f"{top}/lists/",
            "Dir::State::Status": f"{top}/status",
            "Dir::Cache": f"{top}/cache/",
            "Dir::Log": f"{top}/",
            "APT::Sandbox::User": "",  # root's apt would want the folders to be another user's
            "Acquire::Retries": "3",
            "Acquire::Languages": "none",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::AllowDowngradeToInsecureRepositories": "false",
            **dict.fromkeys(_AGE, "true"),
        }
        # Without the machine's apt.conf.d its hooks do not run, but its proxies and certificates are missing too.
        dump = run(("apt-config", "dump", "--format", "%F %v%n", "Acquire"), env={**os.environ, "LC_ALL": "C"})
        machine = []
        for line in dump.stdout.splitlines():
            name, _, value = line.partition(" ")
            # Names are compared without case (apt's Configuration::Lookup), and dumped as they were first written.
            section = name.lower().split("::")[1:2]
            # apt's configuration files have no way to write a quotation mark inside of a value.
            if value and section and section[0] in _CONNECTION and '"' not in value:
                machine.append(f'{name} "{value}";\n')
            for setting in _AGE:
                if name.lower() == setting.lower() and value.lower() in _FALSE:
                    ours[setting] = "false"
        text = "".join(machine) + "".join(f'{name} "{value}";\n' for name, value in ours.items())
        write_atomic(top / "apt.conf", text.encode())
        write_atomic(top / "status", b"")
        write_atomic(top / "sources.list.d" / "xenqemu.sources", self._source.encode())

    @property
    def aged(self) -> bool:
        """Whether an index that has expired was acceptable at the last update."""
        return f'{_AGE[0]} "false";' in (self._folder / "apt.conf").read_text()

    def update(self, origins: Collection[str], *, refresh: bool) -> str:
        """Bring the index up to date and return an empty string, or in a line why there is none.

        An index whose Release file names none of `origins` (in lower case) as its `Origin` is none.
        """
        stamp = self._folder / "updated"
        if not refresh and stamp.exists() and time.time() - stamp.stat().st_mtime < _FRESH:
            return self._foreign(origins)
        self._configure()
        done = run(
            ("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"), env=self._environment(), check=False
        )
        if not done.ok:
            return _complaint(done)
        write_atomic(stamp, b"")
        return self._foreign(origins)

    def _foreign(self, origins: Collection[str]) -> str:
        argv = ("apt-get", "indextargets", "--format", "$(ORIGIN)", "Created-By: Sources")
        named = set(run(argv, env=self._environment(), check=False).stdout.splitlines())
        if named and all(origin.lower() in origins for origin in named):
            return ""
        return f"{self.suite} is an archive of {', '.join(sorted(named)) or 'an unknown origin'}"

    def listed(self, package: str) -> list[Listed]:
        """Return the versions of the source package that the suite lists."""
        from debian.deb822 import Sources

        shown = run(
            ("apt-cache", "-q", "showsrc", "--only-source", package), env=self._environment(), check=False
        ).stdout
        found = Sources.iter_paragraphs(shown, use_apt_pkg=False)
        versions = dict.fromkeys(str(stanza["Version"]) for stanza in found if stanza.get("Package") == package)
        return [Listed(self.suite, version, upstream_version(version)) for version in versions]

    def download(self, package: str, version: str, state: StateDir) -> tuple[Path, str] | str:
        """Return the upstream tarball of the package and its SHA-256 (hexadecimal), or in a line why it cannot be had.

        `apt-get source --print-uris` names the file with the checksum of the signed index; apt-helper checks it,
        and goes on with a partial file.
        """
        argv = ("apt-get", "-q", "source", "--only-source", "--download-only", "--print-uris", f"{package}={version}")
        shown = run(argv, env=self._environment(), check=False)
        files = [match for match in _URI.finditer(shown.stdout) if re.search(r"\.orig\.tar\.\w+$", match["name"])]
        if not files:
            return _complaint(shown) if not shown.ok else "the index names no upstream tarball"
        file = files[0]
        path = state.downloads / file["sha256"] / file["name"]
        if _intact(path, file["sha256"], state):
            return path, file["sha256"]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        helper = (_HELPER, "-q", "download-file", file["uri"], str(part), f"SHA256:{file['sha256']}")
        done = run(helper, env=self._environment(), check=False)
        if not done.ok or not part.is_file():
            return _complaint(done)
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


def _complaint(done: Completed) -> str:
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("E:", "Err:", "W:"))]
    return lines[0].partition(":")[2].strip() if lines else f"`{shlex.join(done.argv[:3])}` failed without a reason"


def _require_apt() -> None:
    for program in ("apt-get", "apt-cache", "apt-config", _HELPER):
        if shutil.which(program) is None:
            raise MissingError(
                f"the machine's package archive cannot be asked: {program} is not installed",
                "name a tarball, a checkout or a git URL with --qemu instead",
            )


def _candidates(package: str, apts: Iterable[PrivateApt], wanted: Sequence[str]) -> list[tuple[PrivateApt, Listed]]:
    """Return what the suites list of the `wanted` series, newest first; of equals the machine's own suite first."""
    from debian.debian_support import NativeVersion

    found = [
        (apt, listed)
        for apt in apts
        for listed in apt.listed(package)
        if any(in_series(listed.version, series) for series in wanted)
    ]
    return sorted(found, key=lambda item: NativeVersion(item[1].package), reverse=True)


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

    Raises `MissingError` where there is no apt or no archive, `SourceError` when nothing fits or nothing comes.
    """
    wanted = (series,) if series else tuple(supported_series) or ("",)
    key = "_".join((package, *(name or "any" for name in wanted)))
    known = None if refresh else _remembered(state, key)
    if known is not None:
        return known
    _require_apt()
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


def _updated(archive: Archive, state: StateDir, ui: Ui, *, refresh: bool) -> tuple[list[PrivateApt], list[str]]:
    """Return an up-to-date apt for each suite that each mirror of the archive has, and for the others why not.

    A mirror is asked first for the suite that the machine is configured for, and for others only when that is the
    distribution's: a third party's server has none of them.
    """

    def update(apt: PrivateApt) -> str:
        with state.lock(f"apt-{apt.name}", ui):
            return apt.update(archive.origins, refresh=refresh)

    def updated(apts: list[PrivateApt]) -> list[PrivateApt]:
        with ThreadPoolExecutor(max_workers=4) as pool:
            answers = list(pool.map(update, apts))
        problems.extend(filter(None, answers))
        return [apt for apt, problem in zip(apts, answers, strict=True) if not problem]

    problems: list[str] = []
    own = updated([PrivateApt(state.apt, mirror, mirror.suite) for mirror in archive.mirrors])
    # Two configured suites of one place are one mirror here.
    places = {(apt.mirror.uri, apt.mirror.signed_by): apt.mirror for apt in own}
    known = {apt.name: apt for apt in own}
    more = [PrivateApt(state.apt, mirror, suite) for suite in archive.suites for mirror in places.values()]
    known |= {apt.name: apt for apt in updated([apt for apt in more if apt.name not in known])}
    ranks = {suite: rank for rank, suite in enumerate(archive.suites)}
    return sorted(known.values(), key=lambda apt: ranks.get(apt.suite, len(ranks))), problems


def _fetch(
    package: str, wanted: Sequence[str], archive: Archive, state: StateDir, ui: Ui, *, refresh: bool
) -> FetchedSource:
    apts, problems = _updated(archive, state, ui, refresh=refresh)
    if not apts:
        raise SourceError(
            f"the package archive cannot be read: {problems[0]}",
            "check the network and /etc/apt; or name a tarball, a checkout or a git URL with --qemu",
        )
    left_out = [problem for problem in problems if not _ABSENT.search(problem)]
    for problem in left_out:
        ui.warn(f"left out, as its index cannot be used: {problem}")
    tried: set[tuple[str, str]] = set()
    for apt, listed in _candidates(package, apts, wanted):
        if (apt.mirror.uri, listed.version) in tried:
            continue
        result = apt.download(package, listed.package, state)
        if not isinstance(result, str):
            return FetchedSource(result[0], listed.version, result[1], listed.suite, apt.aged)
        tried.add((apt.mirror.uri, listed.version))
        ui.warn(f"{package} {listed.version} is listed in {listed.suite} but cannot be had: {result}")
    asked = ", ".join(dict.fromkeys(apt.suite for apt in apts))
    what = f"{package} {' or '.join(filter(None, wanted))}".strip()
    if tried:
        raise SourceError(
            f"the package archive lists {what} but does not serve it", "try again later, or another series"
        )
    others = f"; {len(left_out)} could not be used, see above" if left_out else ""
    raise SourceError(
        f"the package archive has no {what} (asked: {asked}{others})", "name another series, or another source"
    )
