"""What xl.cfg is made of: the tokens of Xen's libxlu_cfg_l.l as regular expressions, and its quoted strings.

A string in Python stands for the bytes of the file: UTF-8, and what is not UTF-8 as surrogate escapes.
"""

from __future__ import annotations

import re

from xenqemu.errors import VmConfigError

NAME = rb"[a-z][._0-9a-z]*"
NUMBER = rb"[0-9][0-9a-fx]*"
STRING = rb"\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'"
COMMENT = rb"#[^\n]*\n"
# One byte that begins no token raises an error when the lexer comes to what follows it, so as the very last byte
# of a file it is ignored: flex's `yymore` in rule `.` of libxlu_cfg_l.l meets the end of the input.
STRAY = rb"[^ \t\n,\[\]=;0-9a-z]\Z"

_SIMPLE_ESCAPES = {
    b'"': b'"',
    b"'": b"'",
    b"\\": b"\\",
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_ESCAPE = re.compile(rb"\\(?:([\"'\\abfnrtv])|([0-7])(?=(.{0,3}))|)", re.DOTALL)
_STRTOUL = re.compile(rb"[ \t\v\f\r]*[+-]?[0-9]+")
_MUST_ESCAPE = re.compile(rb"[\\\a\b\f\n\r\t\v]")
_LETTER = {raw: letter for letter, raw in _SIMPLE_ESCAPES.items()}
_BARE = re.compile(NUMBER)


class BadEscapeError(Exception):
    """A string has an escape that libxlutil refuses, or a NUL; the text says which."""


def decode(raw: bytes) -> str:
    """Return the bytes of a value or name as text."""
    return raw.decode("utf-8", "surrogateescape")


def dequote(token: bytes) -> str:
    """Return what the quoted string `token` (with its quotes) stands for.

    Follows xlu__cfgl_dequote of libxlu_cfg.c with its oddities: no hexadecimal escape passes, and an escape that
    begins with an octal digit takes what strtoul(3) makes of up to three more characters and stands for nothing.
    Raises `BadEscapeError` for what that function refuses, and for a NUL, on which it aborts the toolstack.
    """
    raw = token[1:-1]
    if b"\0" in raw:
        raise BadEscapeError("a NUL byte in a string, on which xl aborts")
    if b"\\" not in raw:
        return decode(raw)
    parts = []
    position = 0
    while match := _ESCAPE.search(raw, position):
        parts.append(raw[position : match.start()])
        position = match.end()
        if match[1] is not None:
            parts.append(_SIMPLE_ESCAPES[match[1]])
            continue
        digits = None if match[2] is None else _STRTOUL.match(match[3])
        if digits is None or digits.end() < 2:
            escape = raw[match.start() : match.start() + 2].decode("ascii", "backslashreplace")
            raise BadEscapeError(f"the escape {escape} in a string, which xl does not know")
        position += digits.end()
    parts.append(raw[position:])
    return decode(b"".join(parts))


def quote(text: str, like: bytes = b'"') -> bytes:
    """Return `text` as a token that libxlutil reads as it.

    `like` is the token that it replaces: a number stays bare if `text` can be, a string keeps its kind of quotes;
    all else is put into double quotes. Raises `VmConfigError` for what no string can hold (a NUL, text that is
    not bytes of a file).
    """
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise VmConfigError(
            f"{text!a} cannot be written to an xl.cfg: it is not text",
            "use characters that UTF-8 can represent",
        ) from error
    if b"\0" in raw:
        raise VmConfigError(
            f"{text!a} cannot be written to an xl.cfg: it has a NUL byte", "xl.cfg has no way to say it"
        )
    if _BARE.match(like) and _BARE.fullmatch(raw):
        return raw
    mark = b"'" if like.startswith(b"'") else b'"'
    escaped = _MUST_ESCAPE.sub(lambda match: b"\\" + _LETTER[match[0]], raw)
    return mark + escaped.replace(mark, b"\\" + mark) + mark
