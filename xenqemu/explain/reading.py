"""Logs as lines that can be shown: of any size, with any bytes in them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import UsageError
from xenqemu.explain.model import Line, Log
from xenqemu.explain.table import is_beginning, name_of
from xenqemu.text import plain, printable

# What is read of a log: its end. A guest that has written on its serial port for a year has a large one.
_MOST_BYTES = 1 << 18
# QEMU and libxl write lines of a few hundred characters, the longest being a command line.
_MOST_CHARACTERS = 4000
STDIN = "-"


def read_log(path: Path, *, kind: str | None = None) -> Log:
    """Return the end of the log at `path` (`-`: standard input), up to 256 KiB; `kind` is what its name says.

    Raises `UsageError` when it is not there, is no file or cannot be read.
    """
    if str(path) == STDIN:
        data, cut = _end(sys.stdin.buffer)
        return log_of(data, kind or "", "standard input", cut=cut)
    try:
        # Not a pipe that nobody writes to, nor a device: either would be waited for.
        if not path.is_file():
            raise UsageError(f"{path} is not there, or is no file", "name a log, a folder with logs, or a guest")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - _MOST_BYTES))
            data, cut = stream.read(_MOST_BYTES), size > _MOST_BYTES
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "become who may read it") from error
    return log_of(data, name_of(path.name)[0] if kind is None else kind, str(path), cut=cut)


def _end(stream: BinaryIO) -> tuple[bytes, bool]:
    data, cut = b"", False
    while block := stream.read(_MOST_BYTES):
        data, cut = (data + block)[-_MOST_BYTES:], cut or len(data) + len(block) > _MOST_BYTES
    return data, cut


def log_of(data: bytes | str, kind: str, path: str = "", *, cut: bool = False) -> Log:
    """Return `data`, what a log of that kind says, as lines from where the last attempt at a guest begins.

    Escape sequences are left out, and other control characters and bytes that are no UTF-8 become escapes. Lines keep
    their numbers, unless the beginning was `cut` off.
    """
    text = plain(data if isinstance(data, str) else data.decode("utf-8", "surrogateescape"))
    raw = text.split("\n")[1 if cut else 0 :]
    shown = printable(path)
    lines = [
        Line(shown, 0 if cut else number, printable(line[:_MOST_CHARACTERS], keep="\t").rstrip())
        for number, line in enumerate(raw, 1)
    ]
    starts = [index for index, line in enumerate(lines) if is_beginning(line.text, kind)]
    return Log(shown, kind, tuple(line for line in lines[starts[-1] if starts else 0 :] if line.text), cut)
