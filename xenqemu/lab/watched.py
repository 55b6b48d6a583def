"""A guest that was created, seen from dom0: what it writes, what it reads, how it lives, and its screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from socket import socket
from typing import Any

from xenqemu.errors import LabError
from xenqemu.lab import screen
from xenqemu.lab.domain import (
    Life,
    guest_lines,
    read_life,
    read_rollup,
    read_store,
    stub_domain,
    stub_terminals,
    terminals,
)
from xenqemu.lab.host import Host
from xenqemu.lab.result import Memory
from xenqemu.lab.screen import Screen
from xenqemu.lab.viewer import Viewer, view
from xenqemu.text import plain
from xenqemu.vm.guest import GuestView

LOGS = "/var/log/xen"
_OPEN_SECONDS = 2.0
_OPEN_POLL = 0.15
_FOLLOW_EVERY = 2.0
_SCREEN_SECONDS = 20.0
_READ_AT_ONCE = 1 << 16


class WatchedGuest:
    """The guest of `view` in `host`, domain `domid` at first; `since` is the time (monotonic) of its start.

    `files` are further words for its steps, `console_start` is how long the host's console was before it was created,
    `hears` is called with what it writes as it comes.
    """

    def __init__(
        self,
        host: Host,
        view: GuestView,
        domid: int,
        files: Mapping[str, str],
        console_start: int,
        hears: Callable[[str], None] | None = None,
    ) -> None:
        self.domid = domid
        self.pid = 0
        self.since = time.monotonic()
        self.text: dict[str, str] = {}
        self.store: Mapping[str, str] = {}
        self.life = Life()
        self.figures: list[Mapping[str, Any]] = []
        self.gone = 0  # how often its device model was found to have ended
        self._host = host
        self._view = view
        self._files = files
        self._hears = hears
        self._console_start = console_start
        self._sources: dict[str, str] = {}
        self._terminals: dict[str, str] = {}
        self._offsets: dict[str, int] = {}
        self._followed = 0.0

    # ---- what it writes and reads ----

    def listen(self) -> None:
        """Find where the guest writes, and have it written to files: a pseudo terminal that nobody reads loses it."""
        self.look_up()
        self.pid = int(self.store.get("image/device-model-pid") or 0)
        for number, port in enumerate(self._view.serial):
            if port.startswith("file:"):
                path = port.removeprefix("file:")
                self._sources["serial port" if number == 0 else f"serial port {number}"] = path
        self._terminals = self._found_terminals(self.store)
        for number, (port, tty) in enumerate(self._terminals.items()):
            path = f"{LOGS}/{self.domid}-{number}.text"
            self._host.start(("socat", "-u", f"OPEN:{tty},rdonly,noctty", f"OPEN:{path},creat,append"))
            self._sources[port] = path
        # Serial ports by number, then the PV console, which every domain has.
        self._sources = dict(sorted(self._sources.items(), key=lambda source: (source[0] == "console", source[0])))
        for path in self._sources.values():
            self._wait_for(path)

    def _found_terminals(self, store: Mapping[str, str]) -> dict[str, str]:
        """Return where the domain with this `store` writes, its stub domain's terminals included."""
        stub = stub_domain(store)
        return {**terminals(store), **(stub_terminals(self._stored(stub)) if stub else {})}

    def _wait_for(self, path: str) -> None:
        until = time.monotonic() + _OPEN_SECONDS
        while time.monotonic() < until:
            if self.read(path, 0) is not None:
                return
            time.sleep(_OPEN_POLL)

    def hear(self) -> dict[str, str]:
        """Return what was written so far, by port."""
        for port, path in self._sources.items():
            while new := self.read(path, self._offsets.get(path, 0)):
                self._offsets[path] = self._offsets.get(path, 0) + len(new)
                text = new.decode("utf-8", "replace")
                self.text[port] = self.text.get(port, "") + text
                if self._hears is not None:
                    self._hears(plain(text))
        return {port: self.text.get(port, "") for port in self._sources}

    def heard(self) -> str:
        """Return what the guest has written to its first port, as plain text."""
        if time.monotonic() - self._followed > _FOLLOW_EVERY:
            self._follow_domain()
        return plain(next(iter(self.hear().values()), ""))

    def say(self, line: str) -> None:
        """Write a line to the guest's first port. Raises `LabError` when it reads nowhere."""
        self._follow_domain()
        port = next(iter(self._sources), "")
        if port not in self._terminals:
            raise LabError("the guest reads nowhere", 'its config needs serial = "pty", or it is a PV guest')
        self._host.run(("socat", "-u", "-", f"OPEN:{self._terminals[port]},wronly,noctty"), stdin=line.encode() + b"\n")

    def words(self) -> dict[str, str]:
        """Return what the steps of its case can name."""
        self._follow_domain()
        return {
            **self._files,
            "name": self._view.name,
            "domid": str(self.domid),
            "pid": str(self.pid),
            **self._stub_words(),
        }

    def _stub_words(self) -> dict[str, str]:
        stub = stub_domain(self.store)
        return {"stub": str(stub)} if stub else {}

    def _follow_domain(self) -> None:
        """Look whether the guest has become another domain: after a reboot, a restore or a migration.

        That is so once it has what the old one had to write to: libxl gives it its name first.
        """
        self._followed = time.monotonic()
        domid = self.current_domid()
        if domid not in (0, self.domid) and self._found_terminals(self._stored(domid)).keys() >= self._terminals.keys():
            self.domid = domid
            self.listen()

    def current_domid(self) -> int:
        """Return the number of the domain of that name, 0 when there is none."""
        answer = self._host.run(("xl", "domid", self._view.name)).stdout.strip()
        return int(answer) if answer.isdigit() else 0

    # ---- how it lives ----

    def look(self, *, everything: bool) -> None:
        """Look at what xl has logged, whether the device model lives, and at its xenstore if `everything`."""
        log = self.read(f"{LOGS}/xl-{self._view.name}.log", 0) or b""
        self.life = read_life(log.decode(errors="replace"))
        if self.life.domid not in (0, self.domid):
            self.domid = self.life.domid
            self.listen()
        elif everything:
            self.look_up()
        if self.pid:
            stat = self.read(f"/proc/{self.pid}/stat", 0) or b""
            ended = stat.rpartition(b") ")[2][:1] in (b"", b"Z", b"X")
            self.gone = self.gone + 1 if ended else 0

    def look_up(self) -> None:
        """Read its part of xenstore."""
        self.store = self._stored(self.domid) or self.store

    def _stored(self, domid: int) -> dict[str, str]:
        listing = self._host.run(("xenstore-ls", "-f", f"/local/domain/{domid}"))
        return read_store(listing.stdout.decode(errors="replace"), domid)

    def xen_console(self) -> str:
        """Return what came on Xen's console since the guest was about to be created."""
        with self._host.console.open("rb") as file:
            file.seek(self._console_start)
            return file.read().decode("utf-8", "replace")

    def firmware(self) -> str:
        """Return what hvmloader and the firmware wrote on Xen's console."""
        return guest_lines(self.xen_console(), self.domid)

    def memory(self) -> Memory | None:
        """Return what its device model uses, None without one."""
        rollup = self.read(f"/proc/{self.pid}/smaps_rollup", 0) if self.pid else None
        return read_rollup(rollup.decode()) if rollup else None

    # ---- its screen ----

    def picture(self, password: str | None = None) -> Screen:
        """Return what its screen shows. Raises `LabError`."""
        with self._vnc() as stream:
            return screen.capture(stream, password=password or self._password, timeout=_SCREEN_SECONDS)

    @contextmanager
    def camera(self, password: str | None = None) -> Iterator[Callable[[], Screen]]:
        """Enter what takes pictures of the screen, one after another for the same client. Raises `LabError`."""
        with self._vnc() as stream:
            yield screen.connect(stream, password=password or self._password, timeout=_SCREEN_SECONDS).picture

    @contextmanager
    def viewer(self) -> Iterator[Viewer]:
        """Enter what views the screen and counts what it is sent. Raises `LabError`."""
        with self._vnc() as stream:
            yield view(stream, password=self._password, timeout=_SCREEN_SECONDS)

    def note(self, figure: Mapping[str, Any]) -> None:
        """Take a figure that is told with the guest's result."""
        self.figures.append(figure)

    def type(self, text: str, password: str | None = None) -> None:
        """Press the keys of `text`. Raises `LabError`."""
        with self._vnc() as stream:
            screen.connect(stream, password=password or self._password, timeout=_SCREEN_SECONDS).type(text)

    @property
    def _password(self) -> str | None:
        config = self._view.config
        return (config.text("vncpasswd") if config else None) or None

    @contextmanager
    def _vnc(self) -> Iterator[socket]:
        self._follow_domain()
        port = self.store.get("console/vnc-port") or str(5900 + self._view.vnc.display)
        listen = self.store.get("console/vnc-listen", "")
        address = listen if listen.startswith("127.") else "127.0.0.1"
        stream = self._host.stream(("socat", "-", f"TCP:{address}:{port}"))
        try:
            yield stream
        finally:
            stream.close()

    def read(self, path: str, offset: int) -> bytes | None:
        """Return a part of dom0's file `path`, None when there is no such file."""
        try:
            return self._host.read(path, offset, _READ_AT_ONCE)
        except FileNotFoundError:
            return None
