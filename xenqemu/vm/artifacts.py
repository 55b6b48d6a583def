"""Artifacts of builds that VM configs point at: pruning may not take a guest's device model away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from xenqemu.build import prune as prune_state
from xenqemu.errors import VmConfigError
from xenqemu.state import StateDir
from xenqemu.text import printable
from xenqemu.ui import Ui
from xenqemu.vm.guest import read_guest
from xenqemu.vm.originals import DATABASE, open_originals


def artifacts_in_use(state: StateDir) -> dict[str, Path]:
    """Return the keys of artifacts that are the device model of a config which `use` has changed, each with one such.

    Raises `VmConfigError` when the store of originals cannot be read.
    """
    if not (state.vm / DATABASE).exists():
        return {}
    with open_originals(state) as originals:
        paths = [original.path for original in originals.all()]
    used: dict[str, Path] = {}
    for path in paths:
        try:
            guest = read_guest(path)
        except VmConfigError:
            continue  # gone, or no config any more
        for model in (guest.device_model_override, guest.device_model):
            below = Path(model).is_relative_to(state.artifacts) and Path(model).relative_to(state.artifacts).parts
            if below:
                used.setdefault(below[0], path)
    return used


def prune(state: StateDir, ui: Ui, *, keep: int, everything: bool, also: Callable[[], Iterable[Path]] = tuple) -> int:
    """Prune `state` as `xenqemu.build.prune` does, and return the bytes freed; artifacts in use stay.

    With `everything` they go as well, with a warning. Raises `VmConfigError` when it cannot be told which they are.
    """

    def spare() -> Collection[str]:
        used = artifacts_in_use(state)
        if everything:
            for key, path in used.items():
                ui.warn(f"the artifact {key[:12]} goes, and is the device model of {printable(path)}")
            return ()
        if used:
            ui.note(f"{len(used)} artifacts stay, as VM configs point at them (`xenqemu vm revert --list`)")
        return used

    return prune_state(state, keep=keep, everything=everything, spare=spare, also=also, ui=ui)
