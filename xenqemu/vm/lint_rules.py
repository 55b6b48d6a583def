"""lint.toml: the rules, and whether one fits what is looked at."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

_FILE = Path(__file__).with_name("lint.toml")
SEVERITIES = ("error", "warning", "hint")
_OPERATORS = ("not", "above", "below", "matches", "differs")


@dataclass(frozen=True)
class Rule:
    """A rule: it fits when all of `when` do, for each `each` of the guest, and the device model refuses all of `asks`.

    `when` is place (`guest.acpi`) to what is expected there; `xen` the versions of Xen that it is about. An entry of
    `asks` is a list of arguments that libxl passes, of `knows` one that the device model has to know for the rule to
    fit; `ask` says whether it is asked for the "option", to "start", or to start within the limits of the "sandbox";
    `said` what its refusal has to be like. The `setting` of xl.cfg is the one to blame. Texts may hold places in
    braces.
    """

    id: str
    severity: str
    message: str
    hint: str
    reference: str
    each: str = ""
    when: Mapping[str, Any] | None = None
    xen: SpecifierSet = field(default_factory=SpecifierSet)
    ask: str = "start"
    asks: tuple[tuple[str, ...], ...] = ()
    knows: tuple[str, ...] = ()
    said: str = ""
    setting: str = ""


@cache
def load_rules() -> tuple[Rule, ...]:
    """Return the rules in order; raises `ValueError` for a malformed lint.toml, which is a bug of this program."""
    return tuple(_rule(entry) for entry in tomllib.loads(_FILE.read_text())["rule"])


def _rule(entry: dict[str, Any]) -> Rule:
    entry = {
        **entry,
        "xen": SpecifierSet(entry.get("xen", "")),
        "asks": tuple(tuple(question) for question in entry.get("asks", ())),
        "knows": tuple(entry.get("knows", ())),
    }
    try:
        rule = Rule(**entry)
    except TypeError as error:
        raise ValueError(f"{_FILE.name}: the rule {entry.get('id')}: {error}") from error
    conditions = [value for value in (rule.when or {}).values() if isinstance(value, dict)]
    if (
        rule.severity not in SEVERITIES
        or rule.ask not in ("start", "option", "sandbox")
        or any(set(condition) - set(_OPERATORS) for condition in conditions)
    ):
        raise ValueError(f"{_FILE.name}: the rule {rule.id} has a severity, a way of asking or an operator of its own")
    return rule


def look_up(scope: Mapping[str, Any], place: str) -> Any:
    """Return what is at `place` (`disk.vdev`): an attribute, or an entry of a mapping (None when it has none)."""
    first, *rest = place.split(".")
    value = scope[first]
    for name in rest:
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name)
    return value


def fits(when: Mapping[str, Any] | None, scope: Mapping[str, Any]) -> bool:
    """Whether all conditions of `when` hold in `scope`.

    A truth value is compared with whether there is anything, a list wants one of its entries, anything else the same;
    a table has operators: `not` one of a list, `above` and `below` a number or another place, `matches` a pattern,
    `differs` from another place. What is not there (None) fits none of these but false.
    """
    return all(_fits(look_up(scope, place), wanted, scope) for place, wanted in (when or {}).items())


def _fits(value: Any, wanted: Any, scope: Mapping[str, Any]) -> bool:
    if isinstance(wanted, bool):
        return bool(value) is wanted
    if value is None:
        return False
    if isinstance(wanted, list):
        return value in wanted
    if isinstance(wanted, dict):
        return all(_holds(value, operator, operand, scope) for operator, operand in wanted.items())
    return bool(value == wanted)


def _holds(value: Any, operator: str, operand: Any, scope: Mapping[str, Any]) -> bool:
    if operator == "not":
        return value not in operand
    if operator == "matches":
        return re.search(operand, str(value)) is not None
    other = look_up(scope, operand) if isinstance(operand, str) else operand
    if operator == "differs":
        return bool(value != other)
    return bool(value > other if operator == "above" else value < other)


def words(template: tuple[str, ...], scope: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arguments of `template` with its places filled in; one that is a list stands for its entries.

    `{folder}` stays, for who asks.
    """
    filled: list[str] = []
    for word in template:
        alone = re.fullmatch(r"\{([a-z_]+(?:\.[a-z_]+)+)\}", word)
        value = look_up(scope, alone[1]) if alone else None
        if isinstance(value, tuple):
            filled += map(str, value)
        else:
            filled.append(fill(word, scope))
    return tuple(filled)


def fill(text: str, scope: Mapping[str, Any]) -> str:
    """Return `text` with each place in braces replaced by what is there."""
    return re.sub(r"\{([a-z_]+(?:\.[a-z_]+)*)\}", lambda match: _shown(match, scope), text)


def _shown(match: re.Match[str], scope: Mapping[str, Any]) -> str:
    if match[1].split(".")[0] not in scope:
        return match[0]
    return str(look_up(scope, match[1]))
