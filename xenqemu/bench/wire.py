"""Two protocols of an emulator, as far as marks need them: QMP, and gdb's remote protocol with one breakpoint."""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from pathlib import Path
from typing import IO, Any

from xenqemu.errors import LabError

_PAUSE = 0.05


class WireError(LabError):
    """The emulator has closed the connection, or said what cannot be understood."""


def connect(path: Path, timeout: float) -> socket.socket:
    """Return a connection to the socket `path`, waiting `timeout` seconds at most for somebody to listen there.

    Raises `WireError`.
    """
    deadline = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                raise WireError(f"nobody listens at {path}: {error.strerror}") from error
            time.sleep(_PAUSE)
        else:
            return connection


class Qmp:
    """QEMU's monitor behind a connection; one command at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._events: deque[str] = deque()
        self._line()  # the greeting
        self.ask("qmp_capabilities")

    def ask(self, command: str) -> Any:
        """Return the answer to a command without arguments. Raises `WireError`."""
        try:
            self._connection.sendall(json.dumps({"execute": command}).encode() + b"\n")
        except OSError as error:
            raise WireError(f"the emulator does not listen: {error}") from error
        while True:
            answer = self._line()
            if "event" in answer:
                self._events.append(str(answer["event"]))
            elif "return" in answer:
                return answer["return"]
            else:
                raise WireError(f"the emulator refuses {command}: {answer.get('error')}")

    def wait_for(self, event: str) -> None:
        """Wait for an event of that name; others are forgotten. Raises `WireError` when none can come any more."""
        while True:
            while self._events:
                if self._events.popleft() == event:
                    return
            answer = self._line()
            if "event" in answer:
                self._events.append(str(answer["event"]))

    def _line(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
            answer = json.loads(line) if line else None
        except (OSError, ValueError) as error:
            raise WireError(f"the emulator's monitor cannot be understood: {error}") from error
        if not isinstance(answer, dict):
            raise WireError("the emulator has closed its monitor")
        return answer


def packet(text: str) -> bytes:
    """Return `text` as a packet of gdb's remote protocol."""
    data = text.encode("ascii")
    return b"$%s#%02x" % (data, sum(data) % 256)


def read_packet(stream: IO[bytes]) -> str:
    """Return the text of the next packet in `stream`, acknowledgements before it are left out. Raises `WireError`."""
    while (byte := stream.read(1)) != b"$":
        if not byte:
            raise WireError("the emulator has closed gdb's connection")
    data = b""
    while (byte := stream.read(1)) != b"#":
        if not byte:
            raise WireError("the emulator has closed gdb's connection")
        data += byte
    checksum = stream.read(2)
    if checksum.lower() != b"%02x" % (sum(data) % 256):
        raise WireError(f"a packet of gdb's with a wrong checksum: {data!r}")
    return data.decode("ascii", "backslashreplace")


class Debugger:
    """QEMU's gdbstub behind a connection. The machine stands still for it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")

    def ask(self, text: str) -> str:
        """Return the answer to a packet. Raises `WireError`."""
        try:
            self._connection.sendall(packet(text))
            answer = read_packet(self._stream)
            self._connection.sendall(b"+")
        except OSError as error:
            raise WireError(f"the emulator does not listen: {error}") from error
        return answer

    def run_to(self, address: int) -> None:
        """Let the machine run until it is about to execute what is at the address. Raises `WireError`."""
        self._must(f"Z1,{address:x},1")
        stopped = self.ask("c")
        if not stopped.startswith(("T05", "S05")):
            raise WireError(f"the machine stopped for another reason: {stopped}")
        self._must(f"z1,{address:x},1")

    def leave(self) -> None:
        """Let the machine run, for good. Raises `WireError`."""
        self._must("D")

    def _must(self, text: str) -> None:
        answer = self.ask(text)
        if answer != "OK":
            raise WireError(f"the emulator's gdbstub refuses {text}: {answer!r}")
