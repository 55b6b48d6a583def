"""Running a command and what it cost."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import BuildError

_POLL_SECONDS = 0.02
# ninja's own status and the one that xenqemu asks ninja for
_STEP = re.compile(r"^(?:\[(?:\d+)/(\d+)\]|@xenqemu \d+ (\d+)@)", re.MULTILINE)
_TAIL = 15
# make's would start its own job server in a build; xenqemu's settings are those of who measures.
_DROPPED = ("XENQEMU_", "MAKE", "MFLAGS", "CCACHE_")


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds on the clock, CPU seconds of it and all of its children, its own peak memory.

    `peak_rss` is in bytes and of the process itself; children are not in it (see `run`).
    """

    wall: float
    cpu: float
    peak_rss: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of one after the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.peak_rss, other.peak_rss))

    def values(self, name: str) -> dict[str, float]:
        """Return the times as the figures `name`-cpu and `name`-wall."""
        return {f"{name}-cpu": self.cpu, f"{name}-wall": self.wall}


def peak_rss(status: str) -> int:
    """Return the peak memory in bytes that a `/proc/PID/status` tells, 0 where it tells none (a zombie's does not)."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def build_steps(log: str) -> int:
    """Return the number of steps that ninja counts in its log, 0 for a log without any."""
    return max((int(plain or ours) for plain, ours in _STEP.findall(log)), default=0)


def environment(cache: Path | None = None, base: Path | None = None) -> dict[str, str]:
    """Return the environment of a measured build: this process's, with Python's ninja in PATH.

    Compiler caches are off, or ccache has its files in `cache`. What lies below `base` it then looks up by relative
    paths, and it leaves the folder that a file is compiled in out of account: without either, a build with debug
    information never finds its own objects again from another folder (ccache(1), "base_dir" and "hash_dir").
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    result = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)} | {"PATH": path}
    if cache is None:
        return result | {"CCACHE_DISABLE": "1", "XENQEMU_LAUNCHER": "none"}
    result |= {"CCACHE_DIR": str(cache), "CCACHE_NOHASHDIR": "1", "CCACHE_MAXSIZE": "5G"}
    return result if base is None else result | {"CCACHE_BASEDIR": str(base)}


def run(argv: Sequence[str | Path], *, cwd: Path, log: Path, env: Mapping[str, str] | None = None) -> Cost:
    """Run `argv` with its output appended to `log` and return its cost.

    CPU time is what wait4(2) says: the process and every descendant that was waited for. The peak memory there is
    that of the largest process of all, a compiler; so the process's own is read from /proc while it runs, where it
    only ever grows. Raises `BuildError` with the end of the log when the command fails. It ends with this process.
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
        try:
            code, cpu, rss = _wait(process)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    wall = time.monotonic() - started
    # wait4 has reaped it, which the Popen object cannot know
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="backslashreplace").splitlines()[-_TAIL:])
        command = " ".join(os.fspath(word) for word in argv)
        raise BuildError(f"exit {process.returncode}: {command}\n{tail}", f"the whole log is {log}")
    return Cost(wall, cpu, rss)


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, float, int]:
    """Wait for the process and return its wait status, its CPU seconds, its peak memory."""
    rss = 0
    status = Path(f"/proc/{process.pid}/status")
    while True:
        pid, code, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            return code, usage.ru_utime + usage.ru_stime, rss
        rss = max(rss, peak_rss(status.read_text()))
        time.sleep(_POLL_SECONDS)


def quick(argv: Sequence[str | Path], *, cwd: Path, times: int, env: Mapping[str, str] | None = None) -> float:
    """Return the median seconds of `times` runs of a command that is too short to be polled.

    Raises `BuildError` when it fails.
    """
    walls = []
    for _ in range(times):
        started = time.monotonic()
        done = subprocess.run(argv, cwd=cwd, env=None if env is None else dict(env), check=False, capture_output=True)
        walls.append(time.monotonic() - started)
        if done.returncode:
            said = done.stderr.decode(errors="backslashreplace").strip()
            raise BuildError(f"exit {done.returncode}: {' '.join(os.fspath(word) for word in argv)}\n{said}")
    return statistics.median(walls)
