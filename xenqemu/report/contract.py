"""What came of the contract's guests with a device model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xenqemu.contract.outcome import Outcome
from xenqemu.errors import UsageError
from xenqemu.report.model import BAD, GOOD, NOTE, Cell, Column, ContractRun, Table, Tile
from xenqemu.report.words import format_time, number, tables, text

_STATES = {Outcome.WORKS: GOOD, Outcome.GAP: NOTE, Outcome.FAILS: BAD, Outcome.MENDED: BAD, Outcome.ELSEWHERE: NOTE}
# What needs somebody comes first.
_ORDER = (Outcome.FAILS, Outcome.MENDED, Outcome.GAP, Outcome.ELSEWHERE, Outcome.WORKS)
_COLUMNS = (
    Column("case", code=True),
    Column("outcome"),
    Column("what it tries"),
    Column("because"),
    Column("took", number=True),
)


def read_results(path: Path) -> Mapping[str, Any]:
    """Return what `contract run --json` wrote to the file `path`; raises `UsageError` for anything else."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no JSON"
        raise UsageError(f"{path} cannot be read: {reason}", "name what `contract run --json` has printed") from error
    if not isinstance(data, dict) or not text(data, "xen") or not tables(data, "cases"):
        raise UsageError(f"{path} has no results of the contract", "name what `contract run --json` has printed")
    return data


def contract_runs(results: Sequence[Mapping[str, Any]]) -> tuple[ContractRun, ...]:
    """Return each of `results`, facts as `contract run --json` has them, as it is shown."""
    return tuple(_run(place, facts) for place, facts in enumerate(results))


def _run(place: int, facts: Mapping[str, Any]) -> ContractRun:
    cases = sorted(tables(facts, "cases"), key=lambda case: _ORDER.index(_outcome(case)))
    kinds = [_outcome(case) for case in cases]
    section = f"contract-{place}"
    counts = tuple(
        Tile(str(kinds.count(kind)), kind.value, section, _STATES[kind]) for kind in reversed(_ORDER) if kind in kinds
    )
    xen = text(facts, "xen")
    rows = tuple(map(_row, cases, kinds))
    others = tuple(row for row, kind in zip(rows, kinds, strict=True) if kind is not Outcome.WORKS)
    return ContractRun(
        xen=xen,
        when=text(facts, "finished"),
        counts=counts,
        remarkable=Table(
            f"{section}-others", f"What does not simply work under Xen {xen}", _COLUMNS, others, len(others) > 20
        ),
        table=Table(section, f"All cases under Xen {xen}", _COLUMNS, rows),
    )


def _outcome(case: Mapping[str, Any]) -> Outcome:
    try:
        return Outcome(case.get("outcome"))
    except ValueError:  # of a later xenqemu
        return Outcome.FAILS


def _row(case: Mapping[str, Any], outcome: Outcome) -> tuple[Cell, ...]:
    reason, reference = text(case, "reason"), text(case, "reference")
    # A gap's own words are the device model's; what it is known by says more.
    because = f"{reason} ({reference})" if reason and reference and outcome.expected else text(case, "detail")
    seconds = number(case, "seconds") or 0.0
    return (
        Cell(text(case, "case")),
        Cell(outcome.value, state=_STATES[outcome]),
        Cell(text(case, "summary")),
        Cell(because),
        Cell(format_time(1000 * seconds) if seconds else "", seconds),
    )
