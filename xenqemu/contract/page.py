"""Several runs of the contract side by side, as a page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SIGNS = {"works": "yes", "gap": "gap", "fails": "**no**", "works now": "**yes?**", "not here": "-"}


@dataclass(frozen=True)
class Column:
    """One run: `xen` is the release's series, `title` says which device model, `facts` are those of the run."""

    xen: str
    title: str
    facts: Mapping[str, Any]

    @property
    def cases(self) -> Mapping[str, Mapping[str, Any]]:
        """The run's cases by name."""
        return {case["case"]: case for case in self.facts["cases"]}


class _Notes:
    """Footnotes, the same text once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    def lines(self) -> list[str]:
        return [f"{number}. {text}" for text, number in self._numbers.items()]


def page(columns: Sequence[Column], causes: Mapping[str, str]) -> str:
    """Return the page for `columns`; `causes` has for each entry of the contract what causes it in an xl.cfg.

    The same runs give the same page: no time and no path is on it.
    """
    notes = _Notes()
    tables = [line for group in _groups(columns) for line in _group_table(group, columns, causes, notes)]
    return "\n".join((*_overview(columns), *tables, "## Why not", "", *notes.lines(), ""))


def _overview(columns: Sequence[Column]) -> list[str]:
    lines = ["| Xen | device model | works | gap | fails | not here |", "| --- | --- | --- | --- | --- | --- |"]
    for column in columns:
        counts = column.facts["counts"]
        figures = (
            counts.get("works", 0),
            counts.get("gap", 0),
            counts.get("fails", 0) + counts.get("works now", 0),
            counts.get("not here", 0),
        )
        lines.append(f"| {column.facts['xen']} | {column.title} | {' | '.join(map(str, figures))} |")
    return [*lines, ""]


def _groups(columns: Sequence[Column]) -> list[str]:
    return list(dict.fromkeys(case["group"] for column in columns for case in column.facts["cases"]))


def _group_table(group: str, columns: Sequence[Column], causes: Mapping[str, str], notes: _Notes) -> list[str]:
    names = dict.fromkeys(
        case["case"] for column in columns for case in column.facts["cases"] if case["group"] == group
    )
    heads = [f"{column.xen} {column.title}" for column in columns]
    lines = [f"## {group}", "", f"| case | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    for name in names:
        found = [column.cases.get(name) for column in columns]
        first = next(case for case in found if case is not None)
        asked = dict.fromkeys(filter(None, (causes.get(entry, "") for entry in first["entries"])))
        what = f"`{name}` {first['summary']}" + "".join(f"<br>`{cause}`" for cause in asked)
        cells = [_cell(case, notes) for case in found]
        lines.append(f"| {what.replace('|', chr(92) + '|')} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(case: Mapping[str, Any] | None, notes: _Notes) -> str:
    if case is None:
        return ""
    outcome = case["outcome"]
    if outcome == "works":
        return _SIGNS[outcome]
    text = case["reason"] and f"{case['reason']} ({case['reference']})"
    return f"{_SIGNS[outcome]} ({notes.number(_plain(text or case['detail']))})"


def _plain(text: str) -> str:
    """Return `text` on one line, with nothing that Markdown takes for its own."""
    shown = "".join(char if char.isprintable() or char.isspace() else "?" for char in text)
    return " ".join(shown.split()).replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;").replace("|", "\\|")
