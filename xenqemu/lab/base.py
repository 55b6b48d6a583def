"""The part of the virtual host that stays: packages of the archive, made into a hypervisor, a kernel and an archive."""

from __future__ import annotations

from xenqemu.lab.model import LabBase
from xenqemu.state import StateDir
from xenqemu.ui import Ui


def prepare(xen: str, state: StateDir, ui: Ui, *, refresh: bool = False) -> LabBase:
    """Return the base for `xen` (`4.17`, `4.20`, also `distro:4.17`), made first unless it is there.

    `refresh` asks the archive for newer packages. Raises `UsageError` for an unknown `xen`, `MissingError` where there
    is no package archive or what it should have, `LabError` when the packages do not fit together.
    """
    raise NotImplementedError
