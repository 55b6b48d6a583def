"""The parser of xl.cfg: the grammar of Xen's libxlu_cfg_y.y, which did not change between Xen 4.17 and 4.20."""

from __future__ import annotations

import re

from xenqemu.errors import VmConfigError
from xenqemu.vm.xlcfg.config import Statement, Value, XlConfig, add
from xenqemu.vm.xlcfg.lexis import COMMENT, NAME, NUMBER, STRAY, STRING, BadEscapeError, decode, dequote

_GAP = rb"[ \t\n;]*(?:" + COMMENT + rb"[ \t\n;]*)*"
_END = rb"[ \t]*(?:[;\n]|" + COMMENT + rb"|(?:" + STRAY + rb")?\Z)"
_gap = re.compile(_GAP)
_end = re.compile(_END)
_head = re.compile(_GAP + rb"((" + NAME + rb")[ \t]*(\+?=)[ \t]*((" + STRING + rb")|" + NUMBER + rb"|(\[)))")
_item = re.compile(rb"[ \t]*(?:(" + STRING + rb")|(" + NUMBER + rb")|(,)|(\[)|(\])|(\n|" + COMMENT + rb"))")
_stray = re.compile(STRAY)
_name = re.compile(NAME)
_operator = re.compile(rb"[ \t]*\+?=[ \t]*")
_token = re.compile(rb"(?:" + STRING + rb"|" + NUMBER + rb"|" + NAME + rb"|\+?=|.)", re.DOTALL)

# What the lexer refuses wherever it stands.
_LEXICAL = (
    (
        re.compile(rb"\r\n"),
        "the line ends in CR LF, which xl refuses",
        "make the line ends those of Unix, as dos2unix does",
    ),
    (re.compile(rb"\xef\xbb\xbf"), "a byte order mark, which xl refuses", "save the file without it"),
    (
        re.compile(rb"#[^\n]*\Z"),
        "a comment at the end of the file without a line end, which xl refuses",
        "end the line",
    ),
    (
        re.compile(rb"[\"']"),
        "a string that does not end on its line",
        "close the quotes; a quote in a string needs a \\",
    ),
    (re.compile(rb"\0"), "a NUL byte", "xl.cfg is text: is this another kind of file?"),
    (re.compile(rb"[A-Z]"), "an upper-case letter outside a string", "names of settings are lower case; quote values"),
)

# Entries that bison's parser stack has in a statement before its value, and what it can hold (YYMAXDEPTH, less the
# one that the check after each push wants free).
_DEPTH_BEFORE_VALUE = 4
_MAX_DEPTH = 9999


class XlSyntaxError(VmConfigError):
    """A config that libxlutil refuses; the message is `NAME:LINE: what`."""


class _RefusedError(Exception):
    """What is wrong, at which byte, and what to do about it."""

    def __init__(self, position: int, what: str, hint: str) -> None:
        super().__init__(what)
        self.position = position
        self.what = what
        self.hint = hint


def parse(data: bytes, name: str) -> XlConfig:
    """Return the config in `data`, of a file that messages shall call `name`.

    Accepts what xlu_cfg_readdata of libxlutil accepts, which is how xl reads a config. Raises `XlSyntaxError` for
    what that refuses or aborts on.
    """
    try:
        return XlConfig(data, name, _statements(data))
    except _RefusedError as refused:
        line = data.count(b"\n", 0, refused.position) + 1
        raise XlSyntaxError(f"{name}:{line}: {refused.what}", refused.hint) from None


def _statements(data: bytes) -> tuple[Statement, ...]:
    statements = []
    position = counted = 0
    line = 1
    value: Value
    while match := _head.match(data, position):
        start, value_start = match.span(1)[0], match.span(4)[0]
        if match[6]:
            value, value_end = _list(data, match.end())
        else:
            value_end = match.end()
            value = _string(match[5], value_start) if match[5] else decode(match[4])
        end = _end.match(data, value_end)
        if end is None:
            raise _unexpected(data, value_end, "the end of the line or ';' after a value")
        line += data.count(b"\n", counted, start)
        counted = start
        statements.append(
            Statement(match[2].decode(), value, match[3].decode(), start, value_end, value_start, value_end, line)
        )
        position = end.end()
    rest = _gap.match(data, position)
    position = rest.end() if rest else position
    if position < len(data) and not _stray.match(data, position):
        raise _bad_statement(data, position)
    result = tuple(statements)
    _check_additions(result)
    return result


def _string(token: bytes, position: int) -> str:
    try:
        return dequote(token)
    except BadEscapeError as error:
        raise _RefusedError(
            position, f"{error}", "write a backslash as \\\\; a control character can stand as it is, but no NUL"
        ) from None


def _list(data: bytes, position: int) -> tuple[Value, int]:
    """Return the list whose `[` ends at `position`, and where it ends."""
    outer: list[tuple[list[Value], int]] = []
    items: list[Value] = []
    below = _DEPTH_BEFORE_VALUE  # entries of bison's stack below this list's `[`
    wants_item = True  # after `[` or `,`
    while match := _item.match(data, position):
        string, number, comma, opening, closing, newline = match.groups()
        start, position = match.start(match.lastindex or 0), match.end()
        if (comma and wants_item) or ((string or number or opening) and not wants_item):
            raise _unexpected(data, start, "a value in a list" if comma else "',' or ']' in a list")
        more = 3 if len(items) > (not wants_item) else 0  # `values ',' nlok` before the item at hand
        needed = 4 + more
        if newline:
            needed = 3 + more if wants_item else 5 + more
        elif comma:
            needed = 5
            wants_item = True
        elif opening:
            outer.append((items, below))
            below += 2 + more
            needed = 4
            items = []
        elif closing:
            value = tuple(items)
            if not outer:
                return value, position
            items, below = outer.pop()
            items.append(value)
            wants_item = False
        else:
            items.append(_string(string, start) if string else decode(number))
            wants_item = False
        if below + needed > _MAX_DEPTH:
            raise _RefusedError(start, "lists are nested too deeply", "xl's parser gives up on so many levels")
    raise _unexpected(data, position, "a value or ']' in a list" if wants_item else "',' or ']' in a list")


def _check_additions(statements: tuple[Statement, ...]) -> None:
    values: dict[str, Value] = {}
    for statement in statements:
        before = values.get(statement.name) if statement.operator == "+=" else None
        try:
            values[statement.name] = statement.value if before is None else add(before, statement.value)
        except TypeError:
            raise _RefusedError(
                statement.start,
                f"'{statement.name}' += adds a list to a string, or a string to a list",
                "make both of one kind, or assign with =",
            ) from None


def _bad_statement(data: bytes, position: int) -> _RefusedError:
    """Return why there is no statement at `position`, where one would begin."""
    name = _name.match(data, position)
    if name is None:
        return _unexpected(data, position, "the name of a setting")
    operator = _operator.match(data, name.end())
    if operator is None:
        return _unexpected(data, name.end(), f"'=' or '+=' after '{name[0].decode()}'")
    return _unexpected(data, operator.end(), f"a value for '{name[0].decode()}' on the same line")


def _unexpected(data: bytes, position: int, wanted: str) -> _RefusedError:
    """Return what is wrong at `position`, where blanks may come before the token that is not what was `wanted`."""
    while data[position : position + 1] in (b" ", b"\t"):
        position += 1
    rest = data[position:]
    if not rest:
        return _RefusedError(position, f"the file ends where {wanted} should be", "complete the last statement")
    for pattern, what, hint in _LEXICAL:
        if pattern.match(rest):
            return _RefusedError(position, what, hint)
    token = _token.match(rest)
    found = "the line ends" if rest[:1] in b"\n#" else repr(decode(token[0] if token else rest[:1]))[:60]
    return _RefusedError(position, f"{found} where {wanted} should be", "xl reads NAME = VALUE, one on a line")
