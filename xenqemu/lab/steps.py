"""What is done with a guest that has booted, and what has to come of it: the `steps` of a case, in order."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, Protocol

from xenqemu.errors import LabError
from xenqemu.lab import reasons
from xenqemu.lab.host import Host
from xenqemu.lab.screen import Screen
from xenqemu.lab.viewed import ViewedStep, Views, Watched

_SECONDS = 60.0
_POLL = 0.3
_AGAIN = 1.0
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# What the Linux guest's shell says behind a command, see guests/linux-init.sh; what runs in the background there can
# write into the same line.
_END = r"(?s)(?P<said>.*?)xenqemu-guest: end {number} (?P<code>\d+)\r?\n"


class Session(Watched, Protocol):
    """A guest that is up."""

    def heard(self) -> str:
        """Return all that the guest has written where it writes, as plain text."""

    def say(self, line: str) -> None:
        """Write a line to where the guest reads. Raises `LabError` when it reads nowhere."""

    def camera(self, password: str | None) -> AbstractContextManager[Callable[[], Screen]]:
        """Enter what takes pictures of the guest's screen as a VNC client. Raises `LabError`."""

    def type(self, text: str, password: str | None) -> None:
        """Press the keys of `text` on the guest's keyboard, by VNC. Raises `LabError`."""


@dataclass(frozen=True)
class Dom0Step:
    """`argv` run in dom0 ends with `code` within so many seconds and says what `expect` matches; `again`: at last."""

    argv: tuple[str, ...]
    expect: str = ""
    code: int = 0
    within: float = _SECONDS
    again: bool = False

    def __str__(self) -> str:
        return f"in dom0 `{' '.join(self.argv)}`"


@dataclass(frozen=True)
class GuestStep:
    """`line` in the Linux guest's shell ends with `code` within so many seconds and says what `expect` matches."""

    line: str
    expect: str = ""
    code: int = 0
    within: float = _SECONDS
    again: bool = False

    def __str__(self) -> str:
        return f"in the guest `{self.line}`"


@dataclass(frozen=True)
class HearsStep:
    """The guest writes something that `pattern` matches within so many seconds, since the step before began."""

    pattern: str
    within: float = _SECONDS

    def __str__(self) -> str:
        return f"the guest is to say /{self.pattern}/"


@dataclass(frozen=True)
class TypesStep:
    """`text` is typed on the guest's keyboard, by VNC with `password` (None: that of its config)."""

    text: str
    password: str | None = None

    def __str__(self) -> str:
        return f"typing {self.text!r}"


@dataclass(frozen=True)
class PictureStep:
    """A VNC client with `password` (None: that of its config) sees so many colours within so many seconds."""

    colours: int
    password: str | None = None
    within: float = 20.0

    def __str__(self) -> str:
        return "a picture of the screen"


Step = Dom0Step | GuestStep | HearsStep | TypesStep | PictureStep | ViewedStep


def read_step(table: Mapping[str, Any]) -> Step:
    """Return the step that `table` of a case says. Raises `ValueError` for an unknown one."""
    words = dict(table)
    match words:
        case {"viewed": situation}:
            del words["viewed"]
            return ViewedStep(situation, words.pop("guest", ""), **words)
        case {"dom0": argv}:
            del words["dom0"]
            return Dom0Step(tuple(argv), **words)
        case {"guest": line}:
            del words["guest"]
            return GuestStep(line, **words)
        case {"hears": pattern}:
            del words["hears"]
            return HearsStep(pattern, **words)
        case {"types": text}:
            del words["types"]
            return TypesStep(text, **words)
        case {"picture": colours}:
            del words["picture"]
            return PictureStep(colours, **words)
    raise ValueError(f"a step has one of dom0, guest, hears, types, picture and viewed, not {', '.join(words)}")


def take(host: Host, session: Session, steps: Sequence[Step]) -> None:
    """Take all `steps` in order. Raises `LabError` that names the first of which something else came."""
    runner = _Runner(host, session)
    with closing(runner.views):
        for number, step in enumerate(steps, 1):
            try:
                runner.take(step, number)
            except LabError as error:
                if type(error) is not LabError:
                    raise
                raise LabError(f"step {number}, {step}: {error.message}", error.hint) from error


class _Runner:
    def __init__(self, host: Host, session: Session) -> None:
        self._host = host
        self._session = session
        self.views = Views(host, session)
        self._asked = 0
        self._mark = 0

    def take(self, step: Step, number: int) -> None:
        mark = len(self._session.heard())
        if not isinstance(step, ViewedStep):
            self.views.disturb()
        match step:
            case Dom0Step():
                self._until(step, lambda left: self._in_dom0(step, left))
            case GuestStep():
                self._until(step, lambda left: self._in_guest(step, left))
            case HearsStep():
                self._hear(step.pattern, self._mark, step.within)
            case TypesStep():
                self._session.type(step.text, step.password)
            case PictureStep():
                self._see(step)
            case ViewedStep():
                self.views.take(step, self._ask)
        self._mark = mark

    def _until(self, step: Dom0Step | GuestStep, attempt: Callable[[float], str]) -> None:
        """Make the attempt, which returns what was wrong, until it succeeds or time is up; once unless `again`."""
        deadline = time.monotonic() + step.within
        while problem := attempt(deadline - time.monotonic()):
            if not step.again or time.monotonic() + _AGAIN > deadline:
                raise LabError(problem, "the run's folder has the guest's output")
            time.sleep(_AGAIN)

    def _in_dom0(self, step: Dom0Step, left: float) -> str:
        try:
            job = self._host.start(tuple(self._filled(word) for word in step.argv))
        except FileNotFoundError as error:
            return str(error)
        deadline = time.monotonic() + left
        while (status := job.poll()).running:
            if time.monotonic() > deadline:
                job.kill()
                return f"it did not end within {step.within:.0f} s"
            time.sleep(_POLL / 2)
        done = status.completed
        if done is None:
            return "it vanished"
        return self._judged(step, done.code, (done.stdout + done.stderr).decode(errors="replace"))

    def _ask(self, line: str) -> Callable[[], str | None]:
        """Have the guest carry out `line`; return what tells what it said, None until it is done."""
        start = self._say(line)
        ends = re.compile(_END.format(number=self._asked))

        def said() -> str | None:
            answer = ends.search(self._session.heard(), start)
            if answer and answer["code"] != "0":
                raise LabError(f"the guest's `{line}` ended with {answer['code']}", "the run's folder has its output")
            return answer["said"] if answer else None

        return said

    def _say(self, line: str) -> int:
        """Have the guest carry out `line`; return how much it had said before."""
        self._asked += 1
        start = len(self._session.heard())
        self._session.say(f"{self._asked} {self._filled(line)}")
        return start

    def _in_guest(self, step: GuestStep, left: float) -> str:
        start = self._say(step.line)
        answer = self._hear(_END.format(number=self._asked), start, left)
        return self._judged(step, int(answer["code"]), answer["said"])

    def _judged(self, step: Dom0Step | GuestStep, code: int, said: str) -> str:
        """Return what is wrong with what a command has said, or nothing."""
        if code == step.code and re.search(self._filled(step.expect, quoted=True), said):
            return ""
        last = "; ".join(reasons.last_lines(said, 2)) or "it said nothing"
        return f"it ended with {code}: {last}" if code != step.code else f"it said other than expected: {last}"

    def _hear(self, pattern: str, start: int, within: float) -> re.Match[str]:
        wanted = re.compile(self._filled(pattern, quoted=True))
        deadline = time.monotonic() + within
        while True:
            text = self._session.heard()
            if match := wanted.search(text, start):
                return match
            if time.monotonic() > deadline:
                last = "; ".join(reasons.last_lines(text[start:], 2))
                raise LabError(
                    f"nothing came within {within:.0f} s" + (f", but: {last}" if last else ""),
                    "the run's folder has the guest's output",
                )
            time.sleep(_POLL)

    def _see(self, step: PictureStep) -> None:
        # A device model draws for those who look: what a client gets first can be the screen of before.
        deadline = time.monotonic() + step.within
        with self._session.camera(step.password) as picture:
            while True:
                screen = picture()
                pixels = memoryview(screen.rgb)
                colours = len({bytes(pixels[start : start + 3]) for start in range(0, len(pixels), 3)})
                if colours >= step.colours:
                    return
                if time.monotonic() > deadline:
                    raise LabError(
                        f"{screen.width} by {screen.height} with {colours} colours, and not {step.colours} or more",
                        "`xenqemu lab boot --screenshot` shows it",
                    )
                time.sleep(_AGAIN)

    def _filled(self, text: str, *, quoted: bool = False) -> str:
        """Return `text` with the session's words for their names; as patterns that match just these if `quoted`."""
        words = self._session.words() if "{" in text else {}

        def word(match: re.Match[str]) -> str:
            if match[1] not in words:
                return match[0]
            return re.escape(words[match[1]]) if quoted else words[match[1]]

        return _PLACEHOLDER.sub(word, text)
