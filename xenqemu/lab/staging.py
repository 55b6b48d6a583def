"""A user's own xl.cfg made ready for the virtual host: which files dom0 needs where, which disks, which bridges.

Everything appears in dom0 at the path that it has here, so that the config works as it stands. What cannot be the same
there is changed in the copy alone, and each change is told.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from xenqemu.errors import LabError, UsageError, VmConfigError
from xenqemu.lab.device_model import DeviceModel, inspect_device_model, overlay_of
from xenqemu.lab.images import backing_file, is_cut_off, is_kernel
from xenqemu.lab.model import HostDisk, OverlayFile
from xenqemu.lab.spare import spare_functions
from xenqemu.vm.disk import Disk, choose_backend, parse_disk
from xenqemu.vm.guest import GuestView, parse_xl, view_xl
from xenqemu.vm.libvirt import is_xml
from xenqemu.vm.model import QEMU_XEN
from xenqemu.vm.pci import parse_pci
from xenqemu.vm.replace import read_config as read_file
from xenqemu.vm.replace import resolve
from xenqemu.vm.xlcfg import XlConfig, edit, parse
from xenqemu.vm.xlcfg.lexis import quote

# Folders that dom0 mounts something on while it starts: nothing from its archive of files is seen in them.
_MOUNTED = tuple(map(PurePosixPath, ("/dev", "/proc", "/sys")))
_LATE = "/usr/lib/xenqemu/staged"
_KERNELS = ("kernel", "stubdomain_kernel")
# Where a VNC server can listen in a dom0 that has no network.
_LOCAL = ("", "localhost", "0.0.0.0", "::", "::1")  # noqa: S104
_DEEPEST_BACKING = 16


@dataclass(frozen=True)
class StagedDisk:
    """A disk image: the absolute path under which dom0's device model finds it, and the file of this machine."""

    path: str
    disk: HostDisk


@dataclass(frozen=True)
class StagedGuest:
    """A guest that is ready to go into a host.

    `path` is its config in dom0 and `folder` where xl runs, `files` belong on dom0's file system before it starts,
    `links` (path, target) and `folders` are made when it is up. `notes` tell what differs from the user's config.
    """

    view: GuestView
    path: str
    folder: str
    files: tuple[OverlayFile, ...]
    disks: tuple[StagedDisk, ...]
    links: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]
    device_model: DeviceModel | None
    notes: tuple[str, ...]

    @property
    def bridges(self) -> tuple[str, ...]:
        """The bridges that have to exist in dom0."""
        return self.view.bridges


@dataclass(frozen=True)
class StageOptions:
    """How to stage a config.

    `folder` is xl's current folder, `device_model` the one for every config (None: what each names), `newest` finds one
    for a config that names none. `writable` lets guests write to their disks, `screenshot` wants a VNC server. Of
    `further` files the config knows nothing. The host can spare `host_pci` (see `HostOptions`).
    """

    folder: Path
    device_model: Path | None = None
    newest: Callable[[], Path] | None = None
    writable: bool = False
    screenshot: bool = False
    further: Sequence[Path] = ()
    host_pci: Sequence[str] = ()


@dataclass
class _Stage:
    """What was collected so far for one guest."""

    changes: dict[str, str] = field(default_factory=dict)
    files: list[OverlayFile] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    disks: list[StagedDisk] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, file: OverlayFile) -> None:
        path = PurePosixPath(file.path)
        if any(path.is_relative_to(mounted) for mounted in _MOUNTED):
            late = f"{_LATE}{file.path}"
            self.links.append((file.path, late))
            file = replace(file, path=late)
        self.files.append(file)


def read_config(path: Path) -> XlConfig:
    """Return the xl.cfg at `path`.

    Raises `VmConfigError` for a file that cannot be read, that xl would refuse, or that is another toolstack's.
    """
    data = read_file(resolve(path)).content
    if is_xml(data):
        raise VmConfigError(
            f"{path} is libvirt XML, and the lab's toolstack is xl",
            "`virsh domxml-to-native xen-xl` makes an xl.cfg of it",
        )
    return parse_xl(data, str(path))


def stage_guest(config: XlConfig, options: StageOptions) -> StagedGuest:
    """Return what the guest of `config` needs in dom0.

    Raises `LabError` for what keeps this guest from being created (a missing disk, a kernel that is none, a device
    model that cannot be loaded, what xl refuses) and `UsageError` when there is no device model to use.
    """
    stage = _Stage()
    view = view_xl(config, options.folder)
    if view.refusals:
        raise LabError(f"xl refuses {config.name}: {'; '.join(view.refusals)}", "correct the config")
    model = _device_model(view, options, stage)
    _files(view, stage)
    specs = [_stage_disk(disk, view, options, stage) for disk in view.disks]
    _display(view, options, stage)
    _pci(view, options, stage)
    data = edit(config, stage.changes)
    if specs != [disk.spec for disk in view.disks]:
        data = _with_disks(parse(data, config.name), specs)
    for further in options.further:
        stage.add(OverlayFile(str(further), further, 0o755 if os.access(further, os.X_OK) else 0o644))
    path = str(options.folder / config.name)
    stage.add(OverlayFile(path, data))
    staged_view = view_xl(parse(data, config.name), options.folder)
    return StagedGuest(
        view=staged_view,
        path=path,
        folder=str(options.folder),
        files=tuple(stage.files),
        disks=tuple(stage.disks),
        links=tuple(stage.links),
        folders=tuple(dict.fromkeys((str(options.folder), *_serial_folders(staged_view)))),
        device_model=model,
        notes=tuple(stage.notes),
    )


def _device_model(view: GuestView, options: StageOptions, stage: _Stage) -> DeviceModel | None:
    named = options.folder / view.device_model_override if view.device_model_override else None
    if view.device_model and named is None:
        stage.notes.append("device_model= is obsolete, xl ignores it: `xenqemu vm use` sets device_model_override")
    chosen = options.device_model or named
    if chosen is None:
        # Other guests have a device model only where they need one as a backend.
        chosen = options.newest() if options.newest and view.hvm else None
    if chosen is None:
        if not view.hvm:
            return None
        raise UsageError(f"{view.path} names no device model", "name one with --dm")
    chosen = options.folder / chosen
    model = inspect_device_model(chosen)
    if chosen != named:
        stage.changes["device_model_override"] = str(chosen)
        if view.config is not None and view.config.text("device_model_version") is None:
            stage.changes["device_model_version"] = QEMU_XEN  # xl warns of an override without
        if options.device_model is None:
            stage.notes.append(f"the config names no device model: {chosen} is used")
        elif named is not None:
            stage.notes.append(f"{chosen} is used instead of the config's {named}")
    for file in overlay_of(model, (str(chosen),)):
        stage.add(file)
    return model


def _files(view: GuestView, stage: _Stage) -> None:
    for wanted in view.files:
        if wanted.key == "disk":
            continue
        try:
            _open(wanted.path, stat.S_ISREG)
            kernel = wanted.key not in _KERNELS or is_kernel(wanted.path)
        except OSError as error:
            raise LabError(
                f"{wanted.key}: {wanted.path}: {error.strerror}", "correct the path in the config"
            ) from error
        if not kernel:
            raise LabError(
                f"{wanted.key}: {wanted.path} is not a kernel: no Linux boot header, no ELF, no multiboot header",
                "name a kernel image (bzImage, ELF or multiboot)",
            )
        stage.add(OverlayFile(str(wanted.path), wanted.path, 0o755))


def _stage_disk(disk: Disk, view: GuestView, options: StageOptions, stage: _Stage) -> str:
    """Pass one disk in; return its specification for the staged config."""
    if disk.script or disk.backend:
        what = f"hotplug script {disk.script}" if disk.script else f"driver domain {disk.backend}"
        stage.notes.append(f"disk {disk.vdev} needs the {what}, which the lab does not bring")
        return disk.spec
    backend, problem = choose_backend(disk, hvm=view.hvm, folder=options.folder)
    if problem:
        raise LabError(f"disk {disk.vdev}: {problem}", "correct the disk's specification or its path")
    if not disk.target:
        return disk.spec
    target = options.folder / disk.target
    _pass_in(str(target), target, options.writable and disk.writable, disk.vdev, stage, depth=0)
    # A stub domain's device model has no more of a disk than the block device that dom0 serves to it.
    if disk.backendtype or disk.format != "raw" or backend != "qdisk" or view.stubdomain.enabled:
        return disk.spec
    # A file is a block device in dom0, which libxl would serve by itself; here it would leave it to the device model.
    spec = f"backendtype=qdisk,{disk.spec}"
    same = replace(parse_disk(spec), backendtype="", spec=disk.spec) == disk
    if not same:
        stage.notes.append(f"disk {disk.vdev} is served by dom0's kernel instead of the device model")
    return spec if same else disk.spec


def _pass_in(path: str, file: Path, writable: bool, vdev: str, stage: _Stage, *, depth: int) -> None:
    """Make `file`, and what it is a layer upon, disks of the host; dom0 finds it at `path`."""
    try:
        _open(file, lambda mode: stat.S_ISREG(mode) or stat.S_ISBLK(mode))
        backing, cut_off = backing_file(file), is_cut_off(file)
    except OSError as error:
        raise LabError(f"disk {vdev}: {file}: {error.strerror}", "correct the path in the config") from error
    if cut_off:
        raise LabError(f"disk {vdev}: {file} is truncated: it ends before its own tables", "copy the image again")
    stage.disks.append(StagedDisk(path, HostDisk(file.resolve(), writable)))
    if not backing:
        return
    if ":" in backing or depth == _DEEPEST_BACKING:
        stage.notes.append(f"disk {vdev}: the backing file {backing} is not passed in")
        return
    below = Path(path).parent / backing
    _pass_in(str(below), below, False, vdev, stage, depth=depth + 1)


def _open(file: Path, suits: Callable[[int], bool]) -> None:
    """Raise the `OSError` that keeps `file` from being read; a named pipe would hold us up, a device has no end."""
    mode = file.stat().st_mode
    if not suits(mode):
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, os.strerror(number) if stat.S_ISDIR(mode) else "it is a pipe, a socket or a device")
    with file.open("rb"):
        pass


def _with_disks(config: XlConfig, specs: Sequence[str]) -> bytes:
    """Return the bytes of `config` with its last statement of disks saying all of `specs`."""
    last = config.statements_of("disk")[-1]
    items = b", ".join(quote(spec) for spec in specs)
    return config.data[: last.start] + b"disk = [ " + items + b" ]" + config.data[last.end :]


def _display(view: GuestView, options: StageOptions, stage: _Stage) -> None:
    if options.screenshot and not view.vnc.enabled:
        if not view.hvm:
            raise LabError(
                f"{view.path}: a screenshot needs a VNC server, which a {view.type} guest has with vfb= only"
            )
        stage.changes |= {"vnc": "1", "vncunused": "1", "vnclisten": "127.0.0.1"}
        stage.notes.append("VNC is switched on for the screenshot")
    elif view.vnc.enabled and view.hvm and not _is_local(view.vnc.listen.partition(":")[0]):
        stage.changes["vnclisten"] = "127.0.0.1"
        stage.notes.append(f"VNC listens on 127.0.0.1, as the lab's dom0 has no {view.vnc.listen}")
    if view.sdl:
        stage.changes["sdl"] = "0"
        stage.notes.append("SDL is switched off: dom0 has no screen")


def _pci(view: GuestView, options: StageOptions, stage: _Stage) -> None:
    spare = spare_functions(options.host_pci)
    there = ", ".join(f"{function.address} ({function.kind})" for function in spare)
    for device in map(parse_pci, view.pci):
        if device.address and not any(fnmatchcase(function.address, device.address) for function in spare):
            what = f"only {there}" if there else "none (--iommu --host-pci e1000e gives it one)"
            stage.notes.append(f"the lab's dom0 has no PCI device {device.address} to pass through, {what}")


def _is_local(address: str) -> bool:
    return address in _LOCAL or address.startswith("127.")


def _serial_folders(view: GuestView) -> list[str]:
    files = (PurePosixPath(port.removeprefix("file:")) for port in view.serial if port.startswith("file:"))
    return [str(file.parent) for file in files if file.is_absolute()]


def shared_disks(guests: Sequence[StagedGuest]) -> tuple[tuple[HostDisk, ...], dict[str, int]]:
    """Return the disks that a host of all `guests` needs, and for each path in dom0 the number of its disk.

    One file is one disk, writable when any guest may write to it.
    """
    numbers: dict[Path, int] = {}
    disks: list[HostDisk] = []
    paths: dict[str, int] = {}
    for staged in (disk for guest in guests for disk in guest.disks):
        number = numbers.setdefault(staged.disk.path, len(disks))
        if number == len(disks):
            disks.append(staged.disk)
        elif staged.disk.writable:
            disks[number] = staged.disk
        paths[staged.path] = number
    return tuple(disks), paths
