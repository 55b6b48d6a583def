"""What takes many guests in one host: a soak, and device models of which one saves and another restores."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.state import StateDir
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from xenqemu.lab.cases import Case
    from xenqemu.lab.host import Host
    from xenqemu.lab.model import LabBase
    from xenqemu.lab.restores import Restored
    from xenqemu.lab.soak import SoakReport
    from xenqemu.lab.staging import StagedGuest

# What a saved guest of 128 MiB takes, which is a file in dom0's memory.
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
    from xenqemu.lab.case_files import build_case
    from xenqemu.lab.device_model import inspect_device_model
    from xenqemu.lab.emulator import find_emulator
    from xenqemu.lab.runs import run_folder
    from xenqemu.lab.staging import StageOptions, read_config, stage_guest
    from xenqemu.vm.binary import choose_binary

    find_emulator()
    model = Path.cwd() / request.device_model if request.device_model else choose_binary(state).path
    base = prepare(run.choose_xen(request.xen, [inspect_device_model(model)], ui), state, ui)
    plan = soak.SoakPlan(request.cycles, request.saves)
    with run_folder(state) as folder:
        guests = []
        for case in _soaked():
            place = folder / case.name
            place.mkdir()
            config = read_config(build_case(case, lambda: base, place).config)
            guests.append(stage_guest(config, StageOptions(place, model)))
        started = time.monotonic()
        with _host(base, guests, folder, ui) as host:
            soak.soak(host, guests[:2], guests[2], plan, folder, ui)
        return soak.report(base.xen_version, model, plan, time.monotonic() - started, folder)


def _soaked() -> Sequence[Case]:
    """Return a boot sector's guest without a network card, one with, and a Linux guest with PV drivers."""
    from xenqemu.lab.cases import find_case

    plain, linux = find_case("boot-sector"), find_case("migrate-pv")
    return (
        replace(plain, name="soak", settings={**plain.settings, "name": "soak", "vif": []}),
        replace(plain, name="soak-card", settings={**plain.settings, "name": "soak-card"}),
        replace(linux, name="soak-saved", settings={**linux.settings, "name": "soak-saved"}),
    )


def run_restores(
    models: Mapping[str, Path],
    savers: Sequence[str],
    xen: str,
    state: StateDir,
    ui: Ui,
    told: Callable[[Restored], None],
) -> None:
    """Try in one host of `xen` which of `models` (by a name for the table) restores what each of `savers` has saved.

    `told` hears of each pair. Raises `UsageError` for an unknown Xen, `MissingError` without an emulator or a package
    archive, `LabError` for a device model that cannot run or a host that does not come up.
    """
    from xenqemu.lab.base import prepare
    from xenqemu.lab.case_files import build_case
    from xenqemu.lab.cases import find_case
    from xenqemu.lab.emulator import find_emulator
    from xenqemu.lab.restores import try_restores
    from xenqemu.lab.runs import run_folder
    from xenqemu.lab.staging import StageOptions, read_config, stage_guest

    find_emulator()
    base = prepare(xen, state, ui)
    case = find_case("migrate")
    settings = {**case.settings, "name": "restored", "vcpus": 1, "vga": "stdvga", "usb": 1, "usbdevice": ["tablet"]}
    with run_folder(state) as folder:
        built = build_case(replace(case, name="restored", settings=settings), lambda: base, folder)
        guests = {}
        for number, (name, model) in enumerate(models.items()):
            config = Path(shutil.copy(built.config, folder / f"restored-{number}.cfg"))
            guests[name] = stage_guest(read_config(config), StageOptions(folder, model))
        with _host(base, tuple(guests.values()), folder, ui) as host:
            try_restores(host, base.xen_version, guests, savers, built.files, folder, told)


@contextmanager
def _host(base: LabBase, guests: Sequence[StagedGuest], folder: Path, ui: Ui) -> Iterator[Host]:
    """Enter a host with all that `guests` need, and room in dom0 for one that is saved."""
    from xenqemu.lab import run
    from xenqemu.lab.boot import furnish
    from xenqemu.lab.host import start_host
    from xenqemu.lab.staging import shared_disks

    overlay = [file for guest in guests for file in guest.files]
    disks, numbers = shared_disks(guests)
    options = run.host_options(guests, overlay, together=False)
    options = replace(
        options, memory_mib=options.memory_mib + _SAVED_MIB, dom0_memory_mib=options.dom0_memory_mib + _SAVED_MIB
    )
    with start_host(base, overlay, disks, options, folder, ui) as host:
        furnish(host, guests, numbers)
        yield host
