"""As much C as it takes to read libxl: tokens, the functions of a file, and the calls in a function."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<skip>/\*.*?\*/|//[^\n]*|\s+|\\\n)
      | (?P<string>"(?:\\.|[^"\\])*")
      | (?P<char>'(?:\\.|[^'\\])*')
      | (?P<name>[A-Za-z_]\w*)
      | (?P<other>\#\#|[0-9][\w.]*|.)""",
    re.VERBOSE | re.DOTALL,
)
# What <inttypes.h> puts between two parts of a format string.
_FORMAT_MACRO = re.compile(r"(PRI|SCN)[diouxX]\w*$")
_CONVERSION = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?(?:hh|h|ll|l|j|z|t)?[a-zA-Z]")


@dataclass(frozen=True)
class Token:
    """A token: `kind` is `string` (`text` without quotation marks, neighbours joined), `name` or `other`."""

    kind: str
    text: str


@dataclass(frozen=True)
class Call:
    """A call of `name`; `arguments` are its tokens, split at the commas of the call itself."""

    name: str
    arguments: tuple[tuple[Token, ...], ...]

    def literal(self, index: int) -> str | None:
        """Return the argument at `index` when it is one string literal and nothing else."""
        if index >= len(self.arguments):
            return None
        argument = self.arguments[index]
        return argument[0].text if len(argument) == 1 and argument[0].kind == "string" else None


def tokens(source: str) -> tuple[Token, ...]:
    """Return the tokens of C `source`, without comments; lines of the preprocessor are tokens like all others."""
    found: list[Token] = []
    for match in _TOKEN.finditer(source):
        kind, text = match.lastgroup, match.group()
        if kind == "skip":
            continue
        previous = found[-1] if found else None
        if kind == "string":
            text = text[1:-1].replace('\\"', '"')
            if previous is not None and previous.kind == "string":
                found[-1] = Token("string", previous.text + text)
                continue
        elif previous is not None and previous.kind == "string" and _FORMAT_MACRO.match(text):
            found[-1] = Token("string", previous.text + "d")
            continue
        found.append(Token("other" if kind == "char" else str(kind), text))
    return tuple(found)


def functions(source: tuple[Token, ...]) -> dict[str, tuple[Token, ...]]:
    """Return the bodies of the functions that are defined in a file, by name.

    A definition is, outside of braces, a name with a parenthesised list and a brace after it.
    """
    bodies: dict[str, tuple[Token, ...]] = {}
    index = 0
    while index < len(source):
        text = source[index].text if source[index].kind == "other" else ""
        if text == "{":
            index = _closing(source, index) + 1
        elif text == "(":
            end = _closing(source, index)
            following = source[end + 1] if end + 1 < len(source) else None
            if following == Token("other", "{") and index and source[index - 1].kind == "name":
                last = _closing(source, end + 1)
                bodies[source[index - 1].text] = source[end + 2 : last]
                end = last
            index = end + 1
        else:
            index += 1
    return bodies


def calls(body: tuple[Token, ...]) -> Iterator[Call]:
    """Yield the calls in `body` in the order of the text, those inside the arguments of another after that."""
    for index, token in enumerate(body[:-1]):
        if token.kind == "name" and body[index + 1] == Token("other", "("):
            end = _closing(body, index + 1)
            yield Call(token.text, tuple(_split(body[index + 2 : end])))


def without_calls(body: tuple[Token, ...], names: re.Pattern[str]) -> tuple[Token, ...]:
    """Return `body` without the calls of functions whose whole name `names` matches, arguments and all."""
    kept: list[Token] = []
    index = 0
    while index < len(body):
        token = body[index]
        opens = index + 1 < len(body) and body[index + 1] == Token("other", "(")
        if token.kind == "name" and opens and names.fullmatch(token.text):
            index = _closing(body, index + 1)
        else:
            kept.append(token)
        index += 1
    return tuple(kept)


def placeholders(literal: str) -> str:
    """Return `literal` with each conversion of printf(3) as `{}`."""
    return _CONVERSION.sub("{}", literal)


_PAIRS = {"(": ")", "{": "}"}


def _closing(source: tuple[Token, ...], opening: int) -> int:
    """Return the index of what closes the bracket at `opening`; the last one of `source` when nothing does."""
    left = source[opening].text
    right, depth = _PAIRS[left], 0
    for index in range(opening, len(source)):
        if source[index].kind == "other":
            depth += (source[index].text == left) - (source[index].text == right)
            if depth == 0:
                return index
    return len(source) - 1


def _split(arguments: tuple[Token, ...]) -> Iterator[tuple[Token, ...]]:
    depth, start = 0, 0
    for index, token in enumerate(arguments):
        if token.kind != "other":
            continue
        depth += token.text in "({["
        depth -= token.text in ")}]"
        if token.text == "," and depth == 0:
            yield arguments[start:index]
            start = index + 1
    if arguments:
        yield arguments[start:]
