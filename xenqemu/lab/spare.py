"""The PCI devices of the virtual host that guests can have, as spare.toml describes them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from xenqemu.errors import UsageError
from xenqemu.lab.model import HostOptions

_FILE = Path(__file__).with_name("spare.toml")
_HUB = "hubport,hubid=0"


@dataclass(frozen=True)
class Machine:
    """The emulated machine: its `type`, what comes first on the emulator's command line, what Xen is told of it."""

    type: str
    arguments: tuple[str, ...]
    xen_arguments: tuple[str, ...]
    slots: int


@dataclass(frozen=True)
class SpareFunction:
    """A PCI function at `address` (0000:00:18.0), its `kind` in spare.toml, and the emulator's arguments for it."""

    address: str
    kind: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class HostWish:
    """What guests want of their host: an IOMMU, and devices to have (`HostOptions` says what these are)."""

    iommu: bool = False
    pci: tuple[str, ...] = ()


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def kinds() -> dict[str, str]:
    """Return what can be spared: names and summaries."""
    return {name: str(device["summary"]) for name, device in _data()["device"].items()}


def named_host(name: str) -> HostWish:
    """Return the host that cases call `name`. Raises `KeyError` for one that there is not."""
    host = _data()["host"][name]
    return HostWish(bool(host["iommu"]), tuple(host["pci"]))


def machine_of(*, iommu: bool) -> Machine:
    """Return the machine that has an IOMMU, or the one that has none."""
    machine = _data()["machine"]["iommu" if iommu else "plain"]
    return Machine(
        machine["type"], tuple(machine.get("arguments", ())), tuple(machine.get("xen", ())), machine["slots"]
    )


def spare_functions(host_pci: Sequence[str]) -> tuple[SpareFunction, ...]:
    """Return the functions that `host_pci` names, one slot after the other.

    An entry is a kind, or several with `+` in between for the functions of one slot. Raises `UsageError` for an unknown
    kind, or for more than there is room for.
    """
    spare = _data()["spare"]
    found: list[SpareFunction] = []
    room = machine_of(iommu=True).slots - spare["first_slot"]
    if len(host_pci) > room:
        raise UsageError(f"{len(host_pci)} spare PCI devices: the virtual host has slots for {room}", "name fewer")
    for slot, entry in enumerate(host_pci, spare["first_slot"]):
        functions = entry.split("+")
        if len(functions) > 8:
            raise UsageError(f"'{entry}': a PCI device has eight functions at most", "name fewer")
        for function, kind in enumerate(functions):
            place = f"addr={slot:#x}.{function},multifunction={'on' if len(functions) > 1 else 'off'}"
            arguments = _arguments(kind, len(found) + 1, place)
            found.append(SpareFunction(f"0000:00:{slot:02x}.{function}", kind, arguments))
    return tuple(found)


def _arguments(kind: str, number: int, place: str) -> tuple[str, ...]:
    data = _data()
    if kind not in data["device"]:
        known = ", ".join(kinds())
        raise UsageError(f"the virtual host has no PCI device '{kind}' to spare", f"name one of {known}")
    device = data["device"][kind]
    argument = f"{device['device']},id=spare{number},{place}"
    if not device.get("network"):
        return ("-device", argument, *(word.format(number=number) for word in device.get("behind", ())))
    mac = data["spare"]["mac"].format(number=number)
    return ("-netdev", f"{_HUB},id=cable{number}", "-device", f"{argument},netdev=cable{number},mac={mac}")


def dom0_card(host_pci: Sequence[str]) -> tuple[str, ...]:
    """Return what makes the emulator have dom0's end of the spare cards' cable, nothing without such a card."""
    if not _has_network(host_pci):
        return ()
    own = _data()["dom0"]
    return ("-netdev", f"{_HUB},id=cable0", "-device", f"{own['network']},netdev=cable0,addr={own['slot']:#x}")


def dom0_modules(options: HostOptions) -> tuple[str, ...]:
    """Return what dom0 loads for the spare devices of `options`, each with its parameters as modprobe takes them."""
    if not options.host_pci:
        return ()
    hidden = "".join(f"({spare.address})" for spare in spare_functions(options.host_pci))
    own = tuple(_data()["dom0"]["modules"]) if _has_network(options.host_pci) else ()
    return (f"xen-pciback hide={hidden}", *own)


def most_slots(*, iommu: bool, host_pci: Sequence[str]) -> int:
    """Return the number of the first slot that disks may not have."""
    first: int = _data()["spare"]["first_slot"]
    return first if host_pci else machine_of(iommu=iommu).slots


def words(host_pci: Sequence[str]) -> dict[str, str]:
    """Return what cases call the addresses of the spare functions, `pci0` and so on, and that of dom0's own card."""
    found = {f"pci{number}": spare.address for number, spare in enumerate(spare_functions(host_pci))}
    return {**found, "pci_of_dom0": f"0000:00:{_data()['dom0']['slot']:02x}.0"} if found else {}


def _has_network(host_pci: Sequence[str]) -> bool:
    chosen = {kind for entry in host_pci for kind in entry.split("+")}
    return any(_data()["device"].get(kind, {}).get("network") for kind in chosen)
