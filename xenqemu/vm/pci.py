"""A PCI device that a config passes to its guest, and how that device stands on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_BUS = Path("/sys/bus/pci")
# What dom0's kernel leaves alone for guests; SYSFS_PCIBACK_DRIVER in tools/libs/light/libxl_pci.c.
PCIBACK = "pciback"
# The devices whose interrupts a domain other than dom0 may switch on (drivers/xen/xen-pciback/pci_stub.c of Linux 5.6).
_INTERRUPTS = "allow_interrupt_control"
_ADDRESS = re.compile(
    r"(?:(?P<domain>[0-9a-f]{1,4}):)?(?P<bus>[0-9a-f]{1,2}):(?P<device>[01]?[0-9a-f])\.(?P<function>[0-7*])"
    r"(?:@(?P<slot>[0-9a-f]{1,2}))?(?P<options>,.*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PciDevice:
    """One entry of `pci=` as libxl reads it (xlu_pci_parse_bdf in tools/libs/util/libxlu_pci.c).

    `address` is 0000:03:00.0 (empty where the entry is none that we can read: libxl can do names too), whose function
    is `*` for all that the slot has; `slot` the guest's, -1 for any.
    """

    spec: str
    address: str = ""
    slot: int = -1
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_functions(self) -> bool:
        """Whether it stands for all functions of a slot."""
        return self.address.endswith("*")

    @property
    def seized(self) -> bool:
        """Whether libxl takes the device away from its driver in dom0."""
        return self.options.get("seize", "0") != "0"


@dataclass(frozen=True)
class PciState:
    """How the functions that an entry names stand on this machine.

    `missing` where there is none. `driver` is what has one of them in dom0 other than xen-pciback (`none`: nothing),
    empty where all are ready to be given away. `own_interrupts` whether the domain that gets them may switch on their
    interrupts itself.
    """

    missing: bool
    driver: str
    own_interrupts: bool


def parse_pci(spec: str) -> PciDevice:
    """Return what an entry of `pci=` says; one that cannot be read has no address."""
    match = _ADDRESS.fullmatch(spec.strip().removeprefix("bdf="))
    if match is None:
        return PciDevice(spec)
    words = (word.partition("=") for word in (match["options"] or "").split(",") if word)
    options = {name.strip(): value.strip() for name, _, value in words}
    slot = match["slot"] or options.get("vslot", "")
    numbers = [int(match[name] or "0", 16) for name in ("domain", "bus", "device")]
    return PciDevice(
        spec=spec,
        address=f"{numbers[0]:04x}:{numbers[1]:02x}:{numbers[2]:02x}.{match['function']}",
        slot=int(slot, 16) if re.fullmatch("[0-9a-fA-F]{1,2}", slot) else -1,
        options=options,
    )


def look_at(device: PciDevice, bus: Path | None = None) -> PciState:
    """Return how `device` stands according to sysfs (`bus`: that of this machine)."""
    bus = bus or _BUS
    found = sorted((bus / "devices").glob(device.address)) if device.address else []
    drivers = [_driver(path) for path in found]
    try:
        allowed = (bus / "drivers" / PCIBACK / _INTERRUPTS).read_text(encoding="ascii").split()
    except OSError:
        allowed = []
    return PciState(
        missing=not found,
        driver=next((driver for driver in drivers if driver != PCIBACK), ""),
        own_interrupts={path.name for path in found} <= set(allowed),
    )


def _driver(path: Path) -> str:
    try:
        return (path / "driver").readlink().name
    except OSError:
        return "none"
