"""Contenders, figures and targets, as the TOML files beside this module have them, and what was measured."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from xenqemu.errors import UsageError

OURS = "xenqemu"
# In the order in which they are measured: what is built is then looked at.
PARTS = ("build", "size", "lab", "configs", "boots")
USUAL_PARTS = PARTS[:3]


@dataclass(frozen=True)
class Contender:
    """Whose figures are taken: see contenders.toml. One with a `binary` is a file that somebody has built already."""

    name: str
    title: str
    summary: str = ""
    program: str = ""
    configure: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    packaged: str = ""
    profile: str = ""
    xen: str = ""
    binary: Path | None = None

    @property
    def built(self) -> bool:
        """Whether it is built here, and not only looked at."""
        return bool(self.configure or self.profile)


@dataclass(frozen=True)
class Figure:
    """One thing that is measured, see figures.toml; what is measured is divided by `scale` to be in `unit`."""

    name: str
    title: str
    part: str
    unit: str = ""
    scale: float = 1
    median: bool = True
    plot: str = ""

    def show(self, value: float) -> str:
        """Return a measured value as text, in the figure's unit."""
        scaled = value / self.scale
        if not self.unit:
            return f"{scaled:,.0f}"
        return f"{scaled:,.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {self.unit}"


@dataclass(frozen=True)
class Target:
    """What is to be reached, see targets.toml. `base` is the figure of `against`, where it is another one."""

    name: str
    figure: str
    at_most: float
    against: str = ""
    base: str = ""


@dataclass(frozen=True)
class Results:
    """What was measured: for each contender, by figure, the values of all repetitions.

    `facts` say of what and where, `missing` what could not be measured and why, `rows` is what belongs to no contender.
    """

    contenders: tuple[Contender, ...]
    values: Mapping[str, Mapping[str, tuple[float, ...]]]
    facts: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    rows: tuple[Any, ...] = ()

    def value(self, contender: str, figure: str) -> float | None:
        """Return the median of a contender's values, None where there are none."""
        values = self.values.get(contender, {}).get(figure)
        return statistics.median(values) if values else None

    def ratio(self, contender: str, figure: str, against: str, base: str = "") -> float | None:
        """Return a contender's value as a share of another's (of its `base`, where that is given)."""
        ours, theirs = self.value(contender, figure), self.value(against, base or figure)
        return None if ours is None or not theirs else ours / theirs


@dataclass(frozen=True)
class Verdict:
    """What came of a target: the value (a share where the target is one), None when it was not measured."""

    target: Target
    figure: Figure
    value: float | None

    @property
    def reached(self) -> bool | None:
        """Whether it was reached, None when that is not known."""
        return None if self.value is None else self.value <= self.target.at_most

    @property
    def word(self) -> str:
        """What to say of it."""
        return {None: "not measured", True: "reached", False: "missed"}[self.reached]


@cache
def _read(name: str) -> Mapping[str, Any]:
    return tomllib.loads((resources.files("xenqemu.bench") / name).read_text(encoding="utf-8"))


def known_contenders() -> tuple[Contender, ...]:
    """Return the contenders of contenders.toml."""
    return tuple(_contender(name, data) for name, data in _read("contenders.toml").items())


def _contender(name: str, data: Mapping[str, Any]) -> Contender:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return Contender(name=name, **values)


def find_contenders(names: Sequence[str]) -> tuple[Contender, ...]:
    """Return the contenders called `names` (all when there are none). Raises `UsageError` for one that is unknown."""
    known = {contender.name: contender for contender in known_contenders()}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no contender '{name}'", f"name some of {', '.join(known)}")
    return tuple(known[name] for name in names or known)


def contenders_for(device_models: Sequence[Path | str], against: Sequence[str]) -> tuple[Contender, ...]:
    """Return who is measured: the contenders called `against` and the device models of a user's own behind them.

    Those are files, or names of packaged ones; without either, it is all contenders. Raises `UsageError`.
    """
    known = find_contenders(against) if against or not device_models else ()
    return (*known, *_own(device_models))


def _own(device_models: Sequence[Path | str]) -> tuple[Contender, ...]:
    """Return a contender for each device model; those of one name are told apart by a number."""
    found: dict[str, Contender] = {}
    taken = {contender.name for contender in known_contenders()}
    for model in device_models:
        plain = model if isinstance(model, str) else model.name
        name, number = plain, 1
        while name in found or name in taken:
            number += 1
            name = f"{plain}-{number}"
        if isinstance(model, str):
            found[name] = Contender(name, name, packaged=model)
        else:
            found[name] = Contender(name, name, binary=model.absolute())
    return tuple(found.values())


def figures() -> tuple[Figure, ...]:
    """Return all figures, in the order of tables."""
    return tuple(Figure(name=name, **data) for name, data in _read("figures.toml")["figure"].items())


def targets() -> tuple[Target, ...]:
    """Return all targets."""
    return tuple(Target(name=name, **data) for name, data in _read("targets.toml").items())


def judge(results: Results) -> tuple[Verdict, ...]:
    """Return what came of each target."""
    known = {figure.name: figure for figure in figures()}
    verdicts = []
    for target in targets():
        figure = known[target.figure]
        if target.against:
            value = results.ratio(OURS, target.figure, target.against, target.base)
        else:
            plain = results.value(OURS, target.figure)
            value = None if plain is None else plain / figure.scale
        verdicts.append(Verdict(target, figure, value))
    return tuple(verdicts)


def floor_of(target: Target) -> str:
    """Return the explanation of a target's floor, empty where nobody has written one."""
    path = resources.files("xenqemu.bench") / "floors" / f"{target.name}.md"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
