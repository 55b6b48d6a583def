"""Booting the boot sector guest again and again, unattended, each time in a virtual host of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xenqemu.bench.ours import command
from xenqemu.bench.rows import Row

_LIMIT = 45


@dataclass(frozen=True)
class Boots:
    """The seconds of each boot, from the command to its end, and the reasons of those that failed."""

    seconds: tuple[float, ...]
    failures: tuple[str, ...]

    def rows(self) -> tuple[Row, ...]:
        """Return what was measured; a boot that failed has no time."""
        booted = (
            Row("boot of a guest, base cached: median", "s", statistics.median(self.seconds), limit=_LIMIT),
            Row("boot of a guest, base cached: longest", "s", max(self.seconds), limit=_LIMIT),
        )
        count = len(self.seconds) + len(self.failures)
        return (
            *(booted if self.seconds else ()),
            Row(f"boots that failed, of {count}", "", len(self.failures), limit=0),
        )


def measure(program: Path, work: Path, count: int, say: Callable[[str], None]) -> Boots:
    """Boot the case `boot-sector` with the device model `program`, `count` times, one after another.

    The virtual host's base is prepared before the clock is started, in a state directory below `work`.
    """
    xenqemu: list[str | Path] = [command(), "--state-dir", work / "lab-state", "--quiet"]
    xenqemu += ["lab", "cases", "boot-sector", "--json", "--dm", program.absolute()]
    seconds, failures = [], []
    for number in range(count + 1):
        started = time.monotonic()
        done = subprocess.run(xenqemu, cwd=work, capture_output=True, text=True, check=False)
        taken = time.monotonic() - started
        if number == 0 and done.returncode == 0:
            continue  # that one prepared
        if done.returncode == 0:
            seconds.append(taken)
        else:
            failures.append(_reason(done))
        say(f"boot {number} of {count}: {f'failed: {failures[-1]}' if done.returncode else f'{taken:.1f} s'}")
    return Boots(tuple(seconds), tuple(failures))


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return done.stderr.strip() or f"exit {done.returncode}"
    if "error" in report:
        return str(report["error"]["message"])
    return "; ".join(guest["reason"] for guest in report["guests"])
