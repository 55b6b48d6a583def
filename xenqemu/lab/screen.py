"""A guest's screen and keyboard, by way of the device model's VNC server.

The client is the project's own: vncdotool wants Twisted and a TCP port of its own, asyncvnc numpy, where a picture of
one screen and some keys over a stream that is already there take six messages of RFB 3.8 (RFC 6143).
"""

from __future__ import annotations

import io
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import LabError
from xenqemu.state import write_atomic

_VERSION = b"RFB 003.008\n"
_SECURITY_NONE = 1
_SECURITY_VNC = 2
_ENCODING_RAW = 0
_ENCODING_DESKTOP_SIZE = -223
# 32 bits a pixel, 24 used, little endian, true colour: in memory blue, green, red and a byte that says nothing.
_PIXEL_FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
_PIXEL = 4
# More is no screen but a server that sends nonsense.
_MAX_SIDE = 16384
_PAUSE = 0.25
# Keysyms of X11 (keysymdef.h); those of other characters are what Latin-1 has for them.
_KEYSYMS = {"\n": 0xFF0D, "\t": 0xFF09, "\b": 0xFF08, "\x1b": 0xFF1B}
_SHIFT = 0xFFE1
# The server presses what it is told, and no Shift of its own (key_event() in QEMU's ui/vnc.c).
_SHIFTED = frozenset('ABCDEFGHIJKLMNOPQRSTUVWXYZ~!@#$%^&*()_+{}|:"<>?')
# An emulated PS/2 keyboard has 16 bytes for what was not fetched yet, and drops the rest (PS2_QUEUE_SIZE in QEMU's
# hw/input/ps2.c). A guest under emulation takes its time.
_KEY_SECONDS = 0.1


@dataclass(frozen=True)
class Screen:
    """A picture: `width` times `height` pixels, line by line from the top, three bytes (red, green, blue) each."""

    width: int
    height: int
    rgb: bytes

    @property
    def dark(self) -> bool:
        """Whether all of it has one colour: nothing was drawn yet, or the guest has switched its screen off."""
        return self.rgb == self.rgb[:3] * (self.width * self.height)


class Server:
    """The other side of `stream`, for as long as was last allowed; `received` counts the bytes that it has sent."""

    def __init__(self, stream: socket.socket) -> None:
        self.received = 0
        self._stream = stream
        self._deadline = 0.0

    def allow(self, seconds: float) -> None:
        """Let what follows take so many seconds; then `TimeoutError` is raised."""
        self._deadline = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """How many seconds of that are left."""
        return self._deadline - time.monotonic()

    def _wait(self) -> None:
        left = self.left
        if left <= 0:
            raise TimeoutError
        self._stream.settimeout(left)

    def waits(self, seconds: float) -> bool:
        """Whether it has said something that was not received yet, or does so within `seconds`."""
        return bool(select.select([self._stream], [], [], seconds)[0])

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self._wait()
        self._stream.sendall(data)

    def receive(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises `LabError` when the server goes away."""
        data = bytearray()
        while len(data) < size:
            self._wait()
            piece = self._stream.recv(min(size - len(data), 1 << 18))
            if not piece:
                raise LabError(
                    "the device model's VNC server closed the connection",
                    "the device model may have ended: look at its log",
                )
            data += piece
            self.received += len(piece)
        return bytes(data)

    def unpack(self, layout: str) -> tuple[int, ...]:
        """Return the numbers that come next, see `struct`."""
        return struct.unpack(layout, self.receive(struct.calcsize(layout)))

    def text(self) -> str:
        """Return the text that comes next, behind its length."""
        (size,) = self.unpack(">I")
        return self.receive(min(size, 1 << 16)).decode("latin-1").rstrip("\0")  # QEMU counts a C string's end


class Client:
    """A client that the server at the other end has let in; `timeout` is in seconds for each of its methods."""

    def __init__(self, server: Server, width: int, height: int, timeout: float) -> None:
        self.server = server
        self._width = width
        self._height = height
        self._timeout = timeout

    @property
    def size(self) -> tuple[int, int]:
        """How many columns and rows of pixels the screen had when that was last heard of."""
        return self._width, self._height

    def picture(self) -> Screen:
        """Return what the screen shows; a dark one (one colour) is asked for again until it shows something.

        Raises `LabError` when the server goes away, or nothing was shown within the time.
        """
        screen = None
        self.server.allow(self._timeout)
        try:
            with unbroken():
                while True:
                    screen = _picture(self.server, self._width, self._height)
                    self._width, self._height = screen.width, screen.height
                    if not screen.dark:
                        return screen
                    time.sleep(max(0.0, min(_PAUSE, self.server.left)))
        except TimeoutError:
            what = (
                "no picture came from the device model's VNC server" if screen is None else "the guest's screen is dark"
            )
            raise LabError(
                f"{what} after {self._timeout:.0f} s",
                "without vgabios-*.bin in the device model's data nothing is drawn, or the guest has switched it off",
            ) from None

    def type(self, text: str) -> None:
        """Press and release the keys of `text`, with Shift as a US keyboard needs it; line feed is Return.

        Raises `ValueError` for a character that has no key, `LabError` when the server goes away.
        """
        keys = [(_keysym(character), character in _SHIFTED) for character in text]
        for keysym, shifted in keys:
            strokes = [(keysym, True), (keysym, False)]
            if shifted:
                strokes = [(_SHIFT, True), *strokes, (_SHIFT, False)]
            self.server.allow(self._timeout)
            with _answering(self._timeout):
                self.server.send(b"".join(struct.pack(">BBxxI", 4, down, sym) for sym, down in strokes))
            time.sleep(_KEY_SECONDS)


def connect(stream: socket.socket, *, password: str | None = None, timeout: float = 10.0) -> Client:
    """Return a client of the VNC server at the other end of the connected `stream`, which the caller closes.

    `password` is what `vncpasswd` in xl.cfg says, of which VNC takes eight characters; `timeout` is in seconds. Raises
    `LabError` when the server is none, refuses, goes away, or does not answer in time.
    """
    server = Server(stream)
    server.allow(timeout)
    with _answering(timeout):
        _authenticate(server, password)
        width, height = _start(server)
    return Client(server, width, height, timeout)


def capture(stream: socket.socket, *, password: str | None = None, timeout: float = 10.0) -> Screen:
    """Return what the VNC server at the other end of `stream` shows; see `connect` and `Client.picture`."""
    return connect(stream, password=password, timeout=timeout).picture()


@contextmanager
def unbroken() -> Iterator[None]:
    """Make what a broken connection raises an error of the lab's; that time is up is left to the caller."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise LabError(
            f"the connection to the device model's VNC server broke: {error.strerror or error}",
            "the device model may have ended: look at its log",
        ) from error


@contextmanager
def _answering(timeout: float) -> Iterator[None]:
    try:
        with unbroken():
            yield
    except TimeoutError:
        raise LabError(
            f"the device model's VNC server has not answered after {timeout:.0f} s", "look at the device model's log"
        ) from None


def _keysym(character: str) -> int:
    keysym = _KEYSYMS.get(character, ord(character))
    if keysym < 0x20 or 0x7F <= keysym < 0xA0 or 0xFF < keysym < 0xFF00:
        raise ValueError(f"there is no key for {character!r}")
    return keysym


def _authenticate(server: Server, password: str | None) -> None:
    version = server.receive(len(_VERSION))
    if not version.startswith(b"RFB 003."):
        raise LabError(
            f"what answers is no VNC server: it says {version!r}", 'xl.cfg needs vnc = 1, and no spice or "vncunused"'
        )
    server.send(_VERSION)
    (count,) = server.unpack("B")
    if not count:
        raise LabError(f"the VNC server refuses: {server.text()}", "look at the device model's log")
    kinds = server.receive(count)
    if _SECURITY_NONE in kinds:
        server.send(bytes([_SECURITY_NONE]))
    elif _SECURITY_VNC not in kinds:
        raise LabError(
            f"the VNC server wants a kind of authentication that is not known here: {kinds.hex(' ')}",
            "configure the guest with a password (vncpasswd) or none",
        )
    elif password is None:
        raise LabError("the VNC server wants a password", "it is the one that vncpasswd in xl.cfg or xl.conf sets")
    else:
        server.send(bytes([_SECURITY_VNC]))
        server.send(_answer(server.receive(16), password))
    (refused,) = server.unpack(">I")
    if refused:
        raise LabError(
            f"the VNC server refuses the password: {server.text()}", "it is the one that vncpasswd in xl.cfg sets"
        )


def _answer(challenge: bytes, password: str) -> bytes:
    # Not chosen, but what VNC has (RFC 6143, 7.2.2). All servers mirror the bits of each byte of the key, as its
    # erratum says.
    from Crypto.Cipher import DES

    key = password.encode("utf-8")[:8].ljust(8, b"\0")
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    return DES.new(mirrored, DES.MODE_ECB).encrypt(challenge)  # noqa: S304


def _start(server: Server) -> tuple[int, int]:
    server.send(b"\1")  # shared: nobody else is thrown out
    width, height = server.unpack(">HH")
    server.receive(16)
    server.text()
    server.send(b"\0\0\0\0" + _PIXEL_FORMAT)
    server.send(struct.pack(">BxHii", 2, 2, _ENCODING_RAW, _ENCODING_DESKTOP_SIZE))
    return width, height


def _picture(server: Server, width: int, height: int) -> Screen:
    """Ask for the whole screen and return it when all of it has come; it may change its size meanwhile."""
    frame = Frame(width, height)
    server.send(request(width, height))
    while 1 in frame.missing:
        if begins_update(server):
            _, resized = frame.take(server)
            if resized is not None:
                return _picture(server, *resized)
    return frame.screen()


def request(width: int, height: int, *, changes: bool = False) -> bytes:
    """Return the message that asks for all of a screen of that size, or only for its `changes` since the last time."""
    return struct.pack(">BBHHHH", 3, changes, 0, 0, width, height)


def begins_update(server: Server) -> bool:
    """Take the next message; whether it is an update of the screen, which then follows. Others say nothing."""
    (kind,) = server.unpack("B")
    if kind == 1:  # SetColorMapEntries
        _, count = server.unpack(">xHH")
        server.receive(6 * count)
    elif kind == 3:  # ServerCutText
        server.receive(3)
        server.text()
    elif kind not in (0, 2):  # Bell
        raise _nonsense(f"a message of kind {kind}")
    return kind == 0


class Frame:
    """What a client knows of a screen of `width` times `height` pixels; of pixels that are `missing` (1) nothing."""

    def __init__(self, width: int, height: int) -> None:
        if not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
            raise _nonsense(f"a screen of {width} by {height}")
        self.width = width
        self.height = height
        self.missing = bytearray(b"\1" * (width * height))
        self._pixels = bytearray(_PIXEL * width * height)

    def take(self, server: Server) -> tuple[int, tuple[int, int] | None]:
        """Take an update; return how many rectangles it has, and the new size when the screen has changed it."""
        resized = None
        (rectangles,) = server.unpack(">xH")
        for _ in range(rectangles):
            left, top, columns, rows, encoding = server.unpack(">HHHHi")
            if encoding == _ENCODING_DESKTOP_SIZE:
                resized = columns, rows
                continue
            if encoding != _ENCODING_RAW:
                raise _nonsense(f"encoding {encoding}")
            data = server.receive(columns * rows * _PIXEL)
            if resized is not None:
                continue  # it is a part of a screen that is asked for anew
            if left + columns > self.width or top + rows > self.height:
                raise _nonsense("a rectangle outside the screen")
            for row in range(rows):
                start = (top + row) * self.width + left
                self.missing[start : start + columns] = bytes(columns)
                line = data[row * columns * _PIXEL : (row + 1) * columns * _PIXEL]
                self._pixels[start * _PIXEL : (start + columns) * _PIXEL] = line
        return rectangles, resized

    def screen(self) -> Screen:
        """Return the picture as far as it is known; what is missing is black."""
        rgb = bytearray(3 * self.width * self.height)
        rgb[0::3], rgb[1::3], rgb[2::3] = self._pixels[2::4], self._pixels[1::4], self._pixels[0::4]
        return Screen(self.width, self.height, bytes(rgb))


def _nonsense(what: str) -> LabError:
    return LabError(f"the VNC server sends {what}, which was not asked for", "look at the device model's log")


def write_png(screen: Screen, path: Path) -> None:
    """Write `screen` to `path` as PNG, whole or not at all. Raises `OSError`."""
    from PIL import Image

    png = io.BytesIO()
    Image.frombytes("RGB", (screen.width, screen.height), screen.rgb).save(png, "PNG", optimize=True)
    write_atomic(path, png.getvalue())
