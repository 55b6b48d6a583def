"""What a VGA card shows, worked out from its memory alone: what a picture of the screen has to agree with.

It is how the card has it (IBM's VGA, VBE), and not how QEMU draws it (hw/display/vga.c); of text mode and of palettes
it knows what the screen guest uses (guests/vga/screen.S).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xenqemu.errors import LabError
from xenqemu.lab.screen import Screen

_SAID = re.compile(r"frame=((?: [0-9a-f]{8}){6})\s")
_PAGE = 4096
# In text mode: characters of 9 by 16 points, of which the font has 8 in a row, in plane 2 of four, 32 bytes for each.
_TEXT_MEMORY = 1 << 16
_WIDE, _HIGH = 9, 16
_PLANES = 4
_FONT_PLANE = 2
_FONT_BYTES = 32
# Characters whose last column is repeated in the ninth: parts of boxes.
_BOXES = range(0xC0, 0xE0)


@dataclass(frozen=True)
class FrameSaid:
    """A frame as the guest describes it: the card's memory is at `address`, of which `pitch` bytes make a line.

    `width` and `height` are in pixels of `bits`, in text mode (0 bits) in characters. `crc` is the CRC-32 of all lines,
    in text mode of the characters and their attributes, as the guest reads them.
    """

    address: int
    width: int
    height: int
    bits: int
    pitch: int
    crc: int

    @property
    def name(self) -> str:
        """What people call it: `640x480x24`, `text 80x25`."""
        return f"{self.width}x{self.height}x{self.bits}" if self.bits else f"text {self.width}x{self.height}"

    @property
    def memory(self) -> int:
        """How many bytes of the card's memory, from its beginning, decide on what is shown."""
        return self.pitch * self.height if self.bits else _TEXT_MEMORY

    @property
    def pages(self) -> int:
        """How many pages the shown part of the memory has."""
        return -(-self.memory // _PAGE)


def read_frame(text: str) -> FrameSaid:
    """Return the frame that the guest has described in `text`. Raises `LabError` when it has not."""
    said = _SAID.findall(text)
    if not said:
        raise LabError("the guest has not said what its frame is", "it takes a guest of kind `screen`")
    return FrameSaid(*(int(number, 16) for number in said[-1].split()))


def picture_of(frame: FrameSaid, memory: bytes) -> Screen:
    """Return what the card shows of `memory`. Raises `LabError` when it is not the memory that the guest has read."""
    read = memory[: frame.memory] if frame.bits else _characters(frame, memory)
    if zlib.crc32(read) != frame.crc:
        raise LabError(
            f"the guest reads other bytes in its video memory (CRC-32 {frame.crc:08x}) "
            f"than dom0 does ({zlib.crc32(read):08x})",
            "its device model and Xen do not mean the same pages",
        )
    if not frame.bits:
        return _text(frame, read, memory)
    lines = (memory[row * frame.pitch :][: frame.width * frame.bits // 8] for row in range(frame.height))
    return Screen(frame.width, frame.height, _PIXELS[frame.bits](b"".join(lines)))


def as_exact_as(frame: FrameSaid, seen: Screen) -> Screen:
    """Return the picture `seen` with the bits alone that pixels of the frame decide on: others are what one likes.

    A pixel of 16 bits has five or six for a colour. QEMU fills the rest with zeros where it converts pixels
    (vga_draw_line16() in hw/display/vga-helpers.h), and pixman with the uppermost once more where that does.
    """
    if frame.bits != 16:
        return seen
    planes = (seen.rgb[start::3].translate(mask) for start, mask in enumerate((_FIVE, _SIX, _FIVE)))
    return Screen(seen.width, seen.height, _joined(*planes))


def difference(seen: Screen, shown: Screen) -> str:
    """Return in what the picture `seen` is other than `shown`, in a sentence, or nothing.

    `seen` may have each pixel several times over, as VGA cards show the 200 lines of old modes.
    """
    across, down = seen.width // shown.width, seen.height // shown.height
    if (across * shown.width, down * shown.height) != (seen.width, seen.height):
        return f"the screen has {seen.width} by {seen.height} pixels, the frame {shown.width} by {shown.height}"
    wrong, first = 0, ""
    for y in range(seen.height):
        line = seen.rgb[3 * y * seen.width :][: 3 * seen.width]
        row = shown.rgb[3 * (y // down) * shown.width :][: 3 * shown.width]
        wanted = row if across == 1 else _repeated(row, across)
        if line != wanted:
            places = [x for x in range(seen.width) if line[3 * x :][:3] != wanted[3 * x :][:3]]
            wrong += len(places)
            x = places[0]
            first = (
                first
                or f"the first in column {x}, line {y}: {line[3 * x :][:3].hex()}, not {wanted[3 * x :][:3].hex()}"
            )
    return (
        f"{wrong} of {seen.width * seen.height} pixels are other than the video memory has them, {first}"
        if wrong
        else ""
    )


def _repeated(row: bytes, times: int) -> bytes:
    return b"".join(row[start : start + 3] * times for start in range(0, len(row), 3))


# ---- pixels ----


def _joined(red: bytes, green: bytes, blue: bytes) -> bytes:
    rgb = bytearray(3 * len(red))
    rgb[0::3], rgb[1::3], rgb[2::3] = red, green, blue
    return bytes(rgb)


def _full(level: int) -> int:
    """Return what a level of the palette's 64 is of 256: the lowest bit fills the two that are new."""
    return level << 2 | (level & 1) * 3


_FIVE = bytes(value & 0xF8 for value in range(256))
_SIX = bytes(value & 0xFC for value in range(256))
_RED = bytes(_full(colour & 63) for colour in range(256))
_GREEN = bytes(_full(colour >> 2) for colour in range(256))
_BLUE = bytes(_full(63 - (colour & 63)) for colour in range(256))


def _of_8(pixels: bytes) -> bytes:
    return _joined(pixels.translate(_RED), pixels.translate(_GREEN), pixels.translate(_BLUE))


def _of_16(pixels: bytes) -> bytes:
    values = struct.unpack(f"<{len(pixels) // 2}H", pixels)
    return _joined(
        bytes(value >> 8 & 0xF8 for value in values),
        bytes(value >> 3 & 0xFC for value in values),
        bytes(value << 3 & 0xF8 for value in values),
    )


def _of_24(pixels: bytes) -> bytes:
    return _joined(pixels[2::3], pixels[1::3], pixels[0::3])


def _of_32(pixels: bytes) -> bytes:
    return _joined(pixels[2::4], pixels[1::4], pixels[0::4])


_PIXELS: Mapping[int, Callable[[bytes], bytes]] = {8: _of_8, 16: _of_16, 24: _of_24, 32: _of_32}


# ---- text ----


def _characters(frame: FrameSaid, memory: bytes) -> bytes:
    """Return the characters and attributes, which planes 0 and 1 have at even addresses of the guest's."""
    cells = frame.width * frame.height
    found = bytearray(2 * cells)
    found[0::2], found[1::2] = memory[0 : _PLANES * cells : _PLANES], memory[1 : _PLANES * cells : _PLANES]
    return bytes(found)


def _text(frame: FrameSaid, cells: bytes, memory: bytes) -> Screen:
    lines = []
    for row in range(frame.height):
        codes = cells[2 * row * frame.width :][: 2 * frame.width]
        for line in range(_HIGH):
            for code, attribute in zip(codes[0::2], codes[1::2], strict=True):
                points = memory[_PLANES * (code * _FONT_BYTES + line) + _FONT_PLANE] << 1
                if code in _BOXES:
                    points |= points >> 1 & 1
                colours = _COLOURS[attribute >> 4], _COLOURS[attribute & 15]
                lines.append(b"".join(colours[points >> bit & 1] for bit in range(_WIDE - 1, -1, -1)))
    return Screen(frame.width * _WIDE, frame.height * _HIGH, b"".join(lines))


def _colour(number: int) -> bytes:
    """Return one of the 16 colours of text mode: brown is dark yellow with half its green."""
    bright = 21 if number & 8 else 0
    red, green, blue = (bright + (42 if number & bit else 0) for bit in (4, 2, 1))
    return bytes(map(_full, (red, 21 if number == 6 else green, blue)))


_COLOURS = tuple(map(_colour, range(16)))
