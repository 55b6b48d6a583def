"""A benchmark's run: contenders built, examined and booted, one after the other, and what was measured put together."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenqemu.bench.ledger import Ledger, Values
from xenqemu.bench.model import PARTS, USUAL_PARTS, Contender, Results
from xenqemu.errors import LabError, MissingError, XenqemuError
from xenqemu.state import StateDir
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from xenqemu.bench.builds import BuildJob
    from xenqemu.bench.rows import Row

_CASE = "boot-sector"
# Whether it boots in time is no matter here, and machines are busy.
_PATIENCE = 1800.0
_MODEL_NAME = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class BenchRequest:
    """What is measured: of whom, which parts (see `PARTS`), how often each.

    `work` keeps builds and what was measured. The source is `tarball`, or the package archive's newest of `series`.
    `boots` is how often the boot of the part of that name is done.
    """

    contenders: tuple[Contender, ...]
    parts: tuple[str, ...] = USUAL_PARTS
    work: Path = Path("bench")
    repeat: int = 3
    jobs: int = 1
    tarball: Path | None = None
    series: str = "10.2"
    boots: int = 5


def run_bench(request: BenchRequest, state: StateDir, ui: Ui) -> Results:
    """Measure what is requested and return it; what cannot be measured of one contender stops no other.

    What was measured before, of the same inputs, is not measured again. Raises `XenqemuError` when nothing at all could
    be measured.
    """
    request.work.mkdir(parents=True, exist_ok=True)
    run = _Run(replace(request, work=request.work.absolute()), state, ui)
    for contender in request.contenders:
        for part in PARTS:
            measure: Callable[[Contender], None] | None = getattr(run, f"measure_{part}", None)
            if part in request.parts and measure is not None:
                run.attempt(contender, part, measure)
    rows = run.rows()
    results = run.results(rows)
    if run.first_error is not None and not rows and not any(results.values.values()):
        raise run.first_error
    return results


class _Run:
    """What one run has found so far."""

    def __init__(self, request: BenchRequest, state: StateDir, ui: Ui) -> None:
        self._request = request
        self._state = state
        self._ui = ui
        self._ledger = Ledger(request.work / "measured")
        self._values: dict[str, dict[str, list[float]]] = {contender.name: {} for contender in request.contenders}
        self._missing: list[str] = []
        self.first_error: XenqemuError | None = None

    def attempt(self, contender: Contender, part: str, measure: Callable[[Contender], None]) -> None:
        """Let `measure` measure a part of the contender; why it could not is kept for the results."""
        try:
            measure(contender)
        except XenqemuError as error:
            self._failed(f"{contender.title}, {part}", error)

    def _failed(self, what: str, error: XenqemuError) -> None:
        self.first_error = self.first_error or error
        reason = f"{what}: {error.message.partition(chr(10))[0]}"
        self._missing.append(reason)
        self._ui.warn(reason)

    def _take(self, contender: Contender, values: Values) -> None:
        for name, value in values.items():
            self._values[contender.name].setdefault(name, []).append(value)

    @cached_property
    def _job(self) -> BuildJob:
        from xenqemu.bench.builds import BuildJob
        from xenqemu.bench.ours import fetch

        request = self._request
        if request.tarball is not None:
            tarball = request.tarball.absolute()
        else:
            with self._ui.step(f"getting the source of QEMU {request.series}"):
                tarball = fetch(request.series, request.work)
        return BuildJob(tarball, request.work, request.jobs, request.repeat)

    def _binary(self, contender: Contender) -> Path:
        from xenqemu.bench.builds import build_binary
        from xenqemu.boot_pipeline import find_device_model

        if contender.built:
            return build_binary(contender, self._job, self._ui)
        found = find_device_model(contender.binary or contender.packaged, None, self._state, self._ui)
        if found is None or not found.is_file():
            raise MissingError(f"{contender.title}: there is no {found}", "build it, or name another with --dm")
        return found

    # ---- the parts of a contender ----

    def measure_size(self, contender: Contender) -> None:
        """Examine the contender's program."""
        from xenqemu.bench.binary import examine

        binary = self._binary(contender)
        with self._ui.step(f"{contender.title}: examining {binary.name}"):
            self._take(contender, examine(binary))

    def measure_build(self, contender: Contender) -> None:
        """Build the contender in every way; a program that somebody else has built is no matter of this part."""
        from xenqemu.bench.builds import measure_builds

        if contender.built:
            for values in measure_builds(contender, self._job, self._ledger, self._ui):
                self._take(contender, values)

    def measure_lab(self, contender: Contender) -> None:
        """Boot a guest with the contender: what memory that takes, and how many instructions its start."""
        binary = self._binary(contender)
        with binary.open("rb") as file:
            inputs = {"sha256": file_digest(file, "sha256").hexdigest(), "xen": contender.xen, "case": _CASE}
        for kind, measure in (("memory", self._memory), ("start", self._start)):
            self.attempt(contender, kind, partial(self._repeat, kind, partial(measure, binary), inputs))

    def _repeat(
        self, kind: str, measure: Callable[[str | None], Values], inputs: Mapping[str, object], contender: Contender
    ) -> None:
        for number in range(1, self._request.repeat + 1):
            title = f"{contender.title}: {kind} with a guest, {number} of {self._request.repeat}"

            def told(title: str = title) -> Values:
                with self._ui.step(title):
                    return measure(contender.xen or None)

            self._take(contender, self._ledger.once(f"{contender.name}.lab.{kind}-{number}", inputs, told))

    def _memory(self, binary: Path, xen: str | None) -> Values:
        from xenqemu.boot_pipeline import BootRequest, boot_cases
        from xenqemu.lab.cases import find_cases

        with boot_cases(find_cases((_CASE,)), BootRequest(binary, xen, _PATIENCE), self._state, self._ui) as booted:
            guest = booted.report.guests[0]
        if not guest.booted or guest.memory is None:
            raise LabError(f"its guest did not boot: {guest.reason}", f"its logs are in {booted.report.run}")
        return {"rss": guest.memory.rss, "pss": guest.memory.pss, "private": guest.memory.private}

    def _start(self, binary: Path, xen: str | None) -> Values:
        from xenqemu.bench.instructions import measure_start
        from xenqemu.boot_pipeline import stage_case
        from xenqemu.lab.run import host_options
        from xenqemu.lab.runs import run_folder

        with run_folder(self._state) as folder, tempfile.TemporaryDirectory() as sockets:
            # A network card would bring its hotplug scripts: bash, for most of the time that xl takes.
            # Dom0 has its files where they are here: always in one place, or the next run would have other paths.
            place = self._request.work / "guest"
            place.mkdir(exist_ok=True)
            base, guest = stage_case(_CASE, {"vif": []}, binary, xen, place, self._state, self._ui)
            disks = sum(disk.disk.path.stat().st_size for disk in guest.disks) >> 20
            options = host_options((guest,), guest.files, together=False)
            options = replace(options, dom0_memory_mib=options.dom0_memory_mib + 2 * disks)
            return measure_start(base, guest, folder, Path(sockets), options, self._ui).figures()

    # ---- the parts of xenqemu alone ----

    def rows(self) -> tuple[Row, ...]:
        """Measure what belongs to no contender, and return it."""
        from xenqemu.bench import configs

        measured: list[Row] = []
        if "configs" in self._request.parts:
            measured += self._rows(f"xenqemu vm use of {configs.COUNT:,} configs", self._configs)
        if "boots" in self._request.parts:
            measured += self._rows("boots, each in a virtual host of its own", self._boots)
        return tuple(measured)

    def _rows(self, title: str, measure: Callable[[], Sequence[Row]]) -> Sequence[Row]:
        try:
            with self._ui.step(title):
                return measure()
        except XenqemuError as error:
            self._failed(title, error)
            return ()

    def _configs(self) -> Sequence[Row]:
        from xenqemu.bench import configs

        with tempfile.TemporaryDirectory(dir=self._request.work) as folder:
            return configs.rows(Path(folder))

    def _boots(self) -> Sequence[Row]:
        from xenqemu.bench import boots

        contender = _preferred(self._request.contenders)
        binary = self._binary(contender)
        return boots.measure(binary, self._request.work, self._request.boots, self._ui.note).rows()

    def results(self, rows: tuple[Row, ...]) -> Results:
        """Return what was found."""
        values: dict[str, dict[str, tuple[float, ...]]] = {
            name: {figure: tuple(numbers) for figure, numbers in found.items()} for name, found in self._values.items()
        }
        facts: dict[str, Any] = {"machine": machine(), "repetitions": self._request.repeat}
        if any(contender.built for contender in self._request.contenders) and "_job" in vars(self):
            facts |= {"source": self._job.tarball.name, "jobs": self._request.jobs}
        return Results(
            self._request.contenders,
            values,
            {name: str(fact) for name, fact in facts.items()},
            tuple(self._missing),
            rows,
        )


def _preferred(contenders: Iterable[Contender]) -> Contender:
    """Return whose device model boots again and again: a user's own, else xenqemu's, else the last one."""
    ordered = sorted(contenders, key=lambda one: (one.binary is not None, bool(one.profile)))
    return ordered[-1]


def machine() -> str:
    """Return what this machine is: processors and system, nothing that names it."""
    try:
        found = _MODEL_NAME.search(Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    model = found[1] if found else platform.machine()
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = platform.system()
    return f"{os.cpu_count()} x {model}, {system}"
