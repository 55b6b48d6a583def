"""The contract between libxl and a device model: the table, and what a device model makes of it without Xen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xenqemu.contract.model import CheckReport
from xenqemu.contract.table import load, xen_named
from xenqemu.ui import Ui


def check(binary: Path, xen: str | None, ui: Ui, *, data: Sequence[Path] = ()) -> CheckReport:
    """Return what the device model `binary` makes of everything that libxl of `xen` can pass.

    `xen` is a release or a series (`4.20`: its newest release), the newest one known unless given; `data` are folders
    with data files of a binary that does not find them where it is. Raises `UsageError` for another `xen` or a
    `binary` that is no QEMU for PCs, and `MissingError` for one that cannot be run.
    """
    from xenqemu.contract.checker import check as check_contract

    contract = load()
    return check_contract(binary, xen_named(contract, xen), contract, ui, data=data)
