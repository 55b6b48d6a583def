"""What the virtual Xen host is made of, what goes into it, and what comes out.

The host is an emulated machine (`qemu-system-x86_64`) that runs the real hypervisor, a real dom0 kernel and the real
toolstack of a distribution. All paths "in dom0" are absolute; dom0's files live in memory and are gone with the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.errors import LabError

# Where dom0 has what the device model's emulated cards need and hvmloader does not bring: VGA BIOS
# (vgabios-*.bin), network boot ROMs (efi-*.rom) and keymaps; a device model finds them with `-L`.
DOM0_FIRMWARE = "/usr/share/xenqemu/firmware"
# A block device for `HostDisk` number N is a link in here, called N (from 0 on).
DOM0_DISKS = "/dev/host-disk"
# Bridge that exists in dom0, with an address, so that a guest can be pinged.
DOM0_BRIDGE = "xenbr0"


class HostError(LabError):
    """The virtual host did not come up, hung, panicked or went away; the message says which."""


@dataclass(frozen=True)
class LabBase:
    """A virtual host that is ready to be started: everything of it that does not change from run to run.

    `key` names it; `xen_version` is the packaged hypervisor's (`4.17.7`), `series` its first two numbers, and
    `packages` says which version of each package it consists of. `hypervisor` is an ELF, `kernel` a bzImage that an
    HVM guest can boot, of release `kernel_release`; `base` is dom0's file system (cpio). `device_model` is the path in
    dom0 of what libxl starts for a guest whose config names no device model.

    `guest` is a folder with what a Linux guest of that kernel needs besides: `busybox` (static) and in `modules/`
    the kernel's modules for a guest's devices (uncompressed, see lab.toml), whose load order `modules` knows.
    """

    key: str
    xen_version: str
    series: str
    hypervisor: Path
    kernel: Path
    kernel_release: str
    base: Path
    guest: Path
    packages: Mapping[str, str]
    device_model: str = ""

    @property
    def dom0_kernel(self) -> Path:
        """What dom0 runs: the ELF file inside `kernel`."""
        return self.kernel.with_name("vmlinux")

    @property
    def busybox(self) -> Path:
        """A static busybox, of the same distribution as the kernel."""
        return self.guest / "busybox"

    def modules(self, *names: str) -> tuple[Path, ...]:
        """Return the files of the named kernel modules and of what these need, in the order to load them.

        `names` are without `.ko`, with `-` or `_`. What is built into the kernel has no file. Raises `KeyError` for a
        module that the base does not carry (lab.toml lists those it does).
        """
        order: dict[str, None] = {}
        known = {}
        for line in (self.guest / "modules" / "modules.dep").read_text().splitlines():
            name, _, needs = line.partition(":")
            known[name.replace("-", "_")] = (*needs.split(), name)
        for name in names:
            for file in known[name.replace("-", "_")]:
                order[file] = None
        return tuple(self.guest / "modules" / f"{file}.ko" for file in order if (self._has(file)))

    def _has(self, module: str) -> bool:
        return (self.guest / "modules" / f"{module}.ko").is_file()


@dataclass(frozen=True)
class OverlayFile:
    """One file of this run in dom0: `content` (bytes, or a file to copy) with `mode`, or a symbolic link to `link`.

    `path` is absolute, its folders are made. Two with one path: the last one counts.
    """

    path: str
    content: bytes | Path = b""
    mode: int = 0o644
    link: str = ""


@dataclass(frozen=True)
class HostDisk:
    """A file of the machine that dom0 sees as a block device with these bytes, whatever format they have.

    Unless `writable`, what dom0 writes goes to a temporary file and is thrown away. A size that is no multiple of
    512 is rounded up with zeros.
    """

    path: Path
    writable: bool = False


@dataclass(frozen=True)
class HostOptions:
    """How the host is started. `accel`: `auto` takes KVM where it can nest, `tcg`, `kvm`. `boot_timeout` in seconds.

    With `iommu` the machine has one, without which Xen gives no device to an HVM guest. `host_pci` are devices that
    dom0 leaves alone so that guests can have them: kinds of spare.toml, in the order of their slots.
    """

    memory_mib: int = 2048
    dom0_memory_mib: int = 768
    cpus: int = 1
    accel: str = "auto"
    boot_timeout: float = 180.0
    iommu: bool = False
    host_pci: Sequence[str] = ()
    extra_xen_arguments: Sequence[str] = ()
    extra_dom0_arguments: Sequence[str] = ()
    extra_emulator_arguments: Sequence[str] = ()
    extra_modules: Sequence[str] = ()


@dataclass(frozen=True)
class Completed:
    """A program in dom0 that has ended: output as it was, and its exit code (128 + N when signal N ended it)."""

    stdout: bytes
    stderr: bytes
    code: int


@dataclass(frozen=True)
class JobStatus:
    """A program in dom0 at one moment: still `running`, or ended with `code` and its output."""

    running: bool
    completed: Completed | None = field(default=None)
