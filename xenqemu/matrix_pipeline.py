"""Many device models in one go: each QEMU for each Xen with each profile, built and, if wanted, booted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenqemu.errors import EXIT_LAB, EXIT_OK, UsageError, XenqemuError
from xenqemu.results import Check, Results, Status
from xenqemu.state import StateDir, why_not_writable
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from xenqemu.build.model import BuildOptions
    from xenqemu.lab.cases import Case

_SERIES = re.compile(r"\d+\.\d+(\.\d+)?")
_SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class Cell:
    """One combination, as the user named its parts: a QEMU and a Xen by release (`10.2`) or as `build` takes them."""

    qemu: str
    xen: str
    profile: str

    @property
    def name(self) -> str:
        """What the folder of its result is called."""
        return "-".join(re.sub(r"[^\w.+]+", "_", part).strip("_") for part in (self.qemu, self.xen, self.profile))


@dataclass(frozen=True)
class MatrixRequest:
    """Which combinations to build into folders of `out`, with what options; `boot` are the guests for each of them.

    `shard` is which part of them is done here, and how many parts there are.
    """

    qemus: Sequence[str]
    xens: Sequence[str]
    profiles: Sequence[str]
    options: BuildOptions
    out: Path
    boot: Sequence[Case] = ()
    shard: tuple[int, int] = (1, 1)

    def cells(self) -> tuple[Cell, ...]:
        """Return the combinations of this shard: neighbours share their source, patched tree and most objects."""
        cells = tuple(Cell(*parts) for parts in product(self.qemus, self.xens, self.profiles))
        number, shards = self.shard
        return cells[(number - 1) * len(cells) // shards : number * len(cells) // shards]


@dataclass(frozen=True)
class CellResult:
    """What came of a combination: the program, or why there is none; `guests` are those that did not boot, with why.

    `cached` is whether it was built before; times are in seconds, `size` is in bytes.
    """

    cell: Cell
    binary: Path | None = None
    key: str = ""
    cached: bool = False
    size: int = 0
    build_seconds: float = 0
    booted: int = 0
    boot_seconds: float = 0
    guests: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    exit_code: int = EXIT_OK

    @property
    def ok(self) -> bool:
        """Whether it was built, and its guests booted."""
        return self.exit_code == EXIT_OK

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "qemu": self.cell.qemu,
            "xen": self.cell.xen,
            "profile": self.cell.profile,
            "ok": self.ok,
            "binary": self.binary,
            "key": self.key,
            "cached": self.cached,
            "size": self.size,
            "build_seconds": round(self.build_seconds, 1),
            "boot_seconds": round(self.boot_seconds, 1),
            "booted": self.booted,
            "failed": [{"guest": name, "reason": why} for name, why in self.guests],
            "problem": self.problem,
            "exit_code": self.exit_code,
        }


def parse_shard(text: str) -> tuple[int, int]:
    """Return which part of how many `text` (`2/3`) names. Raises `UsageError`."""
    match = _SHARD.fullmatch(text)
    number, shards = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= shards:
        raise UsageError(f"--shard {text} is no part of a whole", "name the first of three parts as 1/3")
    return number, shards


def run_matrix(request: MatrixRequest, state: StateDir, ui: Ui) -> tuple[CellResult, ...]:
    """Build each combination of the shard, boot its guests, and return what came of each; one that fails stops none.

    Raises `UsageError` for a profile that does not exist, two combinations of one name, and a folder that cannot be
    written, before anything is built.
    """
    from xenqemu.target.profile import load_profile

    cells = request.cells()
    for profile in dict.fromkeys(request.profiles):
        load_profile(profile)
    if len({cell.name for cell in cells}) < len(cells):
        raise UsageError("a combination is named twice", "name each QEMU, Xen and profile once")
    reason = why_not_writable(request.out)
    if reason:
        raise UsageError(f"nothing can be put into {request.out}: {reason}", "name another folder as --out")
    results = []
    for number, cell in enumerate(cells, 1):
        with ui.step(f"{number} of {len(cells)}: QEMU {cell.qemu} for Xen {cell.xen}, profile {cell.profile}"):
            result = _one(cell, request, state, ui)
        if result.problem:
            ui.warn(f"{cell.name}: {result.problem}")
        results.append(result)
    return tuple(results)


def _one(cell: Cell, request: MatrixRequest, state: StateDir, ui: Ui) -> CellResult:
    from xenqemu.pipeline import BuildRequest, Destination, carry_out, deliver, plan_build
    from xenqemu.source import parse_source

    started = time.monotonic()
    try:
        qemu = parse_source(f"distro:{cell.qemu}" if _SERIES.fullmatch(cell.qemu) else cell.qemu)
        plan = plan_build(BuildRequest(qemu, _xen(cell.xen), cell.profile, request.options, True), state, ui)
        binary = deliver(carry_out(plan, state, ui), plan, Destination(out=request.out / cell.name), ui)
    except XenqemuError as error:
        return CellResult(
            cell, build_seconds=time.monotonic() - started, problem=error.message, exit_code=error.exit_code
        )
    built = CellResult(
        cell, binary, plan.key, plan.artifact is not None, binary.stat().st_size, time.monotonic() - started
    )
    return _booted(built, request.boot, state, ui) if request.boot else built


def _xen(name: str) -> str:
    """Return what `build --xen` takes for `name`, which may be a release."""
    from xenqemu.xen import of_release

    return of_release(name) if _SERIES.fullmatch(name) else name


def _booted(built: CellResult, cases: Sequence[Case], state: StateDir, ui: Ui) -> CellResult:
    from xenqemu.boot_pipeline import BootRequest, boot_cases

    started = time.monotonic()
    try:
        with boot_cases(cases, BootRequest(device_model=built.binary), state, ui) as booted:
            guests = booted.report.guests
    except XenqemuError as error:
        return replace(built, boot_seconds=time.monotonic() - started, problem=error.message, exit_code=error.exit_code)
    failed = tuple((guest.name, guest.reason) for guest in guests if not guest.booted)
    return replace(
        built,
        booted=len(guests) - len(failed),
        boot_seconds=time.monotonic() - started,
        guests=failed,
        problem="; ".join(f"{name}: {why}" for name, why in failed),
        exit_code=EXIT_LAB if failed else EXIT_OK,
    )


def report(results: Sequence[CellResult], seconds: float) -> Results:
    """Return `results` for JUnit XML and summaries: a check for each build, and for what each of them booted."""
    checks: list[Check] = []
    for result in results:
        name = result.cell.name
        if result.binary is None:
            problem, _, details = result.problem.partition("\n")
            checks.append(Check("matrix.build", name, Status.FAILED, problem, details, result.build_seconds))
            continue
        message = f"{result.size / 1e6:.1f} MB{', built before' if result.cached else ''}"
        checks.append(Check("matrix.build", name, message=message, seconds=result.build_seconds))
        if result.boot_seconds:
            checks.extend(_boots(result))
    return Results("device models", tuple(checks), seconds)


def _boots(result: CellResult) -> Iterator[Check]:
    group = f"matrix.boot.{result.cell.name.replace('.', '_')}"
    for name, reason in result.guests:
        yield Check(group, name, Status.FAILED, reason)
    if result.booted:
        booted = f"{result.booted} of {result.booted + len(result.guests)} guests"
        yield Check(group, booted, message="booted", seconds=result.boot_seconds)
    elif not result.guests:
        yield Check(group, "guests", Status.ERROR, result.problem, seconds=result.boot_seconds)


def table(results: Sequence[CellResult]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of a table of `results`."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        cell = result.cell
        guests = f"{result.booted} of {result.booted + len(result.guests)}" if result.boot_seconds else ""
        rows.append(
            (
                *(cell.qemu, cell.xen, cell.profile),
                "failed" if result.binary is None else "built before" if result.cached else "built",
                f"{result.build_seconds:.0f} s",
                f"{result.size / 1e6:.1f} MB" if result.size else "",
                guests,
                result.problem.partition("\n")[0],
            )
        )
    return ("qemu", "xen", "profile", "device model", "took", "size", "guests booted", "because"), rows
