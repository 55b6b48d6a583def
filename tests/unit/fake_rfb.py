"""A VNC server for tests: it says what it is told to, in a thread at the other end of a socket pair."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Rectangle = tuple[int, int, int, int]  # left, top, columns, rows


def pixels(rgb: bytes, width: int, rectangle: Rectangle) -> bytes:
    """Return that part of a picture as the client wants it: blue, green, red and a byte that means nothing."""
    left, top, columns, rows = rectangle
    out = bytearray()
    for row in range(top, top + rows):
        for column in range(left, left + columns):
            red, green, blue = rgb[3 * (row * width + column) :][:3]
            out += bytes((blue, green, red, 0x5A))
    return bytes(out)


def update(rgb: bytes, width: int, *rectangles: Rectangle) -> bytes:
    """Return a FramebufferUpdate with these parts of a picture, raw."""
    parts = [struct.pack(">HHHHi", *one, 0) + pixels(rgb, width, one) for one in rectangles]
    return struct.pack(">BxH", 0, len(parts)) + b"".join(parts)


def resize(width: int, height: int) -> bytes:
    """Return a FramebufferUpdate that says the screen has another size."""
    return struct.pack(">BxHHHHHi", 0, 1, 0, 0, width, height, -223)


@dataclass
class FakeServer:
    """`answers` are sent one for each request of a picture, `changes` for each of changes; the last again and again."""

    width: int = 4
    height: int = 2
    answers: list[bytes] = field(default_factory=list)
    changes: list[bytes] = field(default_factory=list)
    greeting: bytes = b"RFB 003.008\n"
    security: bytes = b"\x01\x01"
    challenge: bytes = b""
    result: bytes = bytes(4)
    dies_after: int | None = None
    chunk: int = 1 << 16
    heard: list[bytes] = field(default_factory=list)
    requests: list[Rectangle] = field(default_factory=list)
    keys: list[tuple[int, bool]] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)  # 1 for changes

    def _send(self, stream: socket.socket, data: bytes) -> None:
        for start in range(0, len(data), self.chunk):
            stream.sendall(data[start : start + self.chunk])

    def _talk(self, stream: socket.socket) -> None:
        file = stream.makefile("rb")
        self._send(stream, self.greeting)
        assert file.read(12) == b"RFB 003.008\n"
        self._send(stream, self.security)
        self.heard.append(file.read(1))
        if self.challenge:
            self._send(stream, self.challenge)
            self.heard.append(file.read(16))
        self._send(stream, self.result)
        if not file.read(1):
            return
        name = b"fake"
        head = struct.pack(">HH", self.width, self.height) + bytes(16) + struct.pack(">I", len(name))
        self._send(stream, head + name)
        assert file.read(20)[4:] == struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
        (count,) = struct.unpack(">BxH", file.read(4))[1:]
        assert struct.unpack(f">{count}i", file.read(4 * count)) == (0, -223)
        while kind := file.read(1):
            if kind == b"\x04":
                down, keysym = struct.unpack(">BxxI", file.read(7))
                self.keys.append((keysym, bool(down)))
                continue
            incremental, *rectangle = struct.unpack(">BHHHH", file.read(9))
            assert kind == b"\x03"
            self.asked.append(incremental)
            if incremental:
                number = min(sum(self.asked), len(self.changes)) - 1
                self._send(stream, self.changes[number] if self.changes else b"")
                continue
            self.requests.append((rectangle[0], rectangle[1], rectangle[2], rectangle[3]))
            if self.dies_after is not None and len(self.requests) > self.dies_after:
                return
            self._send(stream, self.answers[min(len(self.requests), len(self.answers)) - 1] if self.answers else b"")


@contextmanager
def serve(server: FakeServer, talk: Callable[[socket.socket], None] | None = None) -> Iterator[socket.socket]:
    """Enter the client's end of a connection to `server`, or to what `talk` does instead."""
    ours, theirs = socket.socketpair()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            (talk or server._talk)(theirs)
        except (ConnectionError, BrokenPipeError):
            pass  # the client has hung up
        except BaseException as error:
            errors.append(error)
        finally:
            theirs.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join(5)
    assert not errors, errors
