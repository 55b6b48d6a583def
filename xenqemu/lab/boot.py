"""One guest in a running host: created by xl, watched until it has booted or will not, looked at, destroyed."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xenqemu.errors import LabError
from xenqemu.lab import reasons
from xenqemu.lab.domain import (
    Life,
    created_domid,
    frontends,
    guest_lines,
    read_life,
    read_rollup,
    read_store,
    terminals,
    xen_lines,
)
from xenqemu.lab.host import Host
from xenqemu.lab.model import DOM0_BRIDGE, DOM0_DISKS, HostError
from xenqemu.lab.result import GuestResult, Memory
from xenqemu.lab.screen import capture, write_png
from xenqemu.lab.signs import Heard, Judge, Verdict, plain
from xenqemu.lab.staging import StagedGuest

_LOGS = "/var/log/xen"
_POLL = 0.6
# Looking at more than what the guest writes takes programs in dom0, which share a processor with the guest.
_LOOK_EVERY = 2.0
_OPEN_SECONDS = 2.0
_SCREENSHOT_SECONDS = 20.0
_CHECK_SECONDS = 60.0
_MOST_RESTARTS = 2
_READ_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Check:
    """What has to hold once a guest is up: `argv` run in dom0 says something that `expect` matches and exits with 0."""

    argv: tuple[str, ...]
    expect: str = ""


@dataclass(frozen=True)
class Wish:
    """What is wanted of a guest: to be up within `timeout` seconds, by the sign `expect` (a pattern; empty: any).

    `heard` is called with what the guest writes as it comes, `screenshot` gets a picture of its screen. A guest that
    is not `ephemeral` is left running for as long as its host.
    """

    timeout: float
    expect: str = ""
    screenshot: Path | None = None
    checks: tuple[Check, ...] = ()
    heard: Callable[[str], None] | None = None
    ephemeral: bool = True


@dataclass
class _Watched:
    """What is known of the guest that is being watched."""

    name: str
    started: float
    domid: int = 0
    pid: int = 0
    sources: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    store: Mapping[str, str] = field(default_factory=dict)
    life: Life = field(default_factory=Life)
    gone: int = 0  # how often its device model was found to have ended


def furnish(host: Host, guests: Sequence[StagedGuest], disks: Mapping[str, int]) -> None:
    """Make in dom0 what the guests expect there: folders, links to `disks` (their numbers by path), bridges.

    Raises `HostError`.
    """
    links = [link for guest in guests for link in guest.links]
    links += [(path, f"{DOM0_DISKS}/{number}") for path, number in disks.items()]
    folders = {folder for guest in guests for folder in guest.folders} | {str(Path(path).parent) for path, _ in links}
    _must(host, ("mkdir", "-p", "--", *sorted(folders)))
    if links:
        words = "".join(f"{target}\0{path}\0" for path, target in links)
        _must(host, ("xargs", "-0", "-n", "2", "ln", "-sfn", "--"), words.encode("utf-8", "surrogateescape"))
    for bridge in dict.fromkeys(bridge for guest in guests for bridge in guest.bridges):
        if bridge != DOM0_BRIDGE:
            _must(host, ("ip", "link", "add", bridge, "type", "bridge"))
            _must(host, ("ip", "link", "set", bridge, "up"))


def _must(host: Host, argv: tuple[str, ...], stdin: bytes = b"") -> None:
    done = host.run(argv, stdin=stdin)
    if done.code:
        raise HostError(
            f"in dom0 `{' '.join(argv[:6])}` failed: {done.stderr.decode(errors='replace').strip()}",
            "the run's folder has dom0's console log",
        )


def boot_guest(host: Host, guest: StagedGuest, wish: Wish, logs: Path) -> GuestResult:
    """Create `guest`, wait for a sign that it has booted, look at it, and return what came of it.

    `logs` is a folder for what was heard. Raises `HostError` when the host itself fails; what fails in the guest is
    in the result.
    """
    model = guest.device_model
    result = GuestResult(
        name=guest.view.name,
        config=str(guest.view.path),
        device_model=str(model.path) if model else "",
        notes=guest.notes,
    )
    return _Boot(host, guest, wish, logs, result).run()


class _Boot:
    def __init__(self, host: Host, guest: StagedGuest, wish: Wish, logs: Path, result: GuestResult) -> None:
        self._host = host
        self._guest = guest
        self._wish = wish
        self._logs = logs
        self._stem = _unused_stem(logs, re.sub(r"[^\w.-]", "_", guest.view.name))
        self._result = result
        self._console_start = host.console.stat().st_size
        self._deadline = time.monotonic() + wish.timeout

    def run(self) -> GuestResult:
        try:
            watched = self._create()
            if watched is not None:
                self._follow(watched)
        finally:
            self._save("device-model", self._device_model_log())
        return self._result

    def _create(self) -> _Watched | None:
        """Create the guest, paused so that nothing it writes is lost; None when that failed."""
        started = time.monotonic()
        job = self._host.start(("env", "-C", self._guest.folder, "xl", "-vvv", "create", "-p", self._guest.path))
        while (status := job.poll()).running:
            if time.monotonic() > self._deadline:
                job.kill()
                reason = reasons.why_not_created("", self._device_model_log(), self._wish.timeout)
                self._result = replace(self._result, reason=reason, log=reasons.last_lines(self._device_model_log()))
                return None
            time.sleep(_POLL / 2)
        seconds = time.monotonic() - started
        done = status.completed
        said = (done.stdout + done.stderr).decode(errors="replace") if done else ""
        self._save("xl", said)
        if done is None or done.code:
            log = self._device_model_log()
            self._result = replace(self._result, reason=reasons.why_not_created(said, log), log=reasons.last_lines(log))
            return None
        self._result = replace(self._result, created=True, create_seconds=seconds)
        watched = _Watched(self._guest.view.name, time.monotonic(), domid=created_domid(said) or self._ask_domid())
        self._listen(watched)
        self._host.run(("xl", "unpause", str(watched.domid)))
        watched.started = time.monotonic()
        return watched

    def _ask_domid(self) -> int:
        answer = self._host.run(("xl", "domid", self._guest.view.name)).stdout.strip()
        return int(answer) if answer.isdigit() else 0

    def _listen(self, watched: _Watched) -> None:
        """Find where the guest writes, and have it written to files: a pseudo terminal that nobody reads loses it."""
        self._look_up(watched)
        watched.pid = int(watched.store.get("image/device-model-pid") or 0)
        for number, port in enumerate(self._guest.view.serial):
            if port.startswith("file:"):
                path = port.removeprefix("file:")
                watched.sources["serial port" if number == 0 else f"serial port {number}"] = path
        for number, (port, tty) in enumerate(terminals(watched.store).items()):
            path = f"{_LOGS}/{watched.domid}-{number}.text"
            self._host.start(("socat", "-u", f"OPEN:{tty},rdonly,noctty", f"OPEN:{path},creat,append"))
            watched.sources[port] = path
        for path in watched.sources.values():
            self._wait_for(path)

    def _wait_for(self, path: str) -> None:
        until = time.monotonic() + _OPEN_SECONDS
        while time.monotonic() < until:
            if self._read(path, 0) is not None:
                return
            time.sleep(_POLL / 4)

    def _follow(self, watched: _Watched) -> None:
        judge, looked = Judge(self._wish.expect), 0.0
        while True:
            self._hear(watched)
            if time.monotonic() - looked > _LOOK_EVERY:
                self._look(watched)
                looked = time.monotonic()
            heard = self._heard(watched)
            verdict = judge.look(heard, last=time.monotonic() > self._deadline)
            if not verdict.decided:
                verdict = Verdict(reason=self._hopeless(watched, heard))
            if verdict.decided:
                return self._decide(watched, verdict)
            time.sleep(_POLL)

    def _hopeless(self, watched: _Watched, heard: Heard) -> str:
        """Return why nothing more is to be expected, or nothing."""
        if watched.life.restarts > _MOST_RESTARTS:
            return "the guest restarts over and over"
        # A guest that shuts down takes it along, which xl may not have logged yet.
        if watched.gone > 1 and not heard.shutdown:
            return reasons.device_model_gone(self._device_model_log())
        if time.monotonic() > self._deadline:
            return reasons.why_silent(heard, self._wish.timeout, expect=self._wish.expect)
        return ""

    def _decide(self, watched: _Watched, verdict: Verdict) -> None:
        seconds = time.monotonic() - watched.started
        reason = verdict.reason
        if reason.startswith("the domain shut down"):
            said = xen_lines(self._xen_console(), watched.domid)
            reason += f": {reasons.last_lines(said, 1)[0]}" if said else ""
        self._result = replace(
            self._result,
            booted=bool(verdict.sign),
            sign=verdict.sign,
            reason=reason,
            boot_seconds=seconds if verdict.sign else None,
            memory=self._memory(watched),
        )
        if verdict.sign:
            self._afterwards(watched)
        if not self._result.booted:
            self._result = replace(self._result, log=reasons.last_lines(self._device_model_log()))
        self._save_text(watched)

    def _afterwards(self, watched: _Watched) -> None:
        try:
            if self._wish.screenshot is not None:
                self._take_screenshot(watched, self._wish.screenshot)
            for check in self._wish.checks:
                self._check(check)
        except HostError:
            raise
        except LabError as error:
            self._result = replace(self._result, booted=False, reason=error.message)

    def _take_screenshot(self, watched: _Watched, path: Path) -> None:
        port = watched.store.get("console/vnc-port") or str(5900 + self._guest.view.vnc.display)
        config = self._guest.view.config
        password = config.text("vncpasswd") if config else None
        stream = self._host.stream(("socat", "-", f"TCP:127.0.0.1:{port}"))
        try:
            screen = capture(stream, password=password or None, timeout=_SCREENSHOT_SECONDS)
        finally:
            stream.close()
        try:
            write_png(screen, path)
        except OSError as error:
            raise LabError(
                f"{path} cannot be written: {error.strerror}", "name another file with --screenshot"
            ) from error
        self._result = replace(self._result, screenshot=str(path))

    def _check(self, check: Check) -> None:
        done = self._host.run(check.argv, timeout=_CHECK_SECONDS)
        said = (done.stdout + done.stderr).decode(errors="replace")
        if done.code or not re.search(check.expect, said):
            last = reasons.last_lines(said, 1)
            raise LabError(
                f"in dom0 `{' '.join(check.argv)}` ended with {done.code}: {last[0] if last else 'it said nothing'}",
                "the run's folder has the guest's output",
            )

    def _hear(self, watched: _Watched) -> None:
        for port, path in watched.sources.items():
            while new := self._read(path, watched.offsets.get(path, 0)):
                watched.offsets[path] = watched.offsets.get(path, 0) + len(new)
                text = new.decode("utf-8", "replace")
                watched.text[port] = watched.text.get(port, "") + text
                if self._wish.heard is not None:
                    self._wish.heard(plain(text))

    def _look(self, watched: _Watched) -> None:
        log = self._read(f"{_LOGS}/xl-{watched.name}.log", 0) or b""
        watched.life = read_life(log.decode(errors="replace"))
        restarted = watched.life.domid not in (0, watched.domid)
        if restarted:
            watched.domid = watched.life.domid
        if restarted:
            self._listen(watched)
        elif not self._wish.expect:
            self._look_up(watched)
        if watched.pid:
            stat = self._read(f"/proc/{watched.pid}/stat", 0) or b""
            ended = stat.rpartition(b") ")[2][:1] in (b"", b"Z", b"X")
            watched.gone = watched.gone + 1 if ended else 0

    def _look_up(self, watched: _Watched) -> None:
        listing = self._host.run(("xenstore-ls", "-f", f"/local/domain/{watched.domid}"))
        watched.store = read_store(listing.stdout.decode(errors="replace"), watched.domid) or watched.store

    def _heard(self, watched: _Watched) -> Heard:
        return Heard(
            seconds=time.monotonic() - watched.started,
            text={port: watched.text.get(port, "") for port in watched.sources},
            xen=guest_lines(self._xen_console(), watched.domid),
            frontends=frontends(watched.store),
            shutdown=watched.life.shutdown,
        )

    def _memory(self, watched: _Watched) -> Memory | None:
        rollup = self._read(f"/proc/{watched.pid}/smaps_rollup", 0) if watched.pid else None
        return read_rollup(rollup.decode()) if rollup else None

    def _xen_console(self) -> str:
        with self._host.console.open("rb") as file:
            file.seek(self._console_start)
            return file.read().decode("utf-8", "replace")

    def _device_model_log(self) -> str:
        log = self._read(f"{_LOGS}/qemu-dm-{self._guest.view.name}.log", 0)
        return (log or b"").decode(errors="replace")

    def _read(self, path: str, offset: int) -> bytes | None:
        try:
            return self._host.read(path, offset, _READ_AT_ONCE)
        except FileNotFoundError:
            return None

    def _save_text(self, watched: _Watched) -> None:
        for port, text in watched.text.items():
            self._save(port.replace(" ", "-"), text)
        self._save("firmware", self._heard(watched).xen)

    def _save(self, kind: str, text: str) -> None:
        if text:
            (self._logs / f"{self._stem}.{kind}.log").write_text(text, encoding="utf-8", errors="surrogateescape")


def _unused_stem(logs: Path, name: str) -> str:
    """Return `name`, or `name-2` and so on where guests before had it."""
    stems = itertools.chain((name,), (f"{name}-{number}" for number in itertools.count(2)))
    return next(stem for stem in stems if not any(logs.glob(f"{stem}.*.log")))
