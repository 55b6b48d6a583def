"""An xl.cfg file as the toolstack understands it, beside the bytes that it was read from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from xenqemu.vm.xlcfg.lexis import decode

Value: TypeAlias = "str | tuple[Value, ...]"

# More than twenty digits are beyond 64 bits, and Python refuses to convert some thousands.
_STRTOL = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]{0,19}))")
_LONG = 1 << 63


@dataclass(frozen=True)
class Statement:
    """One assignment: what it says, and where in the file it says so (byte offsets, ends exclusive).

    `value` is what this statement alone gives, a string (numbers too: libxlutil keeps them as they are spelt) or
    a tuple of values; `operator` is "=" or "+="; `line` counts from 1.
    """

    name: str
    value: Value
    operator: str
    start: int
    end: int
    value_start: int
    value_end: int
    line: int


@dataclass(frozen=True)
class XlConfig:
    """A config file that libxlutil accepts: its bytes, its name for messages, its statements in order.

    The getters answer as those of Xen's tools/libs/util/libxlu_cfg.c do, None standing for every error code.
    """

    data: bytes
    name: str
    statements: tuple[Statement, ...]

    @cached_property
    def _winners(self) -> dict[str, tuple[Value, Statement]]:
        # xlu__cfg_set_store puts each statement before all others, find() takes the first; += has by then been
        # concatenated with what find() gave.
        winners: dict[str, tuple[Value, Statement]] = {}
        for statement in self.statements:
            value = statement.value
            if statement.operator == "+=" and statement.name in winners:
                value = add(winners[statement.name][0], value)
            winners[statement.name] = value, statement
        return winners

    def statements_of(self, name: str) -> tuple[Statement, ...]:
        """Return the statements that assign to `name`, in order."""
        return tuple(statement for statement in self.statements if statement.name == name)

    def effective(self) -> dict[str, Value]:
        """Return the value of every name: the last assignment wins, `+=` adds to what came before."""
        return {name: value for name, (value, _) in self._winners.items()}

    def get(self, name: str) -> Value | None:
        """Return the effective value of `name`, or None."""
        return self._winners[name][0] if name in self._winners else None

    def text(self, name: str) -> str | None:
        """Return `name` as xlu_cfg_get_string does: a string or number as it is spelt; None for a list."""
        value = self.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int | None:
        """Return `name` as xlu_cfg_get_long does: what strtol(3) makes of all of the string, in 64 bits.

        None also for a name whose last assignment is a `+=`, which libxlutil takes for no number. A C library from
        2.38 on also lets strtol read 0b101; that is left out, as xl of any other would refuse it.
        """
        value = self.text(name)
        match = None if value is None else _STRTOL.fullmatch(value)
        if match is None or self._winners[name][1].operator == "+=":
            return None
        sign, hexadecimal, octal, decimal = match.groups()
        number = int(hexadecimal or octal or decimal, 16 if hexadecimal else 8 if octal else 10)
        number = -number if sign == "-" else number
        return number if -_LONG <= number < _LONG else None

    def flag(self, name: str) -> bool | None:
        """Return `name` as xlu_cfg_get_defbool does: whether the number is other than 0; None leaves the default."""
        number = self.number(name)
        return None if number is None else number != 0

    def items(self, name: str) -> tuple[str, ...]:
        """Return the list `name` as xlu_cfg_get_list_as_string_list does, which takes no single string for one.

        It ends before the first item that is itself a list: libxlutil puts the NULL there that ends the array. Empty
        for a name that is not set or not a list; where xl falls back on a single string, `text` has it.
        """
        value = self.get(name)
        items: list[str] = []
        for item in value if isinstance(value, tuple) else ():
            if not isinstance(item, str):
                break
            items.append(item)
        return tuple(items)


def add(before: Value, value: Value) -> Value:
    """Return what `+=` makes of two values (xlu__cfg_concat_vals); raises `TypeError` for a string and a list."""
    if isinstance(before, str) and isinstance(value, str):
        # Halves of a UTF-8 character may come together here.
        return decode((before + value).encode("utf-8", "surrogateescape"))
    if isinstance(before, tuple) and isinstance(value, tuple):
        return before + value
    raise TypeError("a string and a list")
