"""The results of a run: as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmarks.binary import Binary
from benchmarks.guide import ManualBuild
from benchmarks.ours import OurBuild


@dataclass(frozen=True)
class Row:
    """One measured thing. `limit` is what xenqemu promises: a maximum, of the ratio where there is a `manual` value."""

    what: str
    unit: str
    xenqemu: float
    manual: float | None = None
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """Return xenqemu's value in parts of the manual build's."""
        return self.xenqemu / self.manual if self.manual else None

    @property
    def held(self) -> bool | None:
        """Whether the limit is held, None where there is none."""
        value = self.xenqemu if self.manual is None else self.ratio
        return None if self.limit is None or value is None else value <= self.limit

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain data."""
        values = {"what": self.what, "unit": self.unit, "xenqemu": self.xenqemu, "manual": self.manual}
        return values | {"ratio": self.ratio, "limit": self.limit, "held": self.held}


def rows(manual: ManualBuild, ours: OurBuild, manual_binary: Binary, our_binary: Binary) -> tuple[Row, ...]:
    """Return everything that was measured, the main thing first."""
    theirs = manual.unpack + manual.configure + manual.compile
    return (
        Row("cold build, CPU", "s", ours.total.cpu, theirs.cpu, limit=0.5),
        Row("cold build, clock", "s", ours.total.wall, theirs.wall),
        Row("build steps", "", ours.steps, manual.steps),
        Row("binary, stripped", "MB", our_binary.stripped / 1e6, manual_binary.stripped / 1e6),
        Row("device types", "", our_binary.devices, manual_binary.devices),
        Row("libraries (lines of ldd)", "", our_binary.libraries, manual_binary.libraries),
        Row("prepare: unpack, patch, render", "s", ours.prepare, limit=15),
        Row("build with nothing to do", "s", ours.noop, limit=0.7),
        Row("xenqemu --help", "s", ours.help, limit=0.2),
        Row("peak memory of xenqemu itself", "MB", ours.total.peak_rss / 1e6, limit=150),
    )


def table(measured: Sequence[Row], title: str) -> Table:
    """Return the rows for a terminal."""
    result = Table(title=title)
    result.add_column("")
    for heading in ("manual", "xenqemu", "ratio", "limit"):
        result.add_column(heading, justify="right")
    for row in measured:
        manual = "" if row.manual is None else _number(row.manual, row.unit)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        limit = "" if row.limit is None else f"{row.limit:g}{' held' if row.held else ' MISSED'}"
        result.add_row(row.what, manual, _number(row.xenqemu, row.unit), ratio, limit)
    return result


def _number(value: float, unit: str) -> str:
    digits = f"{value:.2f}" if value < 10 and unit else f"{value:.1f}" if value < 100 and unit else f"{value:.0f}"
    return f"{digits} {unit}".rstrip()
