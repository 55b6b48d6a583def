"""What a VM config means: a guest as the toolstack will make it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.vm.disk import Disk
from xenqemu.vm.vif import Vif
from xenqemu.vm.xlcfg import XlConfig

QEMU_XEN = "qemu-xen"
TRADITIONAL = "qemu-xen-traditional"
# MiB of video memory that libxl gives each card (libxl__domain_build_info_setdefault).
VIDEO_MEMORY = {"none": 0, "cirrus": 8, "stdvga": 16, "qxl": 128}


@dataclass(frozen=True)
class GuestFile:
    """A file that a config needs: the setting that names it, and where it is (absolute)."""

    key: str
    path: Path


@dataclass(frozen=True)
class Stubdomain:
    """The domain that the device model is to run in, if `enabled`; empty (or 0 MiB) is libxl's default."""

    enabled: bool = False
    kernel: str = ""
    ramdisk: str = ""
    cmdline: str = ""
    memory: int = 0


@dataclass(frozen=True)
class Vnc:
    """The device model's VNC server, if `enabled`."""

    enabled: bool = False
    listen: str = "127.0.0.1"
    display: int = 0
    password: bool = False


@dataclass(frozen=True)
class GuestView:
    """A guest, with the defaults of xl and libxl (or libvirt) for what the config does not say.

    `format` is "xl" or "libvirt"; `type` hvm, pv or pvh and `type_reason` why; memory is in MiB. The binary that the
    config asks for is `device_model_override` (libvirt: `<emulator>`), empty for the toolstack's own; `device_model` is
    the obsolete setting that xl ignores. `usbversion` and the `version` of `usbctrls` are 1 to 3, 0 when not said.
    `arguments` are handed to the device model as they are. `refusals` say why the toolstack will not take the config.
    `config` is the xl.cfg that it came from.
    """

    path: Path
    format: str
    name: str
    type: str
    type_reason: str
    memory: int = 0
    max_memory: int = 0
    vcpus: int = 1
    max_vcpus: int = 1
    device_model_override: str = ""
    device_model: str = ""
    device_model_version: str = ""
    stubdomain: Stubdomain = Stubdomain()
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    files: tuple[GuestFile, ...] = ()
    kernel: str = ""
    ramdisk: str = ""
    cmdline: str = ""
    firmware: str = ""
    vga: str = ""
    video_memory: int = 0
    vnc: Vnc = Vnc()
    sdl: bool = False
    spice: bool = False
    soundhw: str = ""
    usb: bool = False
    usbversion: int = 0
    usbdevices: tuple[str, ...] = ()
    usbctrls: tuple[int, ...] = ()
    serial: tuple[str, ...] = ()
    pci: tuple[str, ...] = ()
    boot: str = ""
    hdtype: str = ""
    acpi: bool = True
    xen_platform_pci: bool = True
    dm_restrict: bool = False
    arguments: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    config: XlConfig | None = field(default=None, repr=False, compare=False)

    @property
    def bridges(self) -> tuple[str, ...]:
        """The bridges that its network interfaces are put on, each once, in order."""
        return tuple(dict.fromkeys(vif.bridge for vif in self.vifs if not vif.backend))

    @property
    def hvm(self) -> bool:
        """Whether the guest has a device model of its own, and not only backends."""
        return self.type == "hvm"
