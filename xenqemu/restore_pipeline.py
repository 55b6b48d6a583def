"""The pairs of device models of which one saves and another restores: staged into one host, tried, made a table."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.state import StateDir
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from xenqemu.lab.restores import Restored

# What a saved guest takes, which is a file in dom0's memory.
_SAVED_MIB = 256


def run_restores(
    models: Mapping[str, Path],
    savers: Sequence[str],
    xen: str,
    state: StateDir,
    ui: Ui,
    told: Callable[[Restored], None],
) -> None:
    """Try in one host of `xen` which of `models` (by a name for the table) restores what each of `savers` has saved.

    Raises `UsageError` for an unknown Xen, `MissingError` without an emulator or a package archive, `LabError` for a
    device model that cannot run or a host that does not come up.
    """
    from xenqemu.lab import run
    from xenqemu.lab.base import prepare
    from xenqemu.lab.boot import furnish
    from xenqemu.lab.case_files import build_case
    from xenqemu.lab.cases import find_case
    from xenqemu.lab.host import start_host
    from xenqemu.lab.restores import try_restores
    from xenqemu.lab.runs import run_folder
    from xenqemu.lab.staging import StageOptions, read_config, shared_disks, stage_guest

    base = prepare(xen, state, ui)
    case = find_case("migrate")
    settings = {**case.settings, "name": "restored", "vcpus": 1, "vga": "stdvga", "usb": 1, "usbdevice": ["tablet"]}
    with run_folder(state) as folder:
        built = build_case(replace(case, name="restored", settings=settings), lambda: base, folder)
        guests = {}
        for number, (name, model) in enumerate(models.items()):
            config = Path(shutil.copy(built.config, folder / f"restored-{number}.cfg"))
            guests[name] = stage_guest(read_config(config), StageOptions(folder, model))
        overlay = [file for guest in guests.values() for file in guest.files]
        disks, numbers = shared_disks(tuple(guests.values()))
        options = run.host_options(tuple(guests.values()), overlay, together=False)
        options = replace(
            options,
            memory_mib=options.memory_mib + _SAVED_MIB,
            dom0_memory_mib=options.dom0_memory_mib + _SAVED_MIB,
        )
        with start_host(base, overlay, disks, options, folder, ui) as host:
            furnish(host, tuple(guests.values()), numbers)
            try_restores(host, base.xen_version, guests, savers, built.files, folder, told)


def markdown(results: Sequence[Restored]) -> str:
    """Return a table for each Xen, savers down and restorers across, and a list of the reasons of what failed."""
    lines = []
    for xen in dict.fromkeys(result.xen for result in results):
        of = {(result.saver, result.restorer): result for result in results if result.xen == xen}
        across = list(dict.fromkeys(restorer for _, restorer in of))
        lines += [f"Xen {xen}:", "", f"| saved under | {' | '.join(across)} |", f"|{' --- |' * (len(across) + 1)}"]
        notes: dict[str, int] = {}
        for saver in dict.fromkeys(saver for saver, _ in of):
            cells = []
            for restorer in across:
                result = of.get((saver, restorer))
                reason = result.reason if result else ""
                note = f"no ({notes.setdefault(reason, len(notes) + 1)})" if reason else "yes"
                cells.append(note if result else "not tried")
            lines.append(f"| {saver} | {' | '.join(cells)} |")
        lines += ["", *(f"{number}. {reason}" for reason, number in notes.items()), *([""] if notes else [])]
    return "\n".join(lines).rstrip() + "\n"
