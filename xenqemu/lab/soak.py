"""Whether guests leave anything behind in dom0: created, run and destroyed, saved and restored, over and over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from xenqemu.errors import LabError
from xenqemu.lab.boot import Wish, boot_guest
from xenqemu.lab.host import Host
from xenqemu.lab.model import HostError
from xenqemu.lab.staging import StagedGuest
from xenqemu.lab.steps import Dom0Step, GuestStep, HearsStep, Step
from xenqemu.results import Check, Results, Status
from xenqemu.state import write_atomic
from xenqemu.ui import Ui

# The first guest of a kind makes what then stays: folders in xenstore, modules, slabs, the page tables of daemons.
WARM_UP = 3
# One guest in so many has a network card: its interfaces and hotplug scripts leave most, and take 3.5 s.
CARD_EVERY = 4
_GUEST_TIMEOUT = 300.0
_SAVE_SECONDS = 120.0
_MIB = 1 << 20
# What may be more in the end, or less where that is said: memory of a kernel that has run for an hour, and what its
# caches and per-processor batches hold (fs/file_table.c counts open files in such). All else has to be as it was.
_ALLOWED: Mapping[str, float] = {
    "dom0 memory available": 8 * _MIB,
    "dom0 slab": 8 * _MIB,
    "dom0 open files": 64,
    "Xen free memory": 2 * _MIB,
}
_LESS_IS_WORSE = ("dom0 memory available", "Xen free memory")
_SHOWN = 3


@dataclass(frozen=True)
class SoakPlan:
    """How often: `cycles` of create, run, destroy; `saves` of save and restore."""

    cycles: int = 100
    saves: int = 20


@dataclass(frozen=True)
class SoakItem:
    """One figure before and after (bytes or numbers), what it may differ by, and the names of what is new."""

    name: str
    before: float
    after: float
    allowed: float = 0
    new: tuple[str, ...] = ()

    @property
    def grown(self) -> float:
        """By how much it is worse than before."""
        return self.before - self.after if self.name in _LESS_IS_WORSE else self.after - self.before

    @property
    def leaks(self) -> bool:
        """Whether that is more than it may be."""
        return self.grown > self.allowed or bool(self.new)


@dataclass(frozen=True)
class SoakReport:
    """What came of it: how many of each cycle were made in how many seconds, and what dom0 had before and after."""

    xen: str
    device_model: str
    cycles: int
    saves: int
    seconds: float
    items: tuple[SoakItem, ...]
    run: Path

    @property
    def leaks(self) -> tuple[SoakItem, ...]:
        """The figures that are worse than they may be."""
        return tuple(item for item in self.items if item.leaks)

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the columns and rows of a table of the figures, memory in MiB."""
        rows: list[tuple[str, ...]] = []
        for item in self.items:
            unit = _MIB if item.allowed >= _MIB else 1
            verdict = "leaks" if item.leaks else "ok"
            if item.new:
                verdict += f": {', '.join(item.new[:_SHOWN])}" + (" ..." if len(item.new) > _SHOWN else "")
            before, after, grown = (_number(value / unit) for value in (item.before, item.after, item.grown))
            rows.append((item.name + (" (MiB)" if unit > 1 else ""), before, after, grown, verdict))
        return ("item", "before", "after", "worse by", "result"), rows

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        items = [{**asdict(item), "grown": item.grown, "leaks": item.leaks} for item in self.items]
        return {**asdict(self), "run": str(self.run), "items": items, "leaks": [item.name for item in self.leaks]}

    def results(self) -> Results:
        """Return the report for JUnit XML and summaries: a figure that is worse than it may be fails."""
        facts = {"device model": self.device_model, "Xen": self.xen, "guests": str(self.cycles), "logs": str(self.run)}
        rows = self.table()[1]
        checks = tuple(
            Check(
                "lab.soak",
                item.name,
                Status.FAILED if item.leaks else Status.PASSED,
                f"{row[1]} before, {row[2]} after",
                "\n".join(item.new),
            )
            for item, row in zip(self.items, rows, strict=True)
        )
        return Results("what guests leave behind in dom0", checks, self.seconds, facts)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def soak(host: Host, guests: Sequence[StagedGuest], saved: StagedGuest, plan: SoakPlan, logs: Path, ui: Ui) -> None:
    """Put `host` through `plan` and write before.json and after.json, what `measure` gives, into the folder `logs`.

    `guests` are a guest without a network card and one with, `saved` is a Linux guest without one; their own signs are
    not asked for, the words of the project's guests are. Raises `LabError` for a guest that does not come up or does
    not go on, `HostError` when the host fails.
    """
    plain, with_card = guests
    turns = [with_card if turn % CARD_EVERY == 0 else plain for turn in range(plan.cycles)]
    with ui.progress(f"warming up: {WARM_UP} guests, one saved and restored") as progress:
        for turn, guest in enumerate((with_card, plain, with_card)[:WARM_UP]):
            _cycle(host, guest, (), logs)
            progress.update(turn + 1, WARM_UP)
        _cycle(host, saved, _saves(1), logs)
    _keep(measure(host), logs / "before.json")
    with ui.progress(f"{plan.cycles} guests created, run and destroyed") as progress:
        for turn, guest in enumerate(turns):
            _cycle(host, guest, (), logs)
            progress.update(turn + 1, plan.cycles)
    if plan.saves:
        with ui.step(f"a guest saved and restored {plan.saves} times"):
            _cycle(host, saved, _saves(plan.saves), logs)
    _keep(measure(host), logs / "after.json")


def _saves(number: int) -> tuple[Step, ...]:
    once: tuple[Step, ...] = (
        Dom0Step(("xl", "save", "{name}", "/root/saved"), within=_SAVE_SECONDS),
        Dom0Step(("xl", "restore", "/root/saved"), within=_SAVE_SECONDS),
        Dom0Step(("rm", "/root/saved")),
        Dom0Step(("xl", "list", "{name}")),
        HearsStep("guest: alive"),
    )
    return (GuestStep("(while sleep 1; do say alive; done) &"), *once * number, GuestStep("true"))


def _cycle(host: Host, guest: StagedGuest, steps: tuple[Step, ...], logs: Path) -> None:
    wish = Wish(_GUEST_TIMEOUT, expect="xenqemu-guest: up ", steps=steps, files={})
    result = boot_guest(host, guest, wish, logs)
    if not result.booted:
        raise LabError(f"{result.name}: {result.reason}", f"its logs are in {logs}")
    host.run(("xl", "destroy", guest.view.name), timeout=60)


def measure(host: Host) -> dict[str, Any]:
    """Return what dom0 has: by name a number or a sorted list of names. What guests logged is thrown away first.

    Raises `HostError`.
    """
    script = (resources.files("xenqemu.lab") / "soak-figures.sh").read_bytes()
    host.write("/run/xenqemu-figures", script)
    done = host.run(("bash", "/run/xenqemu-figures"), timeout=120)
    if done.code:
        raise HostError(
            f"dom0's figures could not be taken: {done.stderr.decode(errors='replace').strip()}", "see the console log"
        )
    return read_figures(done.stdout.decode(errors="replace"))


def read_figures(text: str) -> dict[str, Any]:
    """Return the figures in the lines `NAME=NUMBER` and `NAME:ENTRY` of `text`."""
    figures: dict[str, Any] = {}
    for line in text.splitlines():
        name, mark, rest = line.partition("=")
        if mark and ":" not in name and rest.strip().isdigit():
            figures[name] = int(rest)
            continue
        name, mark, rest = line.partition(":")
        if mark:
            figures.setdefault(name, []).extend([rest] if rest else [])
    return {name: sorted(value) if isinstance(value, list) else value for name, value in figures.items()}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[SoakItem, ...]:
    """Return each figure of two measurements beside one another; lists are compared by their entries."""
    items = []
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name, 0), after.get(name, 0)
        if isinstance(old, list) or isinstance(new, list):
            more = Counter(new or ()) - Counter(old or ())
            items.append(SoakItem(name, len(old or ()), len(new or ()), 0, tuple(sorted(more.elements()))))
        else:
            items.append(SoakItem(name, old, new, _ALLOWED.get(name, 0)))
    return tuple(items)


def report(xen: str, device_model: Path, plan: SoakPlan, seconds: float, logs: Path) -> SoakReport:
    """Return what came of a soak whose measurements are in the folder `logs`, and keep it there as soak.json."""
    before, after = (json.loads((logs / name).read_bytes()) for name in ("before.json", "after.json"))
    made = SoakReport(xen, str(device_model), plan.cycles, plan.saves, seconds, compare(before, after), logs)
    _keep(made.as_dict(), logs / "soak.json")
    return made


def _keep(figures: Mapping[str, Any], path: Path) -> None:
    write_atomic(path, json.dumps(figures, indent=1).encode())
