"""Small things that every part of the page uses: values of a manifest that may lack them, numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xenqemu.report.model import Cell


def value(facts: Mapping[str, Any], *names: str) -> Any:
    """Return what is at `names` in nested tables, None when it is not there: an older xenqemu may have written them."""
    found: Any = facts
    for name in names:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def text(facts: Mapping[str, Any], *names: str) -> str:
    """Return the same as text, empty for nothing."""
    found = value(facts, *names)
    return "" if found is None else str(found)


def table(facts: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the table at `names`, an empty one for anything else."""
    found = value(facts, *names)
    return found if isinstance(found, Mapping) else {}


def items(facts: Mapping[str, Any], *names: str) -> list[Any]:
    """Return the list at `names`, an empty one for anything else."""
    found = value(facts, *names)
    return list(found) if isinstance(found, list) else []


def tables(facts: Mapping[str, Any], *names: str) -> list[Mapping[str, Any]]:
    """Return those entries of the list at `names` that are tables."""
    return [entry for entry in items(facts, *names) if isinstance(entry, Mapping)]


def number(facts: Mapping[str, Any], *names: str) -> float | None:
    """Return the number at `names`, None for anything else."""
    found = value(facts, *names)
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def format_size(count: float) -> str:
    """Return bytes as people read them: `812 B`, `14.2 kB`, `3.63 MB`."""
    if count < 1000:
        return f"{count:.0f} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.2f} MB"


def format_time(milliseconds: float) -> str:
    """Return a duration: `38 ms`, `1.25 s`, `2 min 05 s`."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.2f} s"
    seconds = round(milliseconds / 1000)
    return f"{seconds // 60} min {seconds % 60:02} s"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 patch`, `3 patches`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def size_cells(sizes: Sequence[float]) -> list[Cell]:
    """Return a cell with a bar for each of the sizes in bytes."""
    return _bars((count, format_size(count)) for count in sizes)


def time_cells(times: Sequence[float]) -> list[Cell]:
    """Return a cell with a bar for each of the times in milliseconds."""
    return _bars((time, format_time(time)) for time in times)


def _bars(shown: Iterable[tuple[float, str]]) -> list[Cell]:
    pairs = list(shown)
    largest = max((amount for amount, _ in pairs), default=0) or 1
    return [Cell(said, amount, round(100 * amount / largest, 1)) for amount, said in pairs]
