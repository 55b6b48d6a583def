"""From a QEMU and a Xen to the stub domain that runs such a device model: kernel, initial file system, manifest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.errors import UsageError
from xenqemu.state import StateDir, why_not_writable
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from xenqemu.lab.device_model import DeviceModel
    from xenqemu.pipeline import BuildRequest
    from xenqemu.stubdom.model import StubDomain


@dataclass(frozen=True)
class StubdomRequest:
    """What to make a stub domain of, and where: the device model of `build`, or else the one at `device_model`.

    `refresh` asks the package archive for newer packages than were taken before.
    """

    build: BuildRequest
    out: Path
    device_model: Path | None = None
    refresh: bool = False


@dataclass(frozen=True)
class StubdomReport:
    """What came of it: `facts` as JSON has them."""

    made: StubDomain
    facts: Mapping[str, object]


def build_stubdom(request: StubdomRequest, state: StateDir, ui: Ui) -> StubdomReport:
    """Make a stub domain in the folder `request.out`.

    Raises `UsageError` when that cannot be written, `LabError` for a device model that cannot run in one, and what the
    stages of a build and `xenqemu.stubdom.parts.fetch_parts` raise.
    """
    from xenqemu.lab.device_model import inspect_device_model
    from xenqemu.pipeline import carry_out, plan_build

    started = time.monotonic()
    out = request.out.expanduser().absolute()
    reason = why_not_writable(out)
    if reason:
        raise UsageError(f"the stub domain cannot be put into {out}: {reason}", "name another place with --out")
    path = request.device_model
    if path is None:
        path = carry_out(plan_build(request.build, state, ui), state, ui).binary
    made = make_stubdom(inspect_device_model(Path.cwd() / path), out, state, ui, refresh=request.refresh)
    sizes = {"kernel_size": made.kernel.stat().st_size, "initramfs_size": made.initramfs.stat().st_size}
    facts = {
        "kernel": made.kernel,
        "initramfs": made.initramfs,
        "memory": made.memory,
        **sizes,
        "seconds": round(time.monotonic() - started, 1),
    }
    return StubdomReport(made, facts)


def make_stubdom(
    model: DeviceModel, folder: Path, state: StateDir, ui: Ui, *, refresh: bool = False, quick: bool = False
) -> StubDomain:
    """Make a stub domain for `model` in `folder`, with the kernel and tools of the Xen that it is linked against.

    Where the lab does not have that Xen they are those of the newest that it has: the tools bring their libraries
    along. A `quick` one is packed in a second, and larger. Raises what `xenqemu.stubdom` raises.
    """
    from xenqemu.lab.recipe import nearest_recipe
    from xenqemu.stubdom.initramfs import compile_programs, write_stub_domain
    from xenqemu.stubdom.parts import fetch_parts
    from xenqemu.stubdom.recipe import load_recipe

    parts = fetch_parts(load_recipe(nearest_recipe(model.xen)), state, ui, refresh=refresh)
    folder.mkdir(parents=True, exist_ok=True)
    with state.scratch("stubdom") as scratch, ui.step("making the stub domain's file system"):
        return write_stub_domain(parts, model, compile_programs(scratch), folder, quick=quick)
