"""What the rules of lint.toml look at: things of a guest that may be many, each with what is found out about it."""

from __future__ import annotations

import difflib
import pwd
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from xenqemu.vm.disk import Disk, choose_backend, disk_index, is_vdev
from xenqemu.vm.model import GuestFile, GuestView
from xenqemu.vm.pci import look_at, parse_pci
from xenqemu.vm.xlcfg import Value, XlConfig

_KEYS = Path(__file__).with_name("xl-keys.toml")
_SECTOR = 512
# docs/interop/qcow2.rst, block/vpc.c, block/qed.h, block/vmdk.c, block/vdi.c, block/vhdx.h of QEMU.
_VHD_COOKIE = b"conectix"
_MAGICS = ((b"QED\0", "qed"), (_VHD_COOKIE, "vhd"), (b"KDMV", "vmdk"), (b"vhdxfile", "vhdx"))
_QCOW, _VDI, _VDI_OFFSET = b"QFI\xfb", b"\x7f\x10\xda\xbe", 64
# libxl__qemu_disk_format_string in tools/libs/light/libxl_device.c.
_QEMU_FORMATS = {"vhd": "vpc", "empty": ""}
# libxl__device_usbctrl_add_hvm in tools/libs/light/libxl_usb.c.
_USB_CONTROLLERS = {1: "piix3-usb-uhci", 2: "usb-ehci", 3: "nec-usb-xhci"}
# LIBXL_QEMU_USER_RANGE_BASE and LIBXL_QEMU_USER_SHARED in tools/libs/light/libxl_internal.h.
_QEMU_USERS = ("xen-qemuuser-range-base", "xen-qemuuser-shared")


@dataclass(frozen=True)
class DiskFacts:
    """A disk with what libxl and the file system say of it.

    `index` is the drive's (-1: it has none), `named` whether libxl knows the vdev, `twin` the vdev of an earlier disk
    in the same place; `backend` what libxl will use or empty with the reason in `why`; `content` the format that the
    file shows itself to be in ("" when it shows none, or cannot be read).
    """

    target: str
    format: str
    qemu_format: str
    vdev: str
    writable: bool
    cdrom: bool
    scsi: bool
    index: int
    named: bool
    twin: str
    backend: str
    why: str
    content: str
    spec: str


@dataclass(frozen=True)
class FileFacts:
    """A file that the config names, `why` it cannot be used (empty: it can)."""

    key: str
    path: Path
    why: str


@dataclass(frozen=True)
class KeyFacts:
    """A setting of an xl.cfg: whether that xl knows it, or which other does, what name was perhaps meant.

    `fits` says whether the value is of one of the `kinds` that xl looks for.
    """

    name: str
    value: str
    line: int
    known: bool
    versions: str
    suggestion: str
    kinds: str
    fits: bool


@dataclass(frozen=True)
class PciFacts:
    """A device that is passed to the guest.

    `whole` is an entry for all functions of a slot, `placed` whether it says to which slot of the guest, `seized`
    whether libxl is to take it from its driver. Where it was looked for on this machine, `missing` says that there is
    none, `driver` what has it in dom0 so that it cannot be given away, and `silent` that only dom0 may switch on its
    interrupts.
    """

    address: str
    whole: bool
    placed: bool
    seized: bool
    missing: bool
    driver: str
    silent: bool


@dataclass(frozen=True)
class Keys:
    """The settings that xl reads: those of all releases, and those of some by release; names to kinds."""

    versions: tuple[str, ...]
    common: Mapping[str, str]
    special: Mapping[str, Mapping[str, str]]

    def of(self, version: str) -> dict[str, str]:
        """Return the settings of the newest release not above `version` (all that are known when it is empty)."""
        wanted = tuple(int(part) for part in version.split(".")[:2]) if version else None
        names = [name for name in self.versions if wanted is None or _numbers(name) <= wanted]
        chosen = names if wanted is None else (names or list(self.versions[:1]))[-1:]
        return {**self.common, **{key: kind for name in chosen for key, kind in self.special[name].items()}}

    def versions_of(self, key: str) -> tuple[str, ...]:
        """Return the releases that have a setting `key` which not all have."""
        return tuple(name for name in self.versions if key in self.special[name])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@cache
def load_keys() -> Keys:
    """Return the settings that scripts/xl-keys found in the sources of Xen."""
    data: dict[str, Any] = tomllib.loads(_KEYS.read_text())
    versions = tuple(data["versions"])
    return Keys(versions, data["all"], {version: data[version] for version in versions})


def disk_facts(guest: GuestView, folder: Path | None) -> Iterator[DiskFacts]:
    """Yield what is to be known of each disk of `guest`, relative targets being of `folder`.

    Without a folder the guest is one of another machine, and its disks are what the config says.
    """
    places: dict[tuple[str, int], str] = {}
    for disk in guest.disks:
        index = disk_index(disk.vdev)
        scsi = disk.vdev.startswith("sd")
        place = _place(disk, index, hvm=guest.hvm)
        twin = places.get(place, "")
        places.setdefault(place, disk.vdev)
        backend, why = choose_backend(disk, hvm=guest.hvm, folder=folder)
        yield DiskFacts(
            target=disk.target,
            format=disk.format,
            qemu_format=_QEMU_FORMATS.get(disk.format, disk.format),
            vdev=disk.vdev,
            writable=disk.writable,
            cdrom=disk.cdrom,
            scsi=scsi,
            index=-1 if index is None else index,
            named=is_vdev(disk.vdev),
            twin=twin,
            backend=backend,
            why=why,
            content=_content(disk, folder),
            spec=disk.spec,
        )


def _content(disk: Disk, folder: Path | None) -> str:
    if disk.script or disk.backend or not disk.target:
        return ""
    return disk.format if folder is None else image_format(folder / disk.target)


def _place(disk: Disk, index: int | None, *, hvm: bool) -> tuple[str, int]:
    """Return what no two disks may have in common: xvda and hda are the same drive of the device model's controller."""
    if index is None or not hvm:
        return disk.vdev, -1
    return ("sd" if disk.vdev.startswith("sd") else "hd"), index


def image_format(path: Path) -> str:
    """Return which disk image format the file at `path` shows, "" for none or a file that cannot be read.

    Only files and block devices are opened: a named pipe would hold us up, a tape or a terminal may do something.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            return ""
        with path.open("rb") as file:
            head = file.read(_SECTOR)
            tail = b""
            if stat.S_ISREG(mode) and path.stat().st_size >= _SECTOR:
                file.seek(-_SECTOR, 2)
                tail = file.read(len(_VHD_COOKIE))
    except OSError:
        return ""
    if head.startswith(_QCOW):
        return "qcow" if head[4:8] == b"\0\0\0\1" else "qcow2"
    if head[_VDI_OFFSET : _VDI_OFFSET + 4] == _VDI:
        return "vdi"
    found = next((name for magic, name in _MAGICS if head.startswith(magic)), "")
    # A VHD of fixed size has its header at the end only.
    return found or ("vhd" if tail == _VHD_COOKIE else "")


def file_facts(files: tuple[GuestFile, ...]) -> Iterator[FileFacts]:
    """Yield what is to be known of each file but disks, which are told of as disks."""
    for file in files:
        if file.key == "disk":
            continue
        yield FileFacts(file.key, file.path, _why_not_readable(file.path))


def _why_not_readable(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():
            return "it is no regular file"
        with path.open("rb"):
            return ""
    except OSError as error:
        return error.strerror or "it cannot be read"


def key_facts(config: XlConfig | None, xen: str) -> Iterator[KeyFacts]:
    """Yield what xl of Xen `xen` ("": of any) makes of each setting's name and kind of value."""
    if config is None:
        return
    keys = load_keys().of(xen)
    for name, value in config.effective().items():
        kinds = keys.get(name, "")
        others = () if kinds else load_keys().versions_of(name)
        yield KeyFacts(
            name=name,
            value=value if isinstance(value, str) else "a list",
            line=config.statements_of(name)[-1].line,
            known=bool(kinds),
            versions=", ".join(others),
            suggestion="" if kinds or others else next(iter(difflib.get_close_matches(name, keys, 1, 0.8)), ""),
            kinds=kinds.replace(" ", " or "),
            fits=not kinds or any(_fits(config, name, value, kind) for kind in kinds.split()),
        )


def _fits(config: XlConfig, name: str, value: Value, kind: str) -> bool:
    if kind == "list":
        return isinstance(value, tuple)
    if kind == "text":
        return isinstance(value, str)
    return config.number(name) is not None


def usb_controllers(guest: GuestView) -> Iterator[str]:
    """Yield the device that libxl adds for each `usbctrl` of `guest` once it runs."""
    for version in guest.usbctrls if guest.hvm else ():
        yield _USB_CONTROLLERS.get(version, _USB_CONTROLLERS[2])


def pci_facts(guest: GuestView, *, here: bool) -> Iterator[PciFacts]:
    """Yield what is to be known of each device of the host's that `guest` gets; `here` is this machine that host."""
    for device in map(parse_pci, guest.pci):
        if not device.address:
            continue
        state = look_at(device) if here else None
        yield PciFacts(
            address=device.address,
            whole=device.all_functions,
            placed=device.slot > 0,
            seized=device.seized,
            missing=state is not None and state.missing,
            driver=state.driver if state else "",
            silent=state is not None and not (state.missing or state.driver or state.own_interrupts),
        )


def machine_facts(*, runs_xen: bool) -> dict[str, bool]:
    """Return what is to be known of this machine: whether it has a user that libxl lets a device model run as."""
    return {"runs_xen": runs_xen, "qemu_user": any(map(_is_user, _QEMU_USERS))}


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
