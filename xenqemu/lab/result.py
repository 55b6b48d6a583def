"""What came of booting guests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xenqemu.explain import Explanation
from xenqemu.results import Check, Results, Status


@dataclass(frozen=True)
class Memory:
    """What a process uses, in bytes: resident, its proportional share of that, and what is its own alone."""

    rss: int
    pss: int
    private: int


@dataclass(frozen=True)
class GuestResult:
    """What came of one guest; times are in seconds. It was not `tried` when the host failed before its turn.

    `create_seconds` is what `xl create` took, `boot_seconds` what passed from then until the sign, `steps_seconds` what
    the steps of its case took then. `sign` says by what it counts as booted, `reason` why it was not created or not
    booted (one line), `cause` and `remedy` what the table of causes makes of that, `log` is the end of the device
    model's log, or what xl said went wrong where that is empty, `notes` what in its config was made to differ. It
    was `late` when libxl's time was up, which a machine with too much to do can have caused.
    `figures` are what its steps have measured (see `viewed.Figure`).
    `stem` is what the names of its logs, and of the copy of its `screenshot`, begin with in the run's folder.
    """

    name: str
    config: str
    device_model: str = ""
    tried: bool = True
    created: bool = False
    create_seconds: float | None = None
    booted: bool = False
    sign: str = ""
    boot_seconds: float | None = None
    steps_seconds: float | None = None
    reason: str = ""
    cause: str = ""
    remedy: str = ""
    memory: Memory | None = None
    screenshot: str = ""
    stem: str = ""
    notes: tuple[str, ...] = ()
    figures: tuple[Mapping[str, Any], ...] = ()
    log: tuple[str, ...] = ()
    late: bool = False

    def explained_by(self, explanation: Explanation, remedy: str = "") -> GuestResult:
        """Return the result of a guest that failed, with cause and remedy, which is `remedy` where no cause is."""
        found = explanation.cause
        if found is None:
            return replace(self, remedy=remedy)
        return replace(self, cause=found.cause, remedy=found.remedy, late=found.late)

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

    @property
    def ok(self) -> bool:
        """Whether every guest booted."""
        return all(guest.booted for guest in self.guests)

    def as_wanted(self, fails: Mapping[str, str]) -> bool:
        """Whether every guest booted; of those in `fails`, whether it failed for a reason that its pattern matches."""
        return all(_as_wanted(guest, fails) for guest in self.guests)

    @property
    def sentence(self) -> str:
        """One line on the first guest, which has booted."""
        guest = self.guests[0]
        seconds = sum(part or 0.0 for part in (self.host_seconds, guest.create_seconds, guest.boot_seconds))
        memory = f", {guest.memory.rss / 1e6:.0f} MB" if guest.memory else ""
        return f"booted a guest under Xen {self.xen}: {guest.name}, {seconds:.0f} s{memory} ({guest.sign})"

    def table(self, fails: Mapping[str, str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the columns and the rows of a table of the guests; times in seconds, memory in MB."""
        columns = ("guest", "created", "booted", "device model", "result")
        rows: list[tuple[str, ...]] = []
        for guest in self.guests:
            if guest.name in fails and _as_wanted(guest, fails):
                result = f"fails as it should: {guest.reason}"
            else:
                result = guest.sign if guest.booted else guest.reason
            memory = f"{guest.memory.rss / 1e6:.1f} MB" if guest.memory else "-"
            rows.append((guest.name, _seconds(guest.create_seconds), _seconds(guest.boot_seconds), memory, result))
        return columns, rows

    def results(self, fails: Mapping[str, str]) -> Results:
        """Return the report for JUnit XML and summaries; `fails` as in `as_wanted`."""
        checks = tuple(_checked(guest, fails) for guest in self.guests)
        seconds = (self.host_seconds or 0.0) + sum(check.seconds for check in checks)
        facts = {"logs": str(self.run)}
        if self.host_seconds is not None:
            facts = {"Xen": self.xen, "host started in": f"{self.host_seconds:.1f} s", **facts}
        return Results(f"guests under Xen {self.xen}" if self.xen else "guests", checks, seconds, facts)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "xen": self.xen,
            "host_seconds": self.host_seconds,
            "booted": self.ok,
            "guests": [guest.as_dict() for guest in self.guests],
            "logs": str(self.run),
        }


def _checked(guest: GuestResult, fails: Mapping[str, str]) -> Check:
    parts = (guest.create_seconds, guest.boot_seconds, guest.steps_seconds)
    if _as_wanted(guest, fails):
        status, message = Status.PASSED, guest.sign if guest.booted else f"fails as it should: {guest.reason}"
    elif not guest.tried:
        status, message = Status.ERROR, guest.reason
    else:
        status, message = Status.FAILED, f"it boots, and should not ({guest.sign})" if guest.booted else guest.reason
    return Check(
        "lab.guests",
        guest.name or guest.config,
        status,
        message,
        details="\n".join((*guest.notes, *guest.log)),
        seconds=sum(part or 0.0 for part in parts),
        file=guest.config,
    )


def _as_wanted(guest: GuestResult, fails: Mapping[str, str]) -> bool:
    if guest.name in fails:
        return not guest.booted and re.search(fails[guest.name], guest.reason) is not None
    return guest.booted


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"
