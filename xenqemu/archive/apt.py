"""The machine's own package archive, asked through an apt configuration of xenqemu's own.

Nothing on the system is read but its configuration, nothing is changed, no root is needed. apt itself does the
work: the archive's signatures, the mirrors, proxies and credentials that the machine is set up with.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
import shlex
import shutil
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xenqemu.archive.mirrors import Archive, Mirror
from xenqemu.errors import MissingError
from xenqemu.proc import Completed, run
from xenqemu.state import StateDir, write_atomic
from xenqemu.ui import Ui

APT_HELPER = "/usr/lib/apt/apt-helper"
# What apt says of a suite that the archive does not have (over http, and in a folder), and we of somebody else's.
_ABSENT = re.compile(r"404|does not have a Release file|File not found|is an archive of")
# An index this young (seconds) is not asked for again, unless a refresh is.
_FRESH = 3600.0
# What is taken over of the machine's `Acquire` settings (apt.conf(5)): how to reach a server. Everything else there
# may weaken what is verified, or names what is fetched.
_CONNECTION = ("ftp", "http", "https", "socks5h", "tor", "forceipv4", "forceipv6", "enablesrvrecords", "by-hash")
_AGE = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
_FALSE = ("0", "no", "false", "without", "off", "disable")  # apt's StringToBool


class Kind(enum.Enum):
    """A kind of packages, by its type in sources.list(5)."""

    SOURCE = "deb-src"
    BINARY = "deb"

    @property
    def index(self) -> str:
        """What apt calls the index of this kind (`Acquire::IndexTargets`)."""
        return "Sources" if self is Kind.SOURCE else "Packages"


class PrivateApt:
    """apt with folders of its own below `folder`, for one suite of one mirror and one kind of its packages.

    One of them that fails says nothing about the others, which one apt for all of them would.
    """

    def __init__(self, folder: Path, mirror: Mirror, suite: str, kind: Kind = Kind.SOURCE) -> None:
        self._source = mirror.source(suite, kind.value)
        self._kind = kind
        key = hashlib.sha256(self._source.encode()).hexdigest()[:12]
        self.mirror = mirror
        self.suite = suite
        self.name = f"{suite}-{key}"
        self._folder = folder / self.name

    def run(self, *argv: str) -> Completed:
        """Run a program of apt with this configuration to its end, whatever its exit code."""
        environment = {**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C"}
        return run(argv, env=environment, check=False)

    @property
    def downloads(self) -> Path:
        """The folder that apt puts binary packages into."""
        return self._folder / "cache" / "archives"

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
            # Xen's HVM guests exist on this architecture only; a machine's foreign ones need no index here.
            "APT::Architecture": "amd64",
            "APT::Architectures::": "amd64",
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
        done = self.run("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
        if not done.ok:
            return complaint(done)
        write_atomic(stamp, b"")
        return self._foreign(origins)

    def _foreign(self, origins: Collection[str]) -> str:
        done = self.run("apt-get", "indextargets", "--format", "$(ORIGIN)", f"Created-By: {self._kind.index}")
        named = set(done.stdout.splitlines())
        if named and all(origin.lower() in origins for origin in named):
            return ""
        return f"{self.suite} is an archive of {', '.join(sorted(named)) or 'an unknown origin'}"


def complaint(done: Completed) -> str:
    """Return in a line what apt gives as the reason of its failure."""
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("E:", "Err:", "W:"))]
    return lines[0].partition(":")[2].strip() if lines else f"`{shlex.join(done.argv[:3])}` failed without a reason"


def require_apt(alternative: str) -> None:
    """Raise `MissingError`, with `alternative` as what to do about it, where there is no apt."""
    for program in ("apt-get", "apt-cache", "apt-config", APT_HELPER):
        if shutil.which(program) is None:
            raise MissingError(
                f"the machine's package archive cannot be asked: {program} is not installed", alternative
            )


def is_absent(problem: str) -> bool:
    """Return whether `problem` (of `PrivateApt.update`) says that the archive does not have the suite at all."""
    return _ABSENT.search(problem) is not None


def updated_apts(archive: Archive, state: StateDir, ui: Ui, *, refresh: bool) -> tuple[list[PrivateApt], list[str]]:
    """Return an up-to-date apt for each suite that each mirror of the archive has, and for the others why not.

    They are of source packages. A mirror is asked first for the suite that the machine is configured for, and for
    others only when that is the distribution's: a third party's server has none of them.
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
