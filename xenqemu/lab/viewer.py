"""A VNC client that stays connected and counts what it is sent, as a person's viewer would be sent it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from xenqemu.errors import LabError
from xenqemu.lab.screen import Client, Frame, Screen, begins_update, connect, request, unbroken

_TICK = 0.2


@dataclass(frozen=True)
class Traffic:
    """What a VNC server has sent: the bytes of its updates of the screen, the rectangles in them, the updates."""

    size: int = 0
    rectangles: int = 0
    updates: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.size + other.size, self.rectangles + other.rectangles, self.updates + other.updates)


class Viewer:
    """A client that has asked for the whole screen once, and for changes ever since; `timeout` in seconds."""

    def __init__(self, client: Client, timeout: float) -> None:
        self._server = client.server
        self._timeout = timeout
        self._frame = Frame(*client.size)
        self._ask(changes=False)

    @property
    def screen(self) -> Screen:
        """The picture that the updates so far have made; what has not come is black."""
        return self._frame.screen()

    def watch(self, done: Callable[[], bool], quiet: float, within: float) -> Traffic:
        """Take updates until `done` says so and then nothing has come for `quiet` seconds; return what has come.

        Raises `LabError` when the server goes away, or it is not quiet `within` so many seconds.
        """
        traffic, finished = Traffic(), False
        deadline = time.monotonic() + within
        last = time.monotonic()
        while True:
            if self._waits(_TICK):
                traffic += self._take()
                last = time.monotonic()
            elif not finished:
                finished, last = done(), time.monotonic()
            elif time.monotonic() - last >= quiet and 1 not in self._frame.missing:
                return traffic
            if time.monotonic() > deadline:
                what = "does not stop sending" if finished else "has sent"
                raise LabError(
                    f"the VNC server {what}: {traffic.size} bytes in {within:.0f} s", "look at the device model's log"
                )

    def _waits(self, seconds: float) -> bool:
        with unbroken():
            return self._server.waits(seconds)

    def _take(self) -> Traffic:
        """Take one message, and ask for what comes behind it."""
        before = self._server.received
        self._server.allow(self._timeout)
        try:
            with unbroken():
                if not begins_update(self._server):
                    return Traffic()
                rectangles, resized = self._frame.take(self._server)
        except TimeoutError:
            raise LabError(
                f"half an update came from the VNC server, and no more within {self._timeout:.0f} s",
                "look at the device model's log",
            ) from None
        if resized is not None:
            self._frame = Frame(*resized)
        self._ask(changes=resized is None)
        return Traffic(self._server.received - before, rectangles, 1)

    def _ask(self, *, changes: bool) -> None:
        self._server.allow(self._timeout)
        try:
            with unbroken():
                self._server.send(request(self._frame.width, self._frame.height, changes=changes))
        except TimeoutError:
            raise LabError("the VNC server takes no request", "look at the device model's log") from None


def view(stream: socket.socket, *, password: str | None = None, timeout: float = 20.0) -> Viewer:
    """Return a viewer of the VNC server at the other end of `stream`, which the caller closes; raises as `connect`."""
    return Viewer(connect(stream, password=password, timeout=timeout), timeout)
