"""xenqemu's build of the same tarball, with an empty state directory."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.guide import environment
from benchmarks.measure import Cost, build_steps, quick, run

_NOOP_RUNS = 5
_HELP_RUNS = 10


@dataclass(frozen=True)
class OurBuild:
    """What `xenqemu build` took and left behind; `prepare`, `noop` and `help` are seconds."""

    total: Cost
    prepare: float
    steps: int
    program: Path
    noop: float
    help: float


def command() -> Path:
    """Return the `xenqemu` of this environment."""
    return Path(sys.executable).with_name("xenqemu")


def fetch(series: str, work: Path) -> Path:
    """Return the source tarball of a QEMU series from the machine's package archive, downloaded below `work`.

    Raises `RuntimeError` when xenqemu fails, or leaves no tarball.
    """
    state = work / "fetch"
    words: list[str | Path] = [command(), "--state-dir", state, "build", "--qemu", f"distro:{series}"]
    words += ["--dry-run"]
    run(words, cwd=work, log=work / "fetch.log", env=environment())
    found = [path for path in state.rglob("*.tar.*") if path.is_file() and ".orig" in path.name]
    if not found:
        raise RuntimeError(f"no tarball below {state}; name one with --tarball")
    return max(found, key=lambda path: path.stat().st_size)


def phase_seconds(timings: object) -> float:
    """Return the seconds on the clock of all phases in an artifact's `timings.json`."""
    if not isinstance(timings, dict):
        return 0.0
    values = (value.get("wall", 0.0) if isinstance(value, dict) else value for value in timings.values())
    return float(sum(value for value in values if isinstance(value, int | float)))


def build(tarball: Path, work: Path, jobs: int) -> OurBuild:
    """Build `tarball` below `work`: cold, then again with nothing to do.

    Preparing is the cold build's time on the clock less that of configure, compile and install, so that starting
    the program and everything between the phases counts as preparing. Raises `RuntimeError` when a build fails.
    """
    state, out, log = work / "state", work / "dist", work / "xenqemu-build.log"
    words: list[str | Path] = [command(), "--state-dir", state, "build", "--qemu", tarball, "--out", out]
    words += ["--jobs", str(jobs)]
    total = run(words, cwd=work, log=log, env=environment())
    manifest = json.loads((out / "manifest.json").read_text())
    (timings,) = state.glob("artifacts/*/timings.json")
    return OurBuild(
        total=total,
        prepare=total.wall - phase_seconds(json.loads(timings.read_text())),
        steps=build_steps((timings.parent / "build.log").read_text(errors="backslashreplace")),
        program=out / manifest["program"],
        noop=quick(words, cwd=work, times=_NOOP_RUNS, env=environment()),
        help=quick([command(), "--help"], cwd=work, times=_HELP_RUNS, env=environment()),
    )
