"""One guest in a running host: created by xl, watched until it has booted or will not, looked at, destroyed."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xenqemu.errors import LabError
from xenqemu.lab import reasons, steps
from xenqemu.lab.domain import created_domid, frontends, xen_lines
from xenqemu.lab.host import Host
from xenqemu.lab.model import DOM0_BRIDGE, DOM0_DISKS, HostError
from xenqemu.lab.result import GuestResult
from xenqemu.lab.screen import write_png
from xenqemu.lab.signs import Heard, Judge, Verdict
from xenqemu.lab.staging import StagedGuest
from xenqemu.lab.steps import Step
from xenqemu.lab.watched import LOGS, WatchedGuest

_POLL = 0.6
# Looking at more than what the guest writes takes programs in dom0, which share a processor with the guest.
_LOOK_EVERY = 2.0
_MOST_RESTARTS = 2


@dataclass(frozen=True)
class Wish:
    """What is wanted of a guest: to be up within `timeout` seconds, by the sign `expect` (a pattern; empty: any).

    `heard` is called with what the guest writes as it comes, `screenshot` gets a picture of its screen. Then all
    `steps` have to hold, for which `files` has words. `before` are programs that dom0 runs before there is a guest. One
    that is not `ephemeral` is left running for as long as its host.
    """

    timeout: float
    expect: str = ""
    screenshot: Path | None = None
    before: tuple[tuple[str, ...], ...] = ()
    steps: tuple[Step, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    heard: Callable[[str], None] | None = None
    ephemeral: bool = True


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
        self._result = replace(result, stem=self._stem)
        self._console_start = host.console.stat().st_size
        self._deadline = time.monotonic() + wish.timeout
        self._texts: dict[str, str] = {}

    def run(self) -> GuestResult:
        try:
            watched = self._create() if self._prepare() else None
            if watched is not None:
                self._follow(watched)
        finally:
            self._save("device-model", self._device_model_log())
        if self._result.booted:
            return self._result
        return self._result.explained_by(reasons.explained(self._result.reason, self._texts))

    def _prepare(self) -> bool:
        for argv in self._wish.before:
            done = self._host.run(argv)
            if done.code:
                said = "; ".join(reasons.last_lines((done.stdout + done.stderr).decode(errors="replace"), 2))
                self._result = replace(
                    self._result, reason=f"in dom0 `{' '.join(argv)}` ended with {done.code}: {said}"
                )
                return False
        return True

    def _create(self) -> WatchedGuest | None:
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
            shown = reasons.evidence(said, log)
            self._result = replace(self._result, reason=reasons.why_not_created(said, log), log=shown)
            return None
        self._result = replace(self._result, created=True, create_seconds=seconds)
        watched = WatchedGuest(
            self._host,
            self._guest.view,
            created_domid(said) or 0,
            self._wish.files,
            self._console_start,
            self._wish.heard,
        )
        watched.domid = watched.domid or watched.current_domid()
        watched.listen()
        self._host.run(("xl", "unpause", str(watched.domid)))
        watched.since = time.monotonic()
        return watched

    def _follow(self, watched: WatchedGuest) -> None:
        judge, looked = Judge(self._wish.expect), 0.0
        while True:
            text = watched.hear()
            if time.monotonic() - looked > _LOOK_EVERY:
                watched.look(everything=not self._wish.expect)
                looked = time.monotonic()
            heard = _heard(watched, text)
            verdict = judge.look(heard, last=time.monotonic() > self._deadline)
            if not verdict.decided:
                verdict = Verdict(reason=self._hopeless(watched, heard))
            if verdict.decided:
                return self._decide(watched, verdict)
            time.sleep(_POLL)

    def _hopeless(self, watched: WatchedGuest, heard: Heard) -> str:
        """Return why nothing more is to be expected, or nothing."""
        if watched.life.restarts > _MOST_RESTARTS:
            return "the guest restarts over and over"
        # A guest that shuts down takes it along, which xl may not have logged yet.
        if watched.gone > 1 and not heard.shutdown:
            return reasons.device_model_gone(self._device_model_log())
        if time.monotonic() > self._deadline:
            return reasons.why_silent(heard, self._wish.timeout, expect=self._wish.expect)
        return ""

    def _decide(self, watched: WatchedGuest, verdict: Verdict) -> None:
        seconds = time.monotonic() - watched.since
        reason = verdict.reason
        if reason.startswith("the domain shut down"):
            said = xen_lines(watched.xen_console(), watched.domid)
            reason += f": {reasons.last_lines(said, 1)[0]}" if said else ""
        self._result = replace(
            self._result,
            booted=bool(verdict.sign),
            sign=verdict.sign,
            reason=reason,
            boot_seconds=seconds if verdict.sign else None,
            memory=watched.memory(),
        )
        try:
            if verdict.sign:
                self._afterwards(watched)
        finally:
            if not self._result.booted:
                self._result = replace(self._result, log=reasons.last_lines(self._device_model_log()))
            self._save_text(watched)

    def _afterwards(self, watched: WatchedGuest) -> None:
        started = time.monotonic()
        try:
            if self._wish.screenshot is not None:
                self._take_screenshot(watched, self._wish.screenshot)
            steps.take(self._host, watched, self._wish.steps)
        except HostError:
            raise
        except LabError as error:
            self._result = replace(self._result, booted=False, reason=error.message)
        if self._wish.steps:
            self._result = replace(
                self._result, steps_seconds=time.monotonic() - started, figures=tuple(watched.figures)
            )

    def _take_screenshot(self, watched: WatchedGuest, path: Path) -> None:
        screen = watched.picture()
        try:
            write_png(screen, path)
            write_png(screen, self._logs / f"{self._stem}.png")  # `path` is overwritten by the next run
        except OSError as error:
            raise LabError(
                f"{path} cannot be written: {error.strerror}", "name another file with --screenshot"
            ) from error
        self._result = replace(self._result, screenshot=str(path))

    def _device_model_log(self) -> str:
        try:
            log = self._host.read(f"{LOGS}/qemu-dm-{self._guest.view.name}.log")
        except FileNotFoundError:
            return ""
        return log.decode(errors="replace")

    def _save_text(self, watched: WatchedGuest) -> None:
        watched.hear()
        for port, text in watched.text.items():
            self._save(port.replace(" ", "-"), text)
        self._save("firmware", watched.firmware())

    def _save(self, kind: str, text: str) -> None:
        self._texts[kind] = text
        if text:
            (self._logs / f"{self._stem}.{kind}.log").write_text(text, encoding="utf-8", errors="surrogateescape")


def _heard(watched: WatchedGuest, text: Mapping[str, str]) -> Heard:
    return Heard(
        seconds=time.monotonic() - watched.since,
        text=text,
        xen=watched.firmware(),
        frontends=frontends(watched.store),
        shutdown=watched.life.shutdown,
    )


def _unused_stem(logs: Path, name: str) -> str:
    """Return `name`, or `name-2` and so on where guests before had it."""
    stems = itertools.chain((name,), (f"{name}-{number}" for number in itertools.count(2)))
    return next(stem for stem in stems if not any(logs.glob(f"{stem}.*.log")))
