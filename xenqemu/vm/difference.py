"""Differences between two versions of a config, for people to read."""

from __future__ import annotations

import difflib
import re

from xenqemu.text import printable

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_NO_NEWLINE = "\\ No newline at end of file\n"


def unified(before: bytes, after: bytes, name: str) -> str:
    """Return a unified diff of a file called `name`; what is no UTF-8 or not printable is an escape in it."""
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        _LINE.findall(before),  # bytes.splitlines also splits at a carriage return
        _LINE.findall(after),
        f"a/{name.lstrip('/')}".encode(),
        f"b/{name.lstrip('/')}".encode(),
    )
    return "".join(_shown(line) for line in lines)


def _shown(line: bytes) -> str:
    text = printable(line.removesuffix(b"\n").decode("utf-8", "surrogateescape"), keep="\t")
    return f"{text}\n" if line.endswith(b"\n") else f"{text}\n{_NO_NEWLINE}"
