"""The machine that the virtual Xen host runs on: which emulator, which accelerator, which arguments."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import LabError, MissingError, UsageError
from xenqemu.lab.model import HostDisk, HostOptions
from xenqemu.lab.recipe import Recipe
from xenqemu.lab.spare import dom0_card, machine_of, most_slots, spare_functions

EMULATOR = "qemu-system-x86_64"
AGENT_PORT = "org.qemu.guest_agent.0"
STREAM_PORT = "xenqemu.stream"
# Virtio in a PV dom0 has to go through the DMA API, as its physical addresses are not the machine's: modern virtio
# with VIRTIO_F_ACCESS_PLATFORM says so (vring_use_dma_api in the kernel's drivers/virtio/virtio_ring.c).
_VIRTIO = "iommu_platform=on,disable-legacy=on"
# The chipset and the virtio serial device are in front of it, and what HostOptions adds; spare devices are behind.
_FIRST_DISK = 8
# What dom0 can pass to a guest: a stick full of zeros. As long as dom0 has not loaded xhci-pci there is nothing of it.
_USB = [
    *("-blockdev", "driver=null-co,node-name=stick,size=1048576,read-zeroes=on,read-only=on"),
    *("-device", "qemu-xhci", "-device", "usb-storage,drive=stick,serial=xenqemu"),
]
_KVM = Path("/dev/kvm")
_NESTED = (Path("/sys/module/kvm_amd/parameters/nested"), Path("/sys/module/kvm_intel/parameters/nested"))


@dataclass(frozen=True)
class Wiring:
    """What a started emulator is connected to: the descriptors of its ends of the agent's and the streams' sockets.

    Files are relative to the folder that it runs in.
    """

    agent: int
    streams: Sequence[int]
    console: str
    hypervisor: str
    kernel: str
    initrd: str


def find_emulator() -> str:
    """Return the path of the machine's emulator. Raises `MissingError` where there is none."""
    found = shutil.which(EMULATOR)
    if found is None:
        raise MissingError(
            f"the lab needs {EMULATOR}, which is not installed",
            "install the package qemu-system-x86 (`apt-get install --no-install-recommends qemu-system-x86`)",
        )
    return found


def can_nest() -> bool:
    """Whether KVM can be used here, and lets its guests be hypervisors."""
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return False
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False  # a node without the driver behind it
    return any(path.is_file() and path.read_text().strip() in ("1", "Y", "y") for path in _NESTED)


def accelerator(wanted: str) -> str:
    """Return `kvm` or `tcg` for the `wanted` accelerator. Raises `UsageError` for an impossible one."""
    if wanted == "auto":
        return "kvm" if can_nest() else "tcg"
    if wanted not in ("kvm", "tcg"):
        raise UsageError(f"no such accelerator: '{wanted}'", "name auto, kvm or tcg")
    if wanted == "kvm" and not can_nest():
        raise UsageError(
            "KVM cannot be used, or not by a hypervisor inside",
            "leave --accel out, or load kvm_intel or kvm_amd with nested=1",
        )
    return wanted


def arguments(recipe: Recipe, options: HostOptions, disks: Sequence[HostDisk], wiring: Wiring) -> list[str]:
    """Return the emulator's arguments.

    Raises `UsageError` for an accelerator that is not to be had, `LabError` for a disk that is not there.
    """
    kvm = accelerator(options.accel) == "kvm"
    # Of the emulated processors `max` has features that this Xen hands on and dom0 then dies of.
    machine = machine_of(iommu=options.iommu)
    argv = [
        "-machine",
        f"{machine.type},graphics=off",
        *machine.arguments,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-vga",
        "none",
    ]
    argv += ["-nic", "none", "-no-reboot", "-accel", "kvm" if kvm else "tcg"]
    argv += ["-cpu", "host" if kvm else "qemu64,+svm,+npt", "-smp", str(options.cpus), "-m", str(options.memory_mib)]
    argv += ["-chardev", f"file,id=console,path={wiring.console}", "-serial", "chardev:console"]
    argv += ["-device", f"virtio-serial-pci,{_VIRTIO},max_ports={len(wiring.streams) + 2}"]
    argv += _port("agent", f"fd={wiring.agent}", AGENT_PORT)
    for number, descriptor in enumerate(wiring.streams):
        argv += _port(f"stream{number}", f"fd={descriptor},server=on,wait=off", f"{STREAM_PORT}.{number}")
    most = (most_slots(iommu=options.iommu, host_pci=options.host_pci) - _FIRST_DISK) * 8
    if len(disks) > most:
        raise LabError(f"the guests have {len(disks)} disks, a host takes {most}", "boot fewer guests at once")
    argv += _USB
    for number, disk in enumerate(disks):
        argv += _disk(number, disk)
    argv += dom0_card(options.host_pci)
    for spare in spare_functions(options.host_pci):
        argv += spare.arguments
    argv += ["-kernel", wiring.hypervisor, "-append", " ".join(_xen_words(recipe, options))]
    # QEMU's multiboot loader takes a comma between modules, and a blank between a module and its command line.
    argv += ["-initrd", f"{wiring.kernel} {' '.join(_dom0_words(recipe, options))},{wiring.initrd}"]
    return [*argv, *options.extra_emulator_arguments]


def _port(name: str, socket: str, port: str) -> list[str]:
    return ["-chardev", f"socket,id={name},{socket}", "-device", f"virtserialport,chardev={name},name={port}"]


def _disk(number: int, disk: HostDisk) -> list[str]:
    path = disk.path.absolute()
    if not (path.is_file() or path.is_block_device()):
        raise LabError(f"the disk {path} is not there, or is neither a file nor a block device", "check the path")
    # Never by format: what the file says of itself is for dom0 to read.
    drive = f"if=none,id=disk{number},format=raw,snapshot={'off' if disk.writable else 'on'}"
    escaped = str(path).replace(",", ",,")
    return [
        "-drive",
        f"{drive},file.driver={'file' if path.is_file() else 'host_device'},file.filename={escaped}",
        "-device",
        f"virtio-blk-pci,{_VIRTIO},drive=disk{number},serial={number},{_address(number)}",
    ]


def _address(number: int) -> str:
    """Return where disk `number` goes on the bus: eight are one device, or there would be room for less than thirty."""
    device, function = divmod(number, 8)
    return f"addr={_FIRST_DISK + device:#x}.{function},multifunction=on"


def _xen_words(recipe: Recipe, options: HostOptions) -> list[str]:
    memory = options.dom0_memory_mib
    size = (f"dom0_mem={memory}M,max:{memory}M", f"dom0_max_vcpus={options.cpus}")
    machine = machine_of(iommu=options.iommu)
    return [*recipe.xen_arguments, *size, *machine.xen_arguments, *options.extra_xen_arguments]


def _dom0_words(recipe: Recipe, options: HostOptions) -> list[str]:
    return [word.replace(",", ",,") for word in (*recipe.dom0_arguments, *options.extra_dom0_arguments)]
