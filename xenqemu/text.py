"""Text of others (names of files, content of configs) as it can be shown."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b(?:[()].|\[[0-?]*[ -/]*[@-~]|[@-Z\\-_=>78c])|[\x00\x07\x08]")


def plain(text: str) -> str:
    """Return `text` of a terminal without escape sequences, with line feeds as line ends."""
    return _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def printable(value: object, keep: str = "") -> str:
    """Return `value` as text of one line that any terminal and any encoding takes, but for the characters in `keep`.

    Bytes that are no UTF-8 (surrogates, as in names of files) and control characters become escapes.
    """
    return "".join(char if char in keep or char.isprintable() else _escape(char) for char in str(value))


def decodable(value: object) -> str:
    """Return `value` as text that any reader of UTF-8 takes: only bytes that are none become escapes."""
    return "".join(_escape(char) if "\ud800" <= char <= "\udfff" else char for char in str(value))


def _escape(char: str) -> str:
    code = ord(char)
    stray = 0xDC80 <= code <= 0xDCFF  # "surrogateescape" of PEP 383
    return f"\\x{code - 0xDC00:02x}" if stray else char.encode("unicode_escape").decode("ascii")
