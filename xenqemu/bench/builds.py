"""What builds of a contender take: cold, again after a change, from a warm compiler cache, and with nothing to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from xenqemu.bench import configured, ours
from xenqemu.bench.ledger import Ledger, Values
from xenqemu.bench.model import Contender
from xenqemu.bench.process import environment
from xenqemu.proc import run
from xenqemu.ui import Ui


@dataclass(frozen=True)
class BuildJob:
    """What is built and how: the tarball, below which folder, with how many jobs, how often each is measured."""

    tarball: Path
    work: Path
    jobs: int
    repeat: int

    def inputs(self, contender: Contender) -> dict[str, object]:
        """Return all that decides on a measurement but the machine."""
        what = [contender.profile, *contender.configure, *contender.devices]
        return {
            "tarball": self.tarball.name,
            "size": self.tarball.stat().st_size,
            "jobs": self.jobs,
            "what": what,
            "compiler": _compiler(),
            "xenqemu": ours.fingerprint() if contender.profile else "",
        }

    def folder(self, contender: Contender) -> Path:
        """Return where the contender is built from these inputs; what was built from others is removed."""
        digest = sha256(json.dumps(self.inputs(contender)).encode()).hexdigest()[:12]
        top = self.work / "builds" / contender.name
        for old in top.glob("*/"):
            if old.name != digest:
                shutil.rmtree(old)
        return top / digest


@cache
def _compiler() -> str:
    """Return what the compiler of builds by hand says of itself."""
    return run(("cc", "--version")).stdout.partition("\n")[0]


def build_binary(contender: Contender, job: BuildJob, ui: Ui) -> Path:
    """Return the contender's device model, built unless it is there. Raises `BuildError`."""
    folder = job.folder(contender) / "cold-1"
    done = folder / "done"
    if not done.is_file():
        with ui.step(f"building {contender.title}"):
            _cold(contender, job, folder)
        done.touch()
    return binary_of(contender, folder)


def binary_of(contender: Contender, folder: Path) -> Path:
    """Return the device model that was built in the folder."""
    if contender.profile:
        return ours.OurPlace(folder, contender.profile).binary
    place = configured.find_place(contender, folder)
    return place.binary if place else folder / contender.program


def measure_builds(contender: Contender, job: BuildJob, ledger: Ledger, ui: Ui) -> Iterator[Values]:
    """Yield the figures of each build of the contender as they come, from the ledger where they are there.

    Raises `BuildError`.
    """
    inputs = job.inputs(contender)

    def once(name: str, title: str, measure: Callable[..., Values], *words: Any, **named: Any) -> Values:
        def told() -> Values:
            with ui.step(f"{contender.title}: {title}"):
                return measure(*words, **named)

        return ledger.once(f"{contender.name}.build.{name}", inputs, told)

    turns = [(number, f"{number} of {job.repeat}") for number in range(1, job.repeat + 1)]
    for number, turn in turns:
        yield once(f"cold-{number}", f"cold build, {turn}", _cold_values, contender, job, number)
    builds = _OfOurs(contender, job) if contender.profile else _ByHand(contender, job)
    yield once("noop", "nothing to do", builds.nothing_to_do)
    for number, turn in turns:
        yield once(f"warm-{number}", f"warm compiler cache, {turn}", builds.warm, number)
    for number, turn in turns:
        yield once(f"edit-{number}", f"after a change, {turn}", builds.edited, f"change {number}", cached=False)
        yield once(f"edit-cached-{number}", f"the same, cached, {turn}", builds.edited, f"turn {number}", cached=True)


def _cold_values(contender: Contender, job: BuildJob, number: int) -> Values:
    folder = job.folder(contender) / f"cold-{number}"
    values = _cold(contender, job, folder)
    if number == 1:
        (folder / "done").touch()
    else:
        shutil.rmtree(folder)  # the first one is looked at, all of them take gigabytes
    return values


def _cold(contender: Contender, job: BuildJob, folder: Path) -> Values:
    if contender.profile:
        place = ours.make_anew(ours.OurPlace(folder, contender.profile))
        cost = ours.compile_ours(place, job.tarball, job.jobs)
        # Starting the program, and everything between the phases, counts as preparing.
        more = {"prepare-wall": cost.wall - ours.all_phases(place), "peak-rss": cost.peak_rss}
        return {**cost.values("cold"), "steps": ours.steps(place), **more}
    by_hand, cost = configured.compile_cold(contender, job.tarball, folder, job.jobs)
    return {**cost.values("cold"), "steps": configured.steps(by_hand)}


class _ByHand:
    """Builds of an upstream QEMU: what was configured once is made again by ninja."""

    def __init__(self, contender: Contender, job: BuildJob) -> None:
        self._contender = contender
        self._job = job
        self._folder = job.folder(contender)
        self._cache = self._folder / "ccache"

    def _built(self, *, cached: bool) -> configured.Place:
        """Return the cold build or the one that filled the cache, made again where somebody has removed it."""
        folder, cache = (self._folder / "filled", self._cache) if cached else (self._folder / "cold-1", None)
        place = configured.find_place(self._contender, folder)
        if place is None:
            place, _ = configured.compile_cold(self._contender, self._job.tarball, folder, self._job.jobs, cache)
        return place

    def nothing_to_do(self) -> Values:
        return {"noop-wall": configured.nothing_to_do(self._built(cached=False))}

    def warm(self, number: int) -> Values:
        self._built(cached=True)
        folder = self._folder / f"warm-{number}"
        _, cost = configured.compile_cold(self._contender, self._job.tarball, folder, self._job.jobs, self._cache)
        shutil.rmtree(folder)
        return cost.values("warm")

    def edited(self, text: str, *, cached: bool) -> Values:
        place = self._built(cached=cached)
        configured.edit(place.tree, text)
        env = environment(self._cache, self._folder / "filled") if cached else environment()
        cost = configured.compile_again(place, self._job.jobs, env)
        return cost.values("edit-cached" if cached else "edit")


class _OfOurs:
    """Builds of xenqemu: the same command again, with the tarball or with a checkout that was changed."""

    def __init__(self, contender: Contender, job: BuildJob) -> None:
        self._contender = contender
        self._job = job
        self._folder = job.folder(contender)
        self._cache = self._folder / "ccache"

    def _place(self, name: str) -> ours.OurPlace:
        return ours.OurPlace(self._folder / name, self._contender.profile)

    def nothing_to_do(self) -> Values:
        place = self._place("cold-1")
        ours.compile_ours(place, self._job.tarball, self._job.jobs)  # somebody may have removed it
        noop = ours.nothing_to_do(place, self._job.tarball, self._job.jobs)
        return {"noop-wall": noop, "help-wall": ours.ask_for_help(place.folder)}

    def warm(self, number: int) -> Values:
        ours.compile_ours(self._place("filled"), self._job.tarball, self._job.jobs, self._cache)
        place = ours.make_anew(self._place(f"warm-{number}"))
        cost = ours.compile_ours(place, self._job.tarball, self._job.jobs, self._cache)
        shutil.rmtree(place.folder)
        return cost.values("warm")

    def edited(self, text: str, *, cached: bool) -> Values:
        """Measure what a developer does: change the checkout, build it again."""
        place, cache = self._place("edited-cached" if cached else "edited"), self._cache if cached else None
        top = place.folder / "checkout"
        if not (top / "unpacked").is_file():
            shutil.rmtree(top, ignore_errors=True)
            configured.unpack(self._job.tarball, top)
            (top / "unpacked").touch()
        tree = next(path for path in top.iterdir() if path.is_dir())
        ours.compile_ours(place, tree, self._job.jobs, cache)  # nothing to do but for the first time
        configured.edit(tree, text)
        return ours.compile_ours(place, tree, self._job.jobs, cache).values("edit-cached" if cached else "edit")
