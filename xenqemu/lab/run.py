"""A run of the lab: configs staged, a host started, one guest after the other booted in it, and a report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from xenqemu.build.manifest import file_sha256
from xenqemu.errors import LabError, MissingError
from xenqemu.lab.boot import Wish, boot_guest, furnish
from xenqemu.lab.device_model import DeviceModel
from xenqemu.lab.emulator import find_emulator
from xenqemu.lab.host import Host, start_host
from xenqemu.lab.model import HostError, HostOptions, LabBase, OverlayFile
from xenqemu.lab.reasons import explained
from xenqemu.lab.recipe import default_series, known_series, load_recipe
from xenqemu.lab.result import GuestResult, Report
from xenqemu.lab.runs import RESULT
from xenqemu.lab.spare import HostWish
from xenqemu.lab.staging import StagedGuest, StageOptions, shared_disks, stage_guest
from xenqemu.lab.tree import names_tree, series_of
from xenqemu.state import write_atomic
from xenqemu.ui import Ui
from xenqemu.vm.model import GuestView
from xenqemu.vm.xlcfg import XlConfig

_MIB = 1 << 20
# What Xen keeps for itself, and for the tables and the video memory of a guest.
_XEN_MIB = 192
_GUEST_MIB = 64
# LIBXL_LINUX_STUBDOM_MEM of tools/libs/light/libxl_internal.h.
_STUB_MIB = 128
_USUAL = HostWish()


@dataclass(frozen=True)
class Order:
    """A guest that is to be booted: its config, how to stage it, what is wanted of it."""

    config: XlConfig
    options: StageOptions
    wish: Wish


@dataclass(frozen=True)
class Planned:
    """An order, and either the guest as staged or what came of staging it."""

    order: Order
    guest: StagedGuest | None
    result: GuestResult | None


@dataclass(frozen=True)
class Booted:
    """What a run has come to: its report, and the host while it is up (None when none was needed)."""

    report: Report
    host: Host | None


def plan(orders: Sequence[Order]) -> tuple[Planned, ...]:
    """Stage every order; one that cannot be created at all has its result already.

    Raises `UsageError` and `MissingError` when a config needs a device model and there is none.
    """
    return tuple(map(_plan_one, orders))


def _plan_one(order: Order) -> Planned:
    try:
        return Planned(order, stage_guest(order.config, order.options), None)
    except LabError as error:
        model = order.options.device_model or order.config.text("device_model_override") or ""
        failed = GuestResult(
            name=order.config.text("name") or "",
            config=order.config.name,
            device_model=str(model),
            reason=error.message,
        )
        return Planned(order, None, failed.explained_by(explained(error.message, {}), error.hint))


def choose_xen(explicit: str | None, models: Sequence[DeviceModel], ui: Ui) -> str:
    """Return the Xen to boot under: the one that was named, else the one that the device models are linked against.

    Where they do not say, it is the system's if the lab has that one, else the newest.

    A device model that is linked against another one is warned of: what its libxenctrl asks of the hypervisor can be
    refused there (XEN_DOMCTL_INTERFACE_VERSION, xen/include/public/domctl.h). Raises `UsageError` for an unknown Xen,
    and `MissingError` for a folder that is no Xen tree.
    """
    if explicit and not names_tree(explicit):
        load_recipe(explicit)
    linked = list(dict.fromkeys(model.xen for model in models if model.xen))
    chosen = explicit or next((xen for xen in linked if xen in known_series()), None) or default_series()
    series = series_of(chosen)
    for model in models:
        if model.xen and model.xen != series:
            ui.warn(f"{model.path} is linked against Xen {model.xen}, and is tried under Xen {series}")
    return chosen


@contextmanager
def carry_out(
    planned: Sequence[Planned],
    base: Callable[[], LabBase],
    run: Path,
    ui: Ui,
    told: Callable[[GuestResult], None] | None = None,
    wanted: HostWish = _USUAL,
) -> Iterator[Booted]:
    """Boot what is planned, one after the other in one host, and enter what came of it; the host ends with the context.

    `base` is asked for only when there is something to boot. Logs and `result.json` go to the folder `run`, and what
    came of each guest to `told` as soon as it is known.
    Raises `MissingError` without an emulator or without the memory, `HostError` when the host does not come up.
    """
    guests = [one.guest for one in planned if one.guest is not None]
    if not guests:
        report = Report("", None, tuple(one.result for one in planned if one.result is not None), run)
        yield Booted(_written(report), None)
        return
    overlay = [file for guest in guests for file in guest.files]
    disks, numbers = shared_disks(guests)
    together = any(not one.order.wish.ephemeral for one in planned)
    # What this machine lacks is told before half a minute goes into a base.
    find_emulator()
    options = host_options(guests, overlay, together=together, wanted=wanted)
    prepared = base()
    started = monotonic()
    with start_host(prepared, overlay, disks, options, run, ui) as host:
        seconds = monotonic() - started
        furnish(host, guests, numbers)
        results = []
        for result in _boot_all(host, planned, run, ui):
            results.append(result)
            if told is not None:
                told(result)
        report = Report(prepared.xen_version, seconds, tuple(results), run)
        yield Booted(_written(report), host)


def _boot_all(host: Host, planned: Sequence[Planned], run: Path, ui: Ui) -> Iterator[GuestResult]:
    failed, before = "", ""
    kept: set[str] = set()
    for one in planned:
        if one.guest is None:
            if one.result is not None:
                yield one.result
            continue
        name = one.guest.view.name
        unknown = GuestResult(name=name, config=str(one.guest.view.path), notes=one.guest.notes)
        if failed:
            yield replace(unknown, tried=False, reason=f"not tried: {failed}")
            continue
        for note in one.guest.notes:
            ui.note(f"{name}: {note}")
        try:
            if before:
                host.run(("xl", "destroy", before))
            with ui.step(f"booting {name}"):
                result = boot_guest(host, one.guest, one.order.wish, run)
            if result.booted and not one.order.wish.ephemeral:
                kept.add(name)
            # One of the same name was not created, and what `xl destroy` would find is the one that is kept.
            before = "" if name in kept else name
            yield result
        except HostError as error:
            failed = f"the virtual host failed: {error.message}"
            yield replace(unknown, reason=failed).explained_by(explained(failed, {}), error.hint)


def host_options(
    guests: Sequence[StagedGuest], overlay: Sequence[OverlayFile], *, together: bool, wanted: HostWish = _USUAL
) -> HostOptions:
    """Return how large a host the guests need, with what is `wanted` of it besides.

    Dom0 has the overlay in memory, twice while it is unpacked. Raises `MissingError` when this machine has less memory
    than that.
    """
    # hvmloader and SeaBIOS write on Xen's console at a level that is filtered by default.
    plain = HostOptions(extra_xen_arguments=("guest_loglvl=all",), iommu=wanted.iommu, host_pci=wanted.pci)
    files = sum(_size(file) for file in overlay) // _MIB
    dom0 = plain.dom0_memory_mib + 2 * files
    sizes = [
        max(guest.view.memory, guest.view.max_memory) + guest.view.video_memory + _GUEST_MIB + _stub_mib(guest.view)
        for guest in guests
    ]
    memory = max(plain.memory_mib, dom0 + (sum(sizes) if together else max(sizes, default=0)) + _XEN_MIB)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
    if memory > there:
        raise MissingError(
            f"the guests need a virtual host of {memory} MiB, and this machine has {there} MiB",
            "lower memory= in the config",
        )
    return replace(plain, memory_mib=memory, dom0_memory_mib=dom0)


def _stub_mib(view: GuestView) -> int:
    """Return how much memory the guest's stub domain has: libxl__spawn_stub_dm() adds as much as video memory."""
    return (view.stubdomain.memory or _STUB_MIB) + view.video_memory if view.stubdomain.enabled else 0


def _size(file: OverlayFile) -> int:
    return file.content.stat().st_size if isinstance(file.content, Path) else len(file.content)


def _written(report: Report) -> Report:
    facts = {**report.as_dict(), "device_models": _digests(report)}
    write_atomic(report.run / RESULT, json.dumps(facts, indent=1).encode())
    return report


def _digests(report: Report) -> dict[str, str]:
    """Return the SHA-256 of each device model by its path, where another build may be by the time somebody looks."""
    digests = {}
    for path in dict.fromkeys(guest.device_model for guest in report.guests if guest.device_model):
        with suppress(OSError):
            digests[path] = file_sha256(Path(path))
    return digests
