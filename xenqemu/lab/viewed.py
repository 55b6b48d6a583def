"""What a VNC client is sent while the guest does something to its screen, and whether it then shows what it should."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from xenqemu.errors import LabError
from xenqemu.lab.host import Host
from xenqemu.lab.video import FrameSaid, as_exact_as, difference, picture_of, read_frame
from xenqemu.lab.viewer import Viewer

# A VNC server that had nothing to send looks at the screen every 3 s (VNC_REFRESH_INTERVAL_MAX in QEMU's ui/vnc.c).
_QUIET = 5.0
_DUMP = "/root/video-memory"
# Where the library that is between the device model and Xen (guests/vga/tracking.c) is told what to do, and tells what
# it has seen: a line of numbers, see there.
_MODE = "/run/xenqemu-tracking"
_SEEN = "/run/xenqemu-tracking.seen"
_MODES = ("on", "off", "blind")

# Has the guest carry out a line, and returns what tells what it has said: None until it is done.
Ask = Callable[[str], Callable[[], str | None]]


class Watched(Protocol):
    """A guest whose screen can be viewed."""

    def words(self) -> Mapping[str, str]:
        """Return what `{name}` and so on are at this moment."""

    def viewer(self) -> AbstractContextManager[Viewer]:
        """Enter what views the guest's screen. Raises `LabError`."""

    def note(self, figure: Mapping[str, Any]) -> None:
        """Take a figure that is worth being told with the guest's result."""


@dataclass(frozen=True)
class ViewedStep:
    """While the guest carries out `line` (empty: for `seconds`) a client is sent `least` to `most` of the frame.

    `least` and `most` are shares of what the whole frame takes, None for any. `tracking` says what the device model
    hears from Xen about pages that have changed: `on` what Xen says, `off` that it does not know, so that each may
    have, `blind` an error. Afterwards the client's picture is what the video memory has, unless `agrees` is False.
    The client goes away behind a step with `stays` False. One with `settles` False counts what is sent from the moment
    on that `tracking` holds. `situation` is its name. The time for all of it is `within` seconds.
    """

    situation: str
    line: str = ""
    tracking: str = "on"
    least: float | None = None
    most: float | None = None
    agrees: bool = True
    stays: bool = True
    settles: bool = True
    seconds: float = 10.0
    within: float = 300.0

    def __post_init__(self) -> None:
        if self.tracking not in _MODES:
            raise ValueError(f"tracking is one of {', '.join(_MODES)}, not {self.tracking}")

    def __str__(self) -> str:
        return f"{self.situation} (tracking {self.tracking})"


@dataclass(frozen=True)
class Figure:
    """What was measured in one situation: what the client was sent beside `frame`, the bytes of a whole frame.

    `asked` is how often the device model asked Xen, `pages` how many it had to look at then in the shown part of the
    memory, which has `of` pages. `cpu` is the time in seconds that its main thread has used.
    """

    situation: str
    screen: str
    tracking: str
    bytes: int
    rectangles: int
    updates: int
    frame: int
    asked: int
    pages: int
    of: int
    cpu: float


class Views:
    """The viewer of one guest, which stays from step to step for as long as the guest is the same domain."""

    def __init__(self, host: Host, session: Watched) -> None:
        self._host = host
        self._session = session
        self._stack = ExitStack()
        self._viewer: Viewer | None = None
        self._domid = ""
        # What the last step left: its tracking, if nothing was done since.
        self._settled = ""

    def disturb(self) -> None:
        """Know that the guest's screen may change from now on, or may have changed."""
        self._settled = ""

    def close(self) -> None:
        """End the connection, if there is one."""
        self._viewer = None
        self._stack.close()

    def take(self, step: ViewedStep, ask: Ask) -> None:
        """Take `step`; `ask` has the guest do something (see `Ask`).

        Raises `LabError` when something else comes of it than the step says.
        """
        deadline = time.monotonic() + step.within
        seen, used = self._seen(), self._used()
        self._host.write(_MODE, step.tracking.encode())
        viewer = self._connected(step, deadline)
        if step.settles and self._settled != step.tracking:
            # What the device model has not heard of yet it hears the next time it asks.
            viewer.watch(lambda: True, _QUIET, deadline - time.monotonic())
        if step.settles:
            seen, used = self._seen(), self._used()
        if step.line:
            said = ask(step.line)
            done: Callable[[], bool] = lambda: said() is not None  # noqa: E731
        else:
            until = time.monotonic() + step.seconds
            done = lambda: time.monotonic() > until  # noqa: E731
        traffic = viewer.watch(done, _QUIET, deadline - time.monotonic())
        asked, pages = (after - before for after, before in zip(self._seen(), seen, strict=True))
        used = self._used() - used
        frame = read_frame(self._answer(ask, "frame", deadline))
        screen = viewer.screen
        whole = 4 * screen.width * screen.height
        figure = Figure(
            situation=step.situation,
            screen=frame.name,
            tracking=step.tracking,
            bytes=traffic.size,
            rectangles=traffic.rectangles,
            updates=traffic.updates,
            frame=whole,
            asked=asked,
            pages=asked * frame.pages if step.tracking == "off" else pages,
            of=frame.pages,
            cpu=round(used, 3),
        )
        self._session.note(asdict(figure))
        _judge(step, traffic.size / whole)
        if step.agrees:
            self._compare(frame, viewer)
        self._settled = step.tracking
        if not step.stays:
            self.close()

    def _connected(self, step: ViewedStep, deadline: float) -> Viewer:
        domid = self._session.words()["domid"]
        if self._viewer is None or domid != self._domid:
            self.close()
            self._viewer, self._domid = self._stack.enter_context(self._session.viewer()), domid
            self._viewer.watch(lambda: True, _QUIET, deadline - time.monotonic())
            self._settled = step.tracking
        return self._viewer

    def _answer(self, ask: Ask, line: str, deadline: float) -> str:
        said = ask(line)
        while (answer := said()) is None:
            if time.monotonic() > deadline:
                raise LabError(f"the guest has not answered to `{line}`", "the run's folder has the guest's output")
            time.sleep(0.2)
        return answer

    def _compare(self, frame: FrameSaid, viewer: Viewer) -> None:
        # pmemsave reads guest-physical memory, as the device model knows it (qmp_pmemsave() in QEMU's system/cpus.c).
        command = f'pmemsave 0x{frame.address:x} {frame.memory} "{_DUMP}"'
        done = self._host.run(("xl", "qemu-monitor-command", self._session.words()["name"], command))
        if done.code:
            raise LabError(
                f"the device model does not save the video memory: {done.stderr.decode(errors='replace').strip()}",
                "look at its log",
            )
        memory = self._host.read(_DUMP, 0, frame.memory)
        self._host.run(("rm", "-f", _DUMP))
        if wrong := difference(as_exact_as(frame, viewer.screen), picture_of(frame, memory)):
            raise LabError(wrong, "the device model has not noticed that this memory was written to")

    def _seen(self) -> tuple[int, int]:
        """Return how often the device model has asked Xen, and how many pages of these were said to have changed."""
        with suppress(FileNotFoundError):
            numbers = self._host.read(_SEEN).split()
            if len(numbers) >= 2:
                return int(numbers[0]), int(numbers[1])
        return 0, 0

    def _used(self) -> float:
        """Return the processor time that the device model's main thread has used, in seconds."""
        with suppress(FileNotFoundError):
            found = re.match(rb"(\d+) ", self._host.read(f"/proc/{self._session.words()['pid']}/schedstat"))
            if found:
                return int(found[1]) / 1e9
        return 0.0


def _judge(step: ViewedStep, share: float) -> None:
    if step.most is not None and share > step.most:
        raise LabError(
            f"the client was sent {share:.2%} of a frame, more than {step.most:.2%}", "see the figures of the guest"
        )
    if step.least is not None and share < step.least:
        raise LabError(
            f"the client was sent {share:.2%} of a frame, less than {step.least:.2%}", "see the figures of the guest"
        )


def table(figures: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of a table of figures, as `Views.take` notes them."""
    columns = ("situation", "screen", "tracking", "bytes", "rectangles", "of a frame", "pages looked at", "processor")
    rows: list[tuple[str, ...]] = [
        (
            str(one["situation"]),
            str(one["screen"]),
            str(one["tracking"]),
            f"{one['bytes']:,}",
            str(one["rectangles"]),
            f"{one['bytes'] / one['frame']:.2%} of {one['frame']:,}",
            f"{one['pages']} of {one['asked']} x {one['of']}",
            f"{1000 * one['cpu']:.0f} ms",
        )
        for one in figures
    ]
    return columns, rows
