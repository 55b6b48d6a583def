"""The results of a run as tables and as JSON."""

from __future__ import annotations

from typing import Any

from xenqemu.bench.model import Figure, Results, Verdict, figures, judge, known_contenders

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
_BASELINE = "guide"


def baseline(results: Results) -> str:
    """Return the name of the contender that ratios are of: the guide's build, else the first one."""
    names = [contender.name for contender in results.contenders]
    return _BASELINE if _BASELINE in names else names[0] if names else ""


def measured_figures(results: Results) -> tuple[Figure, ...]:
    """Return the figures that any contender has."""
    taken = {name for values in results.values.values() for name in values}
    return tuple(figure for figure in figures() if figure.name in taken)


def table(results: Results) -> Table:
    """Return a row for each figure and a column for each contender: the median, and its ratio to the baseline's."""
    columns = ("figure", *(contender.title for contender in results.contenders))
    base = baseline(results)
    rows = []
    for figure in measured_figures(results):
        cells = [_cell(results, contender.name, figure, base) for contender in results.contenders]
        rows.append((figure.title, *cells))
    return columns, rows


def _cell(results: Results, contender: str, figure: Figure, base: str) -> str:
    value = results.value(contender, figure.name)
    if value is None:
        return ""
    ratio = results.ratio(contender, figure.name, base)
    return figure.show(value) if contender == base or ratio is None else f"{figure.show(value)} ({ratio:.2f})"


def verdict_table(results: Results) -> Table:
    """Return a row for each target: what, at most how much, how much it is, and whether that is reached."""
    titles = {contender.name: contender.title for contender in known_contenders()}
    rows: list[tuple[str, ...]] = []
    for verdict in judge(results):
        target = verdict.target
        unit = f" of {titles[target.against]}" if target.against else f" {verdict.figure.unit}"
        rows.append((verdict.figure.title, f"{target.at_most:g}{unit}".rstrip(), shown(verdict), verdict.word))
    return ("target", "at most", "measured", "result"), rows


def shown(verdict: Verdict) -> str:
    """Return the value of a verdict as text."""
    if verdict.value is None:
        return "-"
    if verdict.target.against or verdict.figure.unit:
        return f"{verdict.value:.2f}"
    return f"{verdict.value:.0f}"


def row_table(results: Results) -> Table:
    """Return what was measured of xenqemu alone."""
    return ("", "by hand", "xenqemu", "ratio", "limit"), [row.cells() for row in results.rows]


def spread(values: tuple[float, ...]) -> float:
    """Return by how much the values differ, as a share of the largest; 0 for values that are all the same."""
    largest = max(values, default=0.0)
    return (largest - min(values)) / largest if largest else 0.0


def as_json(results: Results) -> dict[str, Any]:
    """Return the results as JSON values: every repetition, and medians, ratios and verdicts."""
    base = baseline(results)
    taken = {}
    for figure in measured_figures(results):
        values = {name: found[figure.name] for name, found in results.values.items() if figure.name in found}
        taken[figure.name] = {
            "title": figure.title,
            "unit": figure.unit,
            "scale": figure.scale,
            "values": {name: list(numbers) for name, numbers in values.items()},
            "median": {name: results.value(name, figure.name) for name in values},
            "ratio": {name: results.ratio(name, figure.name, base) for name in values},
            "spread": {name: spread(numbers) for name, numbers in values.items()},
        }
    return {
        "facts": dict(results.facts),
        "baseline": base,
        "contenders": [
            {"name": contender.name, "title": contender.title, "summary": contender.summary}
            for contender in results.contenders
        ],
        "figures": taken,
        "targets": [
            {
                "name": verdict.target.name,
                "figure": verdict.target.figure,
                "against": verdict.target.against or None,
                "at_most": verdict.target.at_most,
                "value": verdict.value,
                "reached": verdict.reached,
            }
            for verdict in judge(results)
        ],
        "missing": list(results.missing),
        "rows": [row.as_json() for row in results.rows],
    }
