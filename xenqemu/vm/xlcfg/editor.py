"""Changing settings of an xl.cfg without touching any byte that the change does not need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from xenqemu.errors import VmConfigError
from xenqemu.vm.xlcfg.config import Statement, XlConfig
from xenqemu.vm.xlcfg.lexis import NAME, STRAY, quote

_name = re.compile(NAME)
_separator_after = re.compile(rb"[ \t]*(?:;[ \t]*)?")
_line_rest = re.compile(rb"[ \t]*(?:\n|\Z)")
_stray = re.compile(STRAY)


@dataclass(frozen=True)
class _Splice:
    """Bytes from `start` to before `end` become `new`."""

    start: int
    end: int
    new: bytes


def edit(config: XlConfig, changes: Mapping[str, str | None]) -> bytes:
    """Return the bytes of `config` with each name of `changes` set to its string, or removed where that is None.

    A name that is assigned several times has the value of its last statement, so that one is changed; if that is
    a `+=`, it becomes a `=`, as libxlutil would add to the earlier ones and take the sum for no number. Only the
    value's bytes change, and keep their kind of quotes; nothing changes if the value is the one wanted.

    A new name becomes a line of its own below the line of the last statement (of the file's end, if it has none),
    ended by a line feed: xl refuses CR LF outside comments. Removing takes all statements of the name, with the
    line if nothing else is on it, else with one `;` beside it; comments and other statements stay.

    Raises `VmConfigError` for a name that is none, and a value that no string can hold.
    """
    last = {statement.name: statement for statement in config.statements}
    splices: list[_Splice] = []
    lines: list[bytes] = []
    removed: set[str] = set()
    for name, text in changes.items():
        if _name.fullmatch(name.encode("utf-8", "backslashreplace")) is None:
            raise VmConfigError(
                f"{name!a} cannot be the name of a setting in an xl.cfg",
                "names have lower-case letters, digits, dots and underscores, and begin with a letter",
            )
        if text is None:
            removed.add(name)
        elif name not in last:
            lines.append(name.encode() + b" = " + quote(text, b"0" if text.isdecimal() else b'"') + b"\n")
        else:
            splices += _replacement(config, last[name], text)
    splices += _removals(config, removed)
    return _apply(config, splices, b"".join(lines))


def _replacement(config: XlConfig, statement: Statement, text: str) -> list[_Splice]:
    splices = []
    if statement.operator == "+=":
        between = config.data[statement.start : statement.value_start]
        plus = statement.start + between.rindex(b"+=")
        splices.append(_Splice(plus, plus + 1, b""))
    if statement.value != text:
        old = config.data[statement.value_start : statement.value_end]
        splices.append(_Splice(statement.value_start, statement.value_end, quote(text, old)))
    return splices


def _removals(config: XlConfig, names: set[str]) -> list[_Splice]:
    data = config.data
    spans: list[tuple[int, int]] = []
    for statement in config.statements:
        if statement.name not in names:
            continue
        start = statement.start
        after = _separator_after.match(data, statement.end)
        end = after.end() if after else statement.end
        if b";" not in data[statement.end : end]:
            line_start = data.rfind(b"\n", 0, start) + 1
            before = data[line_start:start].rstrip(b" \t")
            if before.endswith(b";"):
                start, end = line_start + len(before[:-1].rstrip(b" \t")), statement.end
        if spans and start <= spans[-1][1]:
            start = spans.pop()[0]
        spans.append((start, end))
    return [_Splice(*_whole_line(data, start, end), b"") for start, end in spans]


def _whole_line(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the span with all of its line (or lines) if nothing but blanks is left of that."""
    line_start = data.rfind(b"\n", 0, start) + 1
    rest = _line_rest.match(data, end)
    if data[line_start:start].strip(b" \t") or rest is None:
        return start, end
    return line_start, rest.end()


def _apply(config: XlConfig, splices: list[_Splice], lines: bytes) -> bytes:
    data = config.data
    parts: list[bytes] = []
    position = 0
    for splice in sorted(splices, key=lambda splice: splice.start):
        parts += (data[position : splice.start], splice.new)
        position = splice.end
    if lines:
        place = max(position, _place_for_new(config))
        parts.append(data[position:place])
        head = b"".join(parts)
        parts = [head, b"\n" if head and not head.endswith(b"\n") else b"", lines]
        position = place
    parts.append(data[position:])
    return b"".join(parts)


def _place_for_new(config: XlConfig) -> int:
    """Return where the line of the last statement ends."""
    data = config.data
    end = config.statements[-1].end if config.statements else 0
    newline = data.find(b"\n", end) if config.statements else -1
    if newline >= 0:
        return newline + 1
    # A last byte that xl ignores would not be ignored any more with a line below it.
    stray = _stray.match(data, max(len(data) - 1, end))
    return stray.start() if stray else len(data)
