"""A soak from a device model's name to its report: guests made, a host started, one cycle after the other in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.state import StateDir
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from xenqemu.lab.cases import Case
    from xenqemu.lab.soak import SoakReport

# What a saved guest takes, which is a file in dom0's memory.
_SAVED_MIB = 192


@dataclass(frozen=True)
class SoakRequest:
    """What to soak: `device_model` (None: the newest that was built) under `xen` (None: what it is linked against).

    `cycles` guests are created, run and destroyed; then one is saved and restored `saves` times.
    """

    device_model: Path | None = None
    xen: str | None = None
    cycles: int = 100
    saves: int = 20


def run_soak(request: SoakRequest, state: StateDir, ui: Ui) -> SoakReport:
    """Soak in one host, and return what dom0 had before and after.

    Raises `UsageError` for an unknown Xen, `MissingError` without a device model, an emulator or a package archive,
    `LabError` when a guest does not come up or go on.
    """
    from xenqemu.lab import run, soak
    from xenqemu.lab.base import prepare
    from xenqemu.lab.boot import furnish
    from xenqemu.lab.case_files import build_case
    from xenqemu.lab.device_model import inspect_device_model
    from xenqemu.lab.emulator import find_emulator
    from xenqemu.lab.host import start_host
    from xenqemu.lab.runs import run_folder
    from xenqemu.lab.staging import StageOptions, read_config, shared_disks, stage_guest
    from xenqemu.vm.binary import choose_binary

    find_emulator()
    model = Path.cwd() / request.device_model if request.device_model else choose_binary(state).path
    xen = run.choose_xen(request.xen, [inspect_device_model(model)], ui)
    plan = soak.SoakPlan(request.cycles, request.saves)
    base = prepare(xen, state, ui)
    with run_folder(state) as folder:
        guests = []
        for case in _guests():
            place = folder / case.name
            place.mkdir()
            config = read_config(build_case(case, lambda: base, place).config)
            guests.append(stage_guest(config, StageOptions(place, model)))
        overlay = [file for guest in guests for file in guest.files]
        disks, numbers = shared_disks(guests)
        options = run.host_options(guests, overlay, together=False)
        options = replace(
            options,
            memory_mib=options.memory_mib + _SAVED_MIB,
            dom0_memory_mib=options.dom0_memory_mib + _SAVED_MIB,
        )
        started = time.monotonic()
        with start_host(base, overlay, disks, options, folder, ui) as host:
            furnish(host, guests, numbers)
            soak.soak(host, guests[:2], guests[2], plan, folder, ui)
        return soak.report(base.xen_version, model, plan, time.monotonic() - started, folder)


def _guests() -> Sequence[Case]:
    """Return a boot sector's guest without a network card, one with, and a Linux guest with PV drivers."""
    from xenqemu.lab.cases import find_case

    plain, linux = find_case("boot-sector"), find_case("migrate-pv")
    return (
        replace(plain, name="soak", settings={**plain.settings, "name": "soak", "vif": []}),
        replace(plain, name="soak-card", settings={**plain.settings, "name": "soak-card"}),
        replace(linux, name="soak-saved", settings={**linux.settings, "name": "soak-saved"}),
    )
