"""What came of booting guests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Memory:
    """What a process uses, in bytes: resident, its proportional share of that, and what is its own alone."""

    rss: int
    pss: int
    private: int


@dataclass(frozen=True)
class GuestResult:
    """What came of one guest; times are in seconds.

    `create_seconds` is what `xl create` took, `boot_seconds` what passed from then until the sign. `sign` says by what
    it counts as booted, `reason` why it was not created or not booted (one line), `log` is the end of the device
    model's log, `notes` what in its config was made to differ.
    """

    name: str
    config: str
    device_model: str = ""
    created: bool = False
    create_seconds: float | None = None
    booted: bool = False
    sign: str = ""
    boot_seconds: float | None = None
    reason: str = ""
    memory: Memory | None = None
    screenshot: str = ""
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """What came of a run: of each guest, and of the host, which took `host_seconds` to come up (None: not started).

    `run` is the folder with the logs.
    """

    xen: str
    host_seconds: float | None
    guests: tuple[GuestResult, ...]
    run: Path
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every guest booted."""
        return all(guest.booted for guest in self.guests)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "xen": self.xen,
            "host_seconds": self.host_seconds,
            "booted": self.ok,
            "guests": [guest.as_dict() for guest in self.guests],
            "logs": str(self.run),
        }
