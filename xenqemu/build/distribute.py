"""Compiles on other machines: which hosts there are and whether they serve, how many jobs, and which one was lost.

The engines do the work (distcc, icecream); what is not theirs is to find out beforehand what a host is good for. A
host with another compiler would make another object of the same source, and distcc does not ask.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.build.launcher import engine_of
from xenqemu.build.model import Compiler, Offload
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import UsageError
from xenqemu.proc import run
from xenqemu.state import StateDir
from xenqemu.ui import Ui

DISTCC, ICECC = "distcc", "icecc"
_DISTCC_SLOTS = 4  # distcc's own number for a host without one
_DISTCC_PORT = 3632
_PROBE_SECONDS = "10"
_PROBE = b"int probe(int number) { return 3 * number; }\n"
_SCHEDULER_PORT = 8765
_MAKER = re.compile(rb"(?:GCC: |[^\0]*clang version )[^\0]+")
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:/(?P<slots>\d{1,4}))?"
)
_NODE = re.compile(r"^ (?P<name>\S+) \((?P<address>\S+):(?P<port>\d+)\) .*\bjobs=\d+/(?P<slots>\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Host:
    """A machine that takes `slots` compiles at once; `address` is its name, with the port where one was given."""

    address: str
    slots: int

    def __str__(self) -> str:
        """Return the host as distcc takes it."""
        return f"{self.address}/{self.slots}"


@dataclass(frozen=True)
class Distribution:
    """How the compile runs: its environment, the number of jobs (None: ninja's), and the engine where one is used.

    `names` has the name of a host by its numeric address and port (`192.0.2.1:3632`), which is all that distcc tells of
    one that it does not reach.
    """

    environment: Mapping[str, str]
    jobs: int | None = None
    engine: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


def parse_hosts(text: str) -> tuple[Host, ...]:
    """Return the hosts of a list like `red/8,green:3633/4,[fd00::1]`; raises `UsageError`."""
    hosts = []
    for word in re.split(r"[,\s]+", text.strip()):
        match = _HOST.fullmatch(word)
        if not match or int(match["slots"] or _DISTCC_SLOTS) == 0:
            raise UsageError(
                f"'{word}' in the hosts '{text}' is none",
                "name them as HOST[:PORT][/JOBS],...; for more, set DISTCC_HOSTS and take --distribute distcc",
            )
        port = f":{match['port']}" if match["port"] else ""
        hosts.append(Host(f"{match['name']}{port}", int(match["slots"] or _DISTCC_SLOTS)))
    if len({host.address for host in hosts}) < len(hosts):
        raise UsageError(f"a host is named twice in '{text}'", "name it once, with the number of its jobs: HOST/8")
    return tuple(hosts)


def check_hosts(offload: Offload) -> None:
    """Raise `UsageError` for hosts that are none: better before the sources are fetched."""
    if engine_of(offload) and offload.hosts:
        hosts = parse_hosts(offload.hosts)
        if engine_of(offload) == ICECC and len(hosts) > 1:
            raise UsageError(
                "icecream has one scheduler, which knows the hosts", "name it alone as --hosts, or nothing"
            )


def local_environment(offload: Offload) -> Mapping[str, str]:
    """Return the variables that keep compiles on this machine."""
    engine = engine_of(offload)
    return load_recipe().launchers[engine].local if engine else {}


def distribute(
    compiler: Compiler, offload: Offload, work: Path, environment: Mapping[str, str], state: StateDir, ui: Ui
) -> Distribution:
    """Return how a compile in the folder `work` with the given `environment` is handed to other machines.

    distcc's hosts are tried first, with a small compile each: one that does not answer, or whose compiler makes another
    object than the one here, is told to `ui` and left out. With none left everything is compiled here.
    """
    engine = engine_of(offload)
    if engine is None:
        return Distribution(environment)
    launcher = load_recipe().launchers[engine]
    result = {launcher.log: str(work / f"{engine}.log"), **launcher.environment, **environment}
    jobs = _use_distcc(compiler, offload, result, state, ui) if engine == DISTCC else _use_icecc(offload, ui)
    if jobs is None:
        return Distribution({**environment, **local_environment(offload)})
    for name in compiler.launchers:
        prefix = load_recipe().launchers[name].prefix
        if prefix:
            result[prefix] = engine
    return Distribution(
        result, jobs, engine, _names(result["DISTCC_HOSTS"]) if engine == DISTCC and offload.hosts else {}
    )


def _names(hosts: str) -> Mapping[str, str]:
    """Return the names of distcc's hosts by their numeric addresses, which dcc_connect_by_addr (clinet.c) logs."""
    names = {}
    for word in filter(_HOST.fullmatch, hosts.split()):
        name, port = _endpoint(word, _DISTCC_PORT)
        with suppress(OSError):  # then it is told by its address
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            names.update({":".join(map(str, address[:2])): word.rpartition("/")[0] for *_, address in found})
    return names


def _endpoint(text: str, port: int) -> tuple[str, int]:
    """Return the host and the port that `text` names, `port` where it names none; what is no host stays as it is."""
    match = _HOST.fullmatch(text)
    return (match["name"].strip("[]"), int(match["port"] or port)) if match else (text, port)


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _use_distcc(
    compiler: Compiler, offload: Offload, environment: dict[str, str], state: StateDir, ui: Ui
) -> int | None:
    """Set distcc's hosts in `environment`; return the number of jobs, None without a host."""
    if not offload.hosts:  # those of its own settings, which it alone understands
        said = run((DISTCC, "-j"), env=environment, check=False).stdout.strip()
        if not said.isdigit():
            ui.warn("distcc knows no hosts; compiling here (--hosts names some)")
            return None
        ui.note(f"compiling on distcc's hosts, {said} at once")
        return int(said) + _processors()
    hosts = _serving(parse_hosts(offload.hosts), compiler, environment, state, ui)
    if not hosts:
        ui.warn("none of the hosts is left; compiling here")
        return None
    here = _processors()
    limits = f"--localslots={here} --localslots_cpp={here}"
    environment["DISTCC_HOSTS"] = " ".join((limits, *map(str, hosts)))
    slots = sum(host.slots for host in hosts)
    ui.note(f"compiling on {', '.join(host.address for host in hosts)}, {slots} at once")
    return slots + here


def _serving(
    hosts: Sequence[Host], compiler: Compiler, environment: Mapping[str, str], state: StateDir, ui: Ui
) -> tuple[Host, ...]:
    """Return those of `hosts` that compile as this machine does."""
    with state.scratch("probe") as folder:
        (folder / "probe.c").write_bytes(_PROBE)

        def compiled(name: str, *argv: str, **variables: str) -> tuple[bytes, str]:
            env = {**environment, **variables}
            done = run((*argv, "-O2", "-c", "probe.c", "-o", name), cwd=folder, env=env, check=False)
            return ((folder / name).read_bytes() if done.ok else b""), done.stderr

        expected, _ = compiled("here.o", *compiler.command)

        def problem(host: Host) -> str:
            log = folder / f"{host.address}.log"
            made, _ = compiled(
                f"{host.address}.o",
                DISTCC,
                *compiler.command,
                DISTCC_HOSTS=str(host),
                DISTCC_FALLBACK="0",
                DISTCC_BACKOFF_PERIOD="0",
                DISTCC_IO_TIMEOUT=_PROBE_SECONDS,
                DISTCC_LOG=str(log),
            )
            if made == expected:
                return ""
            if made:
                return f"has another compiler ({_maker(made)}; here: {_maker(expected)})"
            errors = re.findall(r"ERROR: (.+)", log.read_text(errors="replace")) if log.exists() else []
            return f"does not compile ({errors[0] if errors else 'it said nothing'})"

        with ThreadPoolExecutor(max_workers=16) as pool:
            problems = list(pool.map(problem, hosts))
    for host, what in zip(hosts, problems, strict=True):
        if what:
            ui.warn(f"the host {host.address} {what}; going on without it")
    return tuple(host for host, what in zip(hosts, problems, strict=True) if not what)


def _maker(content: bytes) -> str:
    """Return what the compiler wrote about itself into an object (its section .comment)."""
    match = _MAKER.search(content)
    return match[0].decode("utf-8", "replace").strip() if match else "unknown"


def _use_icecc(offload: Offload, ui: Ui) -> int:
    """Return the number of jobs.

    Its scheduler, where it was named, knows the hosts and how much each takes (`listcs` on the port above its own).
    """
    here = _processors()
    slots = 2 * here
    if offload.hosts:
        try:
            nodes = _NODE.findall(_ask_scheduler(offload.hosts))
        except OSError as error:
            ui.warn(f"icecream's scheduler {offload.hosts} does not answer ({error.strerror or error})")
        else:
            # A node without a port sends compiles and takes none: --no-remote.
            takes = [(name, int(jobs)) for name, _, port, jobs in nodes if port != "0"]
            slots = sum(jobs for _, jobs in takes)
            ui.note(f"compiling on {', '.join(name for name, _ in takes) or 'no other host'}, {slots} at once")
    return slots + here


def _ask_scheduler(name: str) -> str:
    host, port = _endpoint(name, _SCHEDULER_PORT)
    with socket.create_connection((host, port + 1), timeout=5) as connection:
        connection.sendall(b"listcs\nquit\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode("utf-8", "replace")


class LostHosts:
    """Follows an engine's log while it works, and tells of each host that fails, once."""

    def __init__(self, distribution: Distribution, ui: Ui) -> None:
        self._ui = ui
        self._told: set[str] = set()
        self._names = distribution.names
        self._file: Path | None = None
        if distribution.engine:
            launcher = load_recipe().launchers[distribution.engine]
            self._file = Path(distribution.environment[launcher.log])
            self._lost = re.compile(launcher.lost)
        self._position = self._size()

    def _size(self) -> int:
        try:
            return self._file.stat().st_size if self._file else 0
        except OSError:
            return 0

    def look(self) -> None:
        """Read what was logged since the last look."""
        if self._file is None or self._size() <= self._position:
            return
        with self._file.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        for match in self._lost.finditer(whole.decode("utf-8", "replace")):
            found = match.groupdict()
            address = (found.get("address") or "").replace("[", "").replace("]", "")
            host = found.get("host") or found.get("other") or self._names.get(address, address)
            if host not in self._told:
                self._told.add(host)
                who = f"the host {host} fails" if host else f"a host of icecream's fails ({found['reason']})"
                self._ui.warn(f"{who}; what it was to compile is compiled on another, or here")
