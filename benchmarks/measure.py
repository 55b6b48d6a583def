"""Running a command and what it cost."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.02
# ninja's own status and the one that xenqemu asks ninja for
_STEP = re.compile(r"^(?:\[(?:\d+)/(\d+)\]|@xenqemu \d+ (\d+)@)", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds on the clock, CPU seconds of it and all of its children, its own peak memory.

    `peak_rss` is in bytes and of the process itself; children are not in it (see `run`).
    """

    wall: float
    cpu: float
    peak_rss: int

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of one after the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.peak_rss, other.peak_rss))


def peak_rss(status: str) -> int:
    """Return the peak memory in bytes that a `/proc/PID/status` tells, 0 where it tells none (a zombie's does not)."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def build_steps(log: str) -> int:
    """Return the number of steps that ninja counts in its log, 0 for a log without any."""
    return max((int(plain or ours) for plain, ours in _STEP.findall(log)), default=0)


def run(argv: Sequence[str | Path], *, cwd: Path, log: Path, env: Mapping[str, str] | None = None) -> Cost:
    """Run `argv` with its output appended to `log` and return its cost.

    CPU time is what wait4(2) says: the process and every descendant that was waited for. The peak memory there is
    that of the largest process of all, a compiler; so the process's own is read from /proc while it runs, where it
    only ever grows. Raises `RuntimeError` with the end of the log when the command fails.
    """
    started = time.monotonic()
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [os.fspath(word) for word in argv],
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        rss = 0
        status = Path(f"/proc/{process.pid}/status")
        while True:
            pid, code, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            rss = max(rss, peak_rss(status.read_text()))
            time.sleep(_POLL_SECONDS)
    wall = time.monotonic() - started
    # wait4 has reaped it, which the Popen object cannot know
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="backslashreplace").splitlines()[-15:])
        raise RuntimeError(f"exit {process.returncode}: {' '.join(os.fspath(word) for word in argv)}\n{tail}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, rss)


def quick(argv: Sequence[str | Path], *, cwd: Path, times: int, env: Mapping[str, str] | None = None) -> float:
    """Return the median seconds of `times` runs of a command that is too short to be polled.

    Raises `subprocess.CalledProcessError` when it fails.
    """
    walls = []
    for _ in range(times):
        started = time.monotonic()
        subprocess.run(argv, cwd=cwd, env=None if env is None else dict(env), check=True, capture_output=True)
        walls.append(time.monotonic() - started)
    return statistics.median(walls)
