"""Where a build's time went: its phases, ninja's commands as a picture, the slowest of them, and the areas of QEMU."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from xenqemu.build.ninja_log import Step
from xenqemu.report.model import Cell, Column, Drawn, Phase, Table, Timeline
from xenqemu.report.words import counted, format_time, number, table, time_cells

WIDTH = 1000
LANE, BAR = 20, 18
# Thinner than this a bar is not seen; between two there is a gap of half as much.
_THIN = 0.6
_SLOWEST = 40
_MARKS = 4
_PHASES = ("configure", "compile", "install")
# Of a compiler's outputs, meson makes the name from the source's path (`object_filename_from_source` in its backends).
_OBJECT = re.compile(r"(?:^|/)(?P<stem>[^/]+)\.o$")
_GENERATED = "meson-generated_.._"


@dataclass(frozen=True)
class Kind:
    """A kind of command, and the pattern of its output."""

    name: str
    title: str
    output: re.Pattern[str]


@cache
def load_kinds() -> tuple[Kind, ...]:
    """Return the kinds of kinds.toml; the last one takes everything."""
    data = tomllib.loads(Path(__file__).with_name("kinds.toml").read_text(encoding="utf-8"))
    return tuple(Kind(one["name"], one["title"], re.compile(one["output"])) for one in data["kind"])


def kind_of(output: str) -> Kind:
    """Return the kind of the command that made `output`."""
    return next(kind for kind in load_kinds() if kind.output.search(output))


def in_lanes(steps: Iterable[Step]) -> list[tuple[int, Step]]:
    """Return each step with a lane in which nothing else ran meanwhile, as few lanes as that takes."""
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    placed: list[tuple[int, Step]] = []
    count = 0
    for step in sorted(steps, key=lambda step: (step.start, step.end, step.output)):
        while busy and busy[0][0] <= step.start:
            heappush(free, heappop(busy)[1])
        if free:
            lane = heappop(free)
        else:
            lane, count = count, count + 1
        heappush(busy, (step.end, lane))
        placed.append((lane, step))
    return placed


def area_of(output: str, areas: Sequence[str]) -> str:
    """Return the folder of QEMU's source that an object was compiled from, as far as its name tells.

    `areas` are the folders that there are, because meson writes both `/` and `_` as `_`.
    """
    found = _OBJECT.search(output)
    if found is None:
        return ""
    stem = found["stem"]
    if stem.startswith(_GENERATED):
        return "generated code"
    fitting = [area for area in areas if stem.startswith(area.replace("/", "_") + "_")]
    return max(fitting, key=len, default="others")


def build_timeline(timings: Mapping[str, Any], steps: Sequence[Step], areas: Sequence[str]) -> Timeline:
    """Return where the time went, as far as it is known.

    `timings` are the seconds of each phase, `steps` ninja's commands, `areas` the folders of QEMU's source.
    """
    placed = in_lanes(steps)
    by_kind: dict[Kind, list[tuple[int, Step]]] = {}
    for lane, step in placed:
        by_kind.setdefault(kind_of(step.output), []).append((lane, step))
    end = max((step.end for step in steps), default=0)
    tables = (_slowest(steps), _areas(steps, areas)) if steps else ()
    return Timeline(
        phases=_phases(timings),
        lanes=max((lane + 1 for lane, _ in placed), default=0),
        drawn=tuple(_draw(kind, by_kind[kind], end) for kind in load_kinds() if kind in by_kind),
        marks=tuple(format_time(end * part / _MARKS) if part else "0" for part in range(_MARKS + 1)) if steps else (),
        sentence=_sentence(steps, end) if steps else "",
        tables=tuple(one for one in tables if one.rows),
    )


def _phases(timings: Mapping[str, Any]) -> tuple[Phase, ...]:
    seconds = {name: number(table(timings, name), "wall") or 0.0 for name in _PHASES}
    whole = sum(seconds.values())
    phases, x = [], 0.0
    for name, wall in seconds.items():
        if wall <= 0:
            continue
        width = WIDTH * wall / whole
        cpu = number(table(timings, name), "cpu")
        said = f"{format_time(wall * 1000)}{f', processor {format_time(cpu * 1000)}' if cpu is not None else ''}"
        phases.append(Phase(name, round(x, 1), round(width, 1), said))
        x += width
    return tuple(phases)


def _draw(kind: Kind, placed: Sequence[tuple[int, Step]], end: int) -> Drawn:
    parts = []
    for lane, step in placed:
        x = WIDTH * step.start / (end or 1)
        width = max(_THIN, WIDTH * step.milliseconds / (end or 1) - _THIN / 2)
        parts.append(f"M{x:.1f} {lane * LANE + 1}h{width:.1f}v{BAR}h-{width:.1f}z")
    spent = sum(step.milliseconds for _, step in placed)
    return Drawn(kind.name, kind.title, f"{counted(len(placed), 'command')}, {format_time(spent)}", "".join(parts))


def _sentence(steps: Sequence[Step], end: int) -> str:
    spent = sum(step.milliseconds for step in steps)
    at_once = f", {spent / end:.1f} at once on average" if end else ""
    return f"{counted(len(steps), 'command')} in {format_time(end)}{at_once}"


def _slowest(steps: Sequence[Step]) -> Table:
    slowest = sorted(steps, key=lambda step: (-step.milliseconds, step.output))[:_SLOWEST]
    times = time_cells([step.milliseconds for step in slowest])
    rows = tuple(
        (Cell(step.output), Cell(kind_of(step.output).title), Cell(format_time(step.start), step.start), time)
        for step, time in zip(slowest, times, strict=True)
    )
    columns = (
        Column("output", code=True),
        Column("kind"),
        Column("began at", number=True),
        Column("took", number=True),
    )
    return Table("slowest", f"The {counted(len(rows), 'slowest command')}", columns, rows)


def _areas(steps: Sequence[Step], areas: Sequence[str]) -> Table:
    spent: dict[str, list[int]] = {}
    for step in steps:
        if areas and (area := area_of(step.output, areas)):
            spent.setdefault(area, []).append(step.milliseconds)
    ordered = sorted(spent.items(), key=lambda item: (-sum(item[1]), item[0]))
    times = time_cells([sum(taken) for _, taken in ordered])
    rows = tuple(
        (Cell(area), Cell(str(len(taken)), len(taken)), time)
        for (area, taken), time in zip(ordered, times, strict=True)
    )
    columns = (Column("folder of QEMU", code=True), Column("objects", number=True), Column("took", number=True))
    return Table("time-by-area", "Compiling, by folder", columns, rows)
