"""The contract's guests booted with a device model, in as many virtual hosts as it takes, and judged."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.errors import LabError
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi, Ui

if TYPE_CHECKING:
    from xenqemu.contract.outcome import RunReport
    from xenqemu.lab.cases import Case
    from xenqemu.lab.result import GuestResult

# A host has room for some thirty disks (slots of its PCI bus), and a guest has one to three.
_GUESTS_IN_A_HOST = 12
_HOST_BYTES = 4 << 30
_MOST_HOSTS = 8
# How often a host is started that does not come up, and how often a guest is booted whose host fails under it. That can
# be no fault of the guest: QEMU 7.2 aborts now and then where UEFI firmware runs under an emulated hypervisor
# (helper_write_crN of target/i386 raises an interrupt without the lock), on a busy machine twice in a row.
_STARTS = 2
_ATTEMPTS = 4
# How often a guest is booted whose device model is not ready in the time that libxl gives it.
_TIMES_LATE = 2


@dataclass(frozen=True)
class ContractRequest:
    """What to run: the cases called `names` (none: all), on `device_model` (None: the newest that was built).

    `xen` None is the one that the device model is linked against; `jobs` is how many hosts run at once (None: as many
    as this machine has processors and memory for).
    """

    device_model: Path | None = None
    xen: str | None = None
    names: Sequence[str] = ()
    jobs: int | None = None


class _StoppedError(Exception):
    """Nobody waits for this host's guests any more."""


@dataclass
class _Tally:
    """What has come so far, from several threads."""

    results: dict[str, GuestResult] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def add(self, result: GuestResult) -> None:
        if self.stopped:
            raise _StoppedError
        with self.lock:
            self.results[result.name] = result


def run_contract(request: ContractRequest, state: StateDir, ui: Ui) -> RunReport:
    """Boot the contract's guests under a real xl, return what came of each, and keep it (`contract.kept`).

    Raises `UsageError` for an unknown case or Xen, `MissingError` without a device model, an emulator or a package
    archive, `LabError` when no host comes up.
    """
    from packaging.version import Version

    from xenqemu.contract.kept import keep_run
    from xenqemu.contract.outcome import RunReport, cases_of, judge
    from xenqemu.contract.table import load
    from xenqemu.lab import run
    from xenqemu.lab.base import prepare
    from xenqemu.lab.cases import find_cases, load_cases
    from xenqemu.lab.device_model import inspect_device_model
    from xenqemu.vm.binary import choose_binary
    from xenqemu.vm.device_model import Interview

    started = time.monotonic()
    contract = load()
    model = Path.cwd() / request.device_model if request.device_model else choose_binary(state).path
    qemu = Version(Interview(model, state).model().version or "0")
    base = prepare(run.choose_xen(request.xen, [inspect_device_model(model)], ui), state, ui)
    xen = Version(base.xen_version)
    cases = cases_of(find_cases(request.names) or load_cases(), contract, xen, qemu)
    tally = _Tally()
    _boot_all([case for case in cases if case.runs], model, base.series, request.jobs, tally, state, ui)
    report = RunReport(
        device_model=str(model),
        qemu=qemu,
        xen=base.xen_version,
        outcomes=tuple(judge(case, tally.results.get(case.name), contract, xen, qemu) for case in cases),
        seconds=time.monotonic() - started,
        logs=tuple(tally.logs),
    )
    try:
        keep_run(report, model, state, whole=not request.names)
    except OSError as error:  # hours went into what is returned
        ui.warn(f"what came of it is not kept for `xenqemu report`: {error.strerror}")
    return report


def _boot_all(
    cases: Sequence[Case], model: Path, xen: str, jobs: int | None, tally: _Tally, state: StateDir, ui: Ui
) -> None:
    """Boot each of `cases`; those whose host failed once more, in another."""
    waiting = list(cases)
    running: set[Future[list[Case]]] = set()
    told: set[str] = set()
    hosts = jobs or _hosts()
    # Even shares, so that the last hosts do not run alone for long.
    share = max(1, min(_GUESTS_IN_A_HOST, -(-len(cases) // hosts)))
    with ui.progress(f"booting {len(cases)} guests under Xen {xen}") as progress:
        try:
            while waiting or running:
                while waiting and len(running) < hosts:
                    batch, waiting = _next_batch(waiting, share)
                    running.add(_start(partial(_boot, batch, model, xen, tally, state)))
                done, running = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                waiting += [case for future in done for case in future.result()]
                with tally.lock:
                    progress.update(len(tally.results), len(cases), next(reversed(tally.results), ""))
                    news = [result for result in tally.results.values() if result.name not in told]
                told |= {result.name for result in news}
                # Not a verdict, as a known gap shows like this too; but what a run that is cut short has found is told.
                for result in news:
                    if not result.booted:
                        ui.note(f"{result.name}: {result.reason}")
        finally:
            tally.stopped = True


def _next_batch(waiting: Sequence[Case], share: int) -> tuple[list[Case], list[Case]]:
    """Return `share` cases or fewer that the same host does for, and the others, all in their order."""
    batch = [case for case in waiting if case.host == waiting[0].host][:share]
    chosen = {case.name for case in batch}
    return batch, [case for case in waiting if case.name not in chosen]


def _start(function: Callable[[], list[Case]]) -> Future[list[Case]]:
    """Run `function` in a thread that ends with this process, and its host with it.

    An executor's threads are waited for, so that an interrupted run would go on for minutes.
    """
    future: Future[list[Case]] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # whoever waits for the result gets it
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def _boot(batch: Sequence[Case], model: Path, xen: str, tally: _Tally, state: StateDir) -> list[Case]:
    """Boot the guests of `batch` in one host, and return those that have to be tried again in another."""
    from xenqemu.boot_pipeline import BootRequest, boot_cases

    request = BootRequest(device_model=model, xen=xen, told=tally.add)
    try:
        with boot_cases(batch, request, state, QuietUi()) as booted:
            tally.logs.append(booted.report.run)
            results = {guest.name: guest for guest in booted.report.guests}
    except LabError:
        if _exhausted(batch[0], tally, _STARTS):
            raise
        return list(batch)
    again = [case for case in batch if not results[case.name].tried]
    # The guest in front of them was there when the host failed, and has the same chance.
    suspect = next((case for case, after in itertools.pairwise(batch) if after in again), None)
    if suspect is not None and suspect not in again and not _exhausted(suspect, tally, _ATTEMPTS):
        again.append(suspect)
    # A machine with too much to do speaks not against a device model that libxl did not wait for.
    late = [case for case in batch if results[case.name].late and case not in again]
    again += [case for case in late if not _exhausted(case, tally, _TIMES_LATE)]
    with tally.lock:
        for case in again:
            del tally.results[case.name]
    return again


def _exhausted(case: Case, tally: _Tally, most: int) -> bool:
    tally.attempts[case.name] = tally.attempts.get(case.name, 0) + 1
    return tally.attempts[case.name] >= most


def _hosts() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // _HOST_BYTES, _MOST_HOSTS))
