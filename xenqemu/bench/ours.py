"""xenqemu's own build of the same tarball, by the command, with a state directory of its own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from xenqemu.bench.process import Cost, build_steps, environment, quick, run
from xenqemu.errors import BuildError
from xenqemu.resources import data_dir

_NOOP_RUNS = 5
_HELP_RUNS = 10


@dataclass(frozen=True)
class OurPlace:
    """Where one of our builds is: its state directory, and the folder that it is delivered to."""

    folder: Path
    profile: str

    @property
    def log(self) -> Path:
        """What the command said."""
        return self.folder / "xenqemu-build.log"

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.folder / "state"

    @property
    def out(self) -> Path:
        """What it is delivered to."""
        return self.folder / "dist"

    @property
    def binary(self) -> Path:
        """The device model, once it is built."""
        manifest = json.loads((self.out / "manifest.json").read_bytes())
        return self.out / str(manifest["program"])


def command() -> Path:
    """Return the `xenqemu` of this environment."""
    return Path(sys.executable).with_name("xenqemu")


@cache
def fingerprint() -> str:
    """Return a digest of this xenqemu: its code, its series, its target."""
    package = Path(__file__).parents[1]
    digest = sha256()
    for top in dict.fromkeys((package, data_dir("patches"), data_dir("targets"))):
        for path in sorted(path for path in top.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            digest.update(f"{path.relative_to(top)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def fetch(series: str, folder: Path, state: Path | None = None) -> Path:
    """Return the source tarball of a QEMU series from the machine's package archive.

    It is downloaded into the state directory `state` (None: one below `folder`). Raises `BuildError` when xenqemu
    fails, or leaves no tarball.
    """
    state = state or folder / "fetch"
    words: list[str | Path] = [command(), "--state-dir", state, "build", "--qemu", f"distro:{series}", "--dry-run"]
    run(words, cwd=folder, log=folder / "fetch.log", env=environment())
    names = (f"qemu_{series}+*.orig.tar.*", f"qemu_{series}.*.orig.tar.*")
    found = [path for name in names for path in state.rglob(name) if path.is_file() and path.suffix != ".asc"]
    if not found:
        raise BuildError(f"there is no tarball of QEMU {series} below {state}", "name one with --tarball")
    return max(found, key=lambda path: path.stat().st_mtime)


def compile_ours(place: OurPlace, qemu: Path, jobs: int, cache: Path | None = None) -> Cost:
    """Call `xenqemu build` for the source `qemu`, a tarball or a tree, and return what it took. Raises `BuildError`."""
    place.folder.mkdir(parents=True, exist_ok=True)
    return run(_words(place, qemu, jobs, cache), cwd=place.folder, log=place.log, env=environment(cache))


def make_anew(place: OurPlace) -> OurPlace:
    """Remove what is at the place and return it: a cold build that was interrupted is none."""
    shutil.rmtree(place.folder, ignore_errors=True)
    return place


def nothing_to_do(place: OurPlace, qemu: Path, jobs: int) -> float:
    """Return the seconds that the same build takes when it is there already. Raises `BuildError`."""
    return quick(_words(place, qemu, jobs, None), cwd=place.folder, times=_NOOP_RUNS, env=environment())


def ask_for_help(folder: Path) -> float:
    """Return the seconds that `xenqemu --help` takes. Raises `BuildError`."""
    return quick([command(), "--help"], cwd=folder, times=_HELP_RUNS, env=environment())


def steps(place: OurPlace) -> int:
    """Return how many steps the newest build had."""
    logs = sorted(place.state.glob("artifacts/*/build.log"), key=lambda path: path.stat().st_mtime)
    return build_steps(logs[-1].read_text(errors="backslashreplace")) if logs else 0


def phase_seconds(timings: Mapping[str, object] | object) -> float:
    """Return the seconds on the clock of all phases in an artifact's `timings.json`."""
    if not isinstance(timings, Mapping):
        return 0.0
    values = (value.get("wall", 0.0) if isinstance(value, Mapping) else value for value in timings.values())
    return float(sum(value for value in values if isinstance(value, int | float)))


def all_phases(place: OurPlace) -> float:
    """Return the seconds of configure, compile and install of the place's only artifact."""
    (timings,) = place.state.glob("artifacts/*/timings.json")
    return phase_seconds(json.loads(timings.read_bytes()))


def _words(place: OurPlace, qemu: Path, jobs: int, cache: Path | None) -> list[str | Path]:
    words: list[str | Path] = [command(), "--state-dir", place.state, "build", "--qemu", qemu, "--out", place.out]
    words += ["--profile", place.profile, "--jobs", str(jobs)]
    return [*words, "--launcher", "ccache"] if cache else words
