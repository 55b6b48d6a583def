"""The rest of the way through the house: VM configs, a device model and a base made into booted guests."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.errors import UsageError
from xenqemu.state import StateDir, why_not_writable
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from xenqemu.lab.cases import Case, Setting
    from xenqemu.lab.host import Host
    from xenqemu.lab.model import LabBase
    from xenqemu.lab.result import GuestResult
    from xenqemu.lab.run import Booted, Order
    from xenqemu.lab.spare import HostWish
    from xenqemu.lab.staging import StagedGuest
    from xenqemu.vm.xlcfg import XlConfig

# A guest that boots under software emulation and writes a lot on its serial port takes minutes.
_BOOT_SECONDS = 180.0


@dataclass(frozen=True)
class BootRequest:
    """Which guests to boot with what: `device_model` None is what each config names, or else the newest that was built.

    `xen` None is the one that the device model is linked against, else a release or the path of a built Xen tree, whose
    own device model then is what the newest one is otherwise. `timeout` is in seconds for each guest. `heard` is
    called with what a guest writes as it comes, `told` with what came of each guest. `host` is what they want of the
    virtual host (None: what each case says, for a config nothing). Guests are left running where
    `keep` says so, and may write to their disks where `writable` does.
    """

    device_model: Path | None = None
    xen: str | None = None
    timeout: float | None = None
    expect: str = ""
    screenshot: Path | None = None
    writable: bool = False
    keep: bool = False
    host: HostWish | None = None
    heard: Callable[[str], None] | None = None
    told: Callable[[GuestResult], None] | None = None

    def check(self) -> None:
        """Raise `UsageError` for what can be known before anything starts to be impossible."""
        try:
            re.compile(self.expect)
        except re.error as error:
            raise UsageError(
                f"--expect {self.expect!r} is no regular expression: {error}", "quote it with a \\"
            ) from error
        if self.timeout is not None and not math.isfinite(self.timeout):
            raise UsageError(f"--timeout {self.timeout} is no time", "name it in seconds")
        folder = self.screenshot.parent if self.screenshot else Path()
        reason = why_not_writable(folder) if folder.exists() else "there is no such folder"
        if reason:
            raise UsageError(f"--screenshot {self.screenshot}: {reason}", "name a file in a folder that exists")


def find_device_model(named: Path | str | None, xen: str | None, state: StateDir, ui: Ui) -> Path | None:
    """Return the file of the device model that was `named`: a path as it is, None for None.

    `distro` is the one that the distribution of `xen` ships with it (None: of the lab's default), `distro:4.17` that
    of another Xen's. Raises what `xenqemu.lab.packaged.packaged_device_model` raises.
    """
    from xenqemu.archive.naming import packaged_series
    from xenqemu.lab.packaged import packaged_device_model
    from xenqemu.lab.recipe import default_series
    from xenqemu.lab.tree import names_tree

    if not isinstance(named, str):
        return named
    of_tree = xen is not None and names_tree(xen)
    series = packaged_series(named) or (None if of_tree else xen) or default_series()
    return packaged_device_model(series, state, ui)


@contextmanager
def boot_configs(configs: Sequence[Path], request: BootRequest, state: StateDir, ui: Ui) -> Iterator[Booted]:
    """Boot each xl.cfg of `configs` as it stands, and enter what came of it; the virtual host ends with the context.

    Raises `VmConfigError` for a file that is no xl.cfg, `UsageError` and `MissingError` when there is no device model,
    and what starting a host raises (see `xenqemu.lab.run.carry_out`).
    """
    from xenqemu.lab import run
    from xenqemu.lab.base import prepare
    from xenqemu.lab.runs import run_folder
    from xenqemu.lab.spare import HostWish
    from xenqemu.lab.staging import read_config

    if len(configs) > 1 and request.screenshot is not None:
        raise UsageError("--screenshot takes a picture of one guest", "name one config")
    request.check()
    orders = tuple(_order(read_config(path), request, Path.cwd(), state) for path in configs)
    planned = run.plan(orders)
    models = [one.guest.device_model for one in planned if one.guest and one.guest.device_model]
    with run_folder(state) as folder:
        xen = run.choose_xen(request.xen, models, ui)
        wanted = request.host or HostWish()
        with run.carry_out(planned, lambda: prepare(xen, state, ui), folder, ui, request.told, wanted) as booted:
            yield booted


@contextmanager
def boot_cases(cases: Sequence[Case], request: BootRequest, state: StateDir, ui: Ui) -> Iterator[Booted]:
    """Boot the lab's own `cases`, each judged by its own sign; see `boot_configs`."""
    from xenqemu.lab import run
    from xenqemu.lab.base import prepare
    from xenqemu.lab.case_files import build_case
    from xenqemu.lab.device_model import inspect_device_model
    from xenqemu.lab.runs import run_folder
    from xenqemu.lab.spare import words
    from xenqemu.lab.staging import read_config

    request.check()
    wanted = request.host or _host_of(cases)
    model = Path.cwd() / request.device_model if request.device_model else _usual(request.xen, state)
    xen = run.choose_xen(request.xen, [inspect_device_model(model)], ui)
    with run_folder(state) as folder:
        base = cache(lambda: prepare(xen, state, ui))
        stub_words = cache(lambda: _stub_words(model, folder, state, ui))
        orders = []
        for case in _suited(cases, xen, model, state, ui):
            place = folder / case.name
            place.mkdir()
            built = build_case(case, base, place, words(wanted.pci), stub_words() if case.stub_domain else None)
            each = replace(
                request,
                host=wanted,
                device_model=model,
                expect=case.expect if case.boots else "",
                timeout=request.timeout or case.timeout,
            )
            order = _order(read_config(built.config), each, place, state)
            wish = replace(order.wish, before=built.before, steps=case.steps, files=built.files)
            orders.append(replace(order, options=replace(order.options, further=built.for_steps), wish=wish))
        with run.carry_out(run.plan(orders), base, folder, ui, request.told, wanted) as booted:
            yield booted


def _stub_words(model: Path, folder: Path, state: StateDir, ui: Ui) -> dict[str, str]:
    """Return what cases call the parts of a stub domain for the device model `model`, made below `folder`."""
    from xenqemu.lab.device_model import inspect_device_model
    from xenqemu.stubdom_pipeline import make_stubdom

    made = make_stubdom(inspect_device_model(model), folder / "stub-domain", state, ui, quick=True)
    return {
        "stubdomain_kernel": str(made.kernel),
        "stubdomain_ramdisk": str(made.initramfs),
        "stubdomain_memory": str(made.memory),
    }


def _host_of(cases: Sequence[Case]) -> HostWish:
    """Return the host that all of `cases` can share. Raises `UsageError` when there is none."""
    from xenqemu.lab.spare import HostWish, named_host

    names = dict.fromkeys(case.host for case in cases if case.host)
    if len(names) > 1:
        raise UsageError(
            f"the cases need different hosts: {', '.join(names)}", "boot them one after the other, or by `contract run`"
        )
    return named_host(next(iter(names))) if names else HostWish()


def stage_case(
    name: str,
    settings: Mapping[str, Setting],
    device_model: Path,
    xen: str | None,
    folder: Path,
    state: StateDir,
    ui: Ui,
) -> tuple[LabBase, StagedGuest]:
    """Return the case `name`, with `settings` over its own, staged for a host of the base that is returned too.

    Its files go into the existing `folder`; `xen` None is the one that the device model is linked against. Raises what
    `boot_cases` raises before it starts a host.
    """
    from xenqemu.lab import run
    from xenqemu.lab.base import prepare
    from xenqemu.lab.case_files import build_case
    from xenqemu.lab.cases import find_cases
    from xenqemu.lab.device_model import inspect_device_model
    from xenqemu.lab.staging import StageOptions, read_config, stage_guest

    model = Path.cwd() / device_model
    base = prepare(run.choose_xen(xen, [inspect_device_model(model)], ui), state, ui)
    (case,) = find_cases((name,))
    built = build_case(replace(case, settings={**case.settings, **settings}), lambda: base, folder)
    return base, stage_guest(read_config(built.config), StageOptions(folder, model))


def save_cases(cases: Sequence[Case], folder: Path, xen: str | None, state: StateDir, ui: Ui) -> tuple[Path, ...]:
    """Write the xl.cfg of each of `cases` and its files into a folder of its own below `folder`; return the xl.cfgs.

    A Linux guest's kernel is that of the lab's `xen` (None: the default), and copied, so that the folder is all that
    another machine needs; a stub domain has the device model that is the usual one there. Raises `UsageError` when
    `folder` cannot be written, and what `build_case` raises.
    """
    from xenqemu.lab.base import prepare
    from xenqemu.lab.case_files import build_case
    from xenqemu.lab.recipe import default_series

    def base() -> LabBase:
        prepared = prepare(xen or default_series(), state, ui)
        return replace(prepared, kernel=Path(shutil.copy(prepared.kernel, place / "vmlinuz")))

    paths = []
    for case in cases:
        place = folder.resolve() / case.name
        reason = why_not_writable(place)
        try:
            if not reason:
                place.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # /proc looks writable
            reason = str(error.strerror)
        if reason:
            raise UsageError(f"nothing can be saved in {place}: {reason}", "name another place for it")
        stub_words = _stub_words(_usual(xen, state), place, state, ui) if case.stub_domain else None
        paths.append(build_case(case, base, place, stub_domain=stub_words).config)
    return tuple(paths)


@contextmanager
def open_host(
    xen: str | None, device_model: Path | None, state: StateDir, ui: Ui, wanted: HostWish | None = None
) -> Iterator[Host]:
    """Enter a virtual host without guests; `device_model` is there at its own path, and as the toolstack's own.

    `xen` None is the one that it is linked against, `wanted` what the host has besides. Raises `LabError` for a device
    model that cannot run, and what preparing and starting a host raise.
    """
    from xenqemu.lab import run
    from xenqemu.lab.base import prepare
    from xenqemu.lab.device_model import inspect_device_model, overlay_of
    from xenqemu.lab.emulator import find_emulator
    from xenqemu.lab.host import start_host
    from xenqemu.lab.runs import run_folder
    from xenqemu.lab.spare import HostWish
    from xenqemu.lab.tree import own_device_model

    find_emulator()
    device_model = device_model or own_device_model(xen)
    models = [inspect_device_model(Path.cwd() / device_model)] if device_model else []
    base = prepare(run.choose_xen(xen, models, ui), state, ui)
    overlay = [file for model in models for file in overlay_of(model, (str(model.path), base.device_model))]
    options = run.host_options((), overlay, together=False, wanted=wanted or HostWish())
    with run_folder(state) as folder, start_host(base, overlay, (), options, folder, ui) as host:
        yield host


def prune_cache(state: StateDir, ui: Ui, *, keep: int, everything: bool) -> int:
    """Remove from `state` what is not needed, the lab's bases included, and return the bytes freed.

    See `xenqemu.vm.artifacts.prune` and `xenqemu.lab.stored.prunable`.
    """
    from xenqemu.lab.stored import prunable
    from xenqemu.vm.artifacts import prune

    return prune(state, ui, keep=keep, everything=everything, also=lambda: prunable(state, everything=everything))


def _suited(cases: Sequence[Case], xen: str, model: Path, state: StateDir, ui: Ui) -> Iterator[Case]:
    """Yield the cases that this Xen and this device model are new enough for; the others are told."""
    from packaging.version import Version

    from xenqemu.lab.tree import series_of
    from xenqemu.vm.device_model import Interview

    for case in cases:
        if case.xen and case.xen > Version(series_of(xen)):
            ui.note(f"{case.name} is left out: it needs Xen {case.xen}")
        elif case.qemu and case.qemu > Version(Interview(model, state).model().version or "0"):
            ui.note(f"{case.name} is left out: it needs QEMU {case.qemu}")
        else:
            yield case


def _usual(xen: str | None, state: StateDir) -> Path:
    """Return the device model where nobody names one: the tree's own for the Xen of a tree, else the newest."""
    from xenqemu.lab.tree import own_device_model
    from xenqemu.vm.binary import choose_binary

    return own_device_model(xen) or choose_binary(state).path


def _order(config: XlConfig, request: BootRequest, folder: Path, state: StateDir) -> Order:
    from xenqemu.lab.boot import Wish
    from xenqemu.lab.run import Order
    from xenqemu.lab.staging import StageOptions

    options = StageOptions(
        folder=folder,
        device_model=request.device_model and Path.cwd() / request.device_model,
        newest=lambda: _usual(request.xen, state),
        writable=request.writable,
        screenshot=request.screenshot is not None,
        host_pci=request.host.pci if request.host else (),
    )
    wish = Wish(
        timeout=request.timeout or _BOOT_SECONDS,
        expect=request.expect,
        screenshot=request.screenshot,
        heard=request.heard,
        ephemeral=not request.keep,
    )
    return Order(config, options, wish)
