"""The options of `xenqemu lab` that say what the virtual host has."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from xenqemu.cli import complete

F = TypeVar("F", bound=Callable[..., Any])


def host_options(function: F) -> F:
    """Give the command --iommu and --host-pci, and its function both as `host` (a HostWish, None without them)."""

    @click.option("--iommu", is_flag=True, help="Give the virtual host an IOMMU, to pass its PCI devices to guests.")
    @click.option(
        "--host-pci",
        metavar="LIST",
        default="",
        shell_complete=complete.host_pci,
        help="PCI devices to pass to guests, from 0000:00:18.0 on: e1000e,e1000 (`a+b`: functions of one device).",
    )
    @wraps(function)
    def command(*, iommu: bool, host_pci: str, **options: Any) -> Any:
        from xenqemu.lab.spare import HostWish, spare_functions

        chosen = tuple(filter(None, (entry.strip() for entry in host_pci.split(","))))
        spare_functions(chosen)  # what there is not is told before anything starts
        return function(host=HostWish(iommu, chosen) if iommu or chosen else None, **options)

    return command  # type: ignore[return-value]
