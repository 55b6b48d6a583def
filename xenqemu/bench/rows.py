"""What is measured of xenqemu alone, or beside one other way only: a row, with what it promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
        """Return xenqemu's value in parts of the manual one."""
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

    def cells(self) -> tuple[str, ...]:
        """Return the row as text: what, the manual value, xenqemu's, their ratio, the limit and whether it holds."""
        limit = "" if self.limit is None else f"{self.limit:g} {'held' if self.held else 'MISSED'}"
        manual = "" if self.manual is None else _number(self.manual, self.unit)
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.what, manual, _number(self.xenqemu, self.unit), ratio, limit


def _number(value: float, unit: str) -> str:
    digits = f"{value:.2f}" if value < 10 and unit else f"{value:.1f}" if value < 100 and unit else f"{value:.0f}"
    return f"{digits} {unit}".rstrip()
