"""The table of causes (`causes.toml`), and what else is told by data: kinds of logs, noise, where logs are."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from xenqemu.explain.model import Cause, Condition


@cache
def _data() -> Mapping[str, Any]:
    text = (Path(__file__).parent / "causes.toml").read_text(encoding="utf-8")
    data: dict[str, Any] = tomllib.loads(text)
    return data


@cache
def causes() -> tuple[Cause, ...]:
    """Return the table, in its order: what stands first wins."""
    return tuple(_cause(entry) for entry in _data()["cause"])


def _cause(entry: Mapping[str, Any]) -> Cause:
    needs = entry.get("needs")
    return Cause(
        id=entry["id"],
        on=tuple(entry["on"]),
        pattern=re.compile(entry["pattern"]),
        cause=entry["cause"],
        remedy=entry["remedy"],
        example=entry["example"],
        source=entry["source"],
        symptom=entry.get("symptom", False),
        gives_way=entry.get("gives_way", False),
        silent=entry.get("silent", ""),
        talking=entry.get("talking", ""),
        needs=Condition(needs["on"], re.compile(needs["pattern"]), needs["example"]) if needs else None,
        reason=entry.get("reason", ""),
        fatal=entry.get("fatal", False),
        late=entry.get("late", False),
    )


@cache
def kinds() -> Mapping[str, str]:
    """Return the kinds of logs, each with what it is called."""
    return {kind["name"]: kind["title"] for kind in _data()["kind"]}


@cache
def _names() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind["name"], re.compile(name)) for kind in _data()["kind"] for name in kind["files"])


def name_of(file: str) -> tuple[str, str]:
    """Return the kind of a log whose file is called `file`, and the name of the guest that it is of.

    Both are empty where its name does not say; so is the second for the log of a host.
    """
    for kind, pattern in _names():
        match = pattern.fullmatch(file)
        if match:
            return kind, match.groupdict().get("guest") or ""
    return "", ""


@cache
def _patterns(table: str, kind: str) -> re.Pattern[str]:
    parts = [part for name, found in _data()[table].items() if not kind or name in (kind, "any") for part in found]
    return re.compile("|".join(f"(?:{part})" for part in parts) or r"(?!)")


def is_noise(text: str, kind: str) -> bool:
    """Whether a line of a log of that kind explains nothing: what is also said when all is well."""
    return not text.strip() or _patterns("noise", kind).search(text) is not None


def is_telling(text: str, kind: str) -> bool:
    """Whether a line that no entry knows speaks of a failure."""
    return not is_noise(text, kind) and _patterns("telling", kind).search(text) is not None


def is_beginning(text: str, kind: str) -> bool:
    """Whether a line of a log is where another attempt at a guest begins, so that what stands before is past."""
    return _patterns("beginning", kind).search(text) is not None


def reasons() -> tuple[Mapping[str, Any], ...]:
    """Return the rules by which the lab puts in one line what xl said when it made no guest."""
    return tuple(_data()["reason"])


def places(name: str) -> tuple[Path, ...]:
    """Return where xl, libxl and libvirt put the logs of the guest `name`, whether they are there or not."""
    return tuple(Path(place.format(name=name)) for place in _data()["places"]["of_a_guest"])


def host_places() -> tuple[Path, ...]:
    """Return where the logs are that are not of one guest."""
    return tuple(Path(place) for place in _data()["places"]["of_the_host"])
