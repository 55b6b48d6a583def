"""What the toolstack makes of a VM config: of an xl.cfg as xl does, of a libvirt domain as libvirt does.

Where a rule comes from: `parse_config_data` in tools/xl/xl_parse.c for what a setting means, and
`libxl__domain_build_info_setdefault` in tools/libs/light/libxl_create.c for what is left unsaid, of Xen 4.17 and 4.20.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from xenqemu.errors import VmConfigError
from xenqemu.text import printable
from xenqemu.vm.disk import Disk, parse_disk
from xenqemu.vm.guest_xml import view_libvirt
from xenqemu.vm.libvirt import is_xml
from xenqemu.vm.model import QEMU_XEN, TRADITIONAL, VIDEO_MEMORY, GuestFile, GuestView, Stubdomain, Vnc
from xenqemu.vm.replace import read_config, resolve
from xenqemu.vm.vif import Vif, parse_vif
from xenqemu.vm.xlcfg import XlConfig, XlSyntaxError, is_python, parse

__all__ = ["Disk", "GuestFile", "GuestView", "Stubdomain", "Vif", "Vnc", "parse_xl", "read_guest", "view_xl"]

# Settings that name a file which has to exist; libxl looks for a relative one of the second kind among its own.
_FILES = ("kernel", "ramdisk", "bios_path_override", "acpi_firmware", "smbios_firmware", "device_tree")
_FIRMWARE_FILES = ("firmware_override", "pvshim_path")
_HVM_FILES = ("bios_path_override", "acpi_firmware", "smbios_firmware", "firmware_override")
_BIOSES = ("seabios", "rombios", "ovmf")
_DEFAULT_MEMORY = 32


def read_guest(path: Path, folder: Path | None = None) -> GuestView:
    """Return what the config at `path` means; whether it is xl.cfg or libvirt XML is told from its content.

    Relative paths in it are of `folder`, which stands for the folder that xl is started in (default: the current one).
    Raises `VmConfigError` when it is no regular file (xl reads no other), cannot be read, or is neither.
    """
    data = read_config(resolve(path)).content
    if is_xml(data):
        return view_libvirt(data, path)
    view = view_xl(parse_xl(data, printable(path)), (folder or Path()).absolute())
    return replace(view, path=path)


def parse_xl(data: bytes, name: str) -> XlConfig:
    """Return the xl.cfg in `data`; `name` is for messages. Raises `VmConfigError`, which knows a Python file of xm."""
    try:
        return parse(data, name)
    except XlSyntaxError as error:
        python = is_python(data)
        if python is None:
            raise
        raise VmConfigError(
            f"{name}: a Python config of the old xm toolstack ({python})",
            "xl does not run Python: write down what it computes as plain `name = value` lines, then run this again",
        ) from error


def view_xl(config: XlConfig, folder: Path) -> GuestView:
    """Return what xl makes of `config` when it is started in `folder`; nothing is looked up on this machine.

    Never raises: what makes xl refuse the config as a whole is in `refusals`.
    """
    refusals: list[str] = []
    kind, reason = _type(config, refusals)
    hvm = kind == "hvm"
    name = config.text("name")
    if name is None:
        refusals.append("it has no name=, which xl wants")
    stubdomain = _stubdomain(config, hvm=hvm)
    disks = tuple(_disks(config, refusals))
    kernel = _kernel(config, hvm=hvm)
    memory, max_memory = config.number("memory"), config.number("maxmem")
    vga = _vga(config) if hvm else ""
    serial = config.items("serial") or _single(config, "serial")
    return GuestView(
        path=Path(config.name),
        format="xl",
        name=name or "",
        type=kind,
        type_reason=reason,
        memory=_first(memory, max_memory, _DEFAULT_MEMORY),
        max_memory=_first(max_memory, memory, _DEFAULT_MEMORY),
        vcpus=_first(config.number("vcpus"), 1),
        max_vcpus=_first(config.number("maxvcpus"), config.number("vcpus"), 1),
        device_model_override=config.text("device_model_override") or "",
        device_model=config.text("device_model") or "",
        device_model_version=config.text("device_model_version") or (TRADITIONAL if stubdomain.enabled else QEMU_XEN),
        stubdomain=stubdomain,
        disks=disks,
        vifs=tuple(parse_vif(spec, hvm=hvm) for spec in config.items("vif")),
        files=tuple(_files(config, folder, kernel, disks, stubdomain, hvm=hvm)),
        kernel=kernel,
        ramdisk=config.text("ramdisk") or "",
        cmdline=_cmdline(config),
        firmware=_firmware(config) if hvm else "",
        vga=vga,
        video_memory=_first(config.number("videoram"), VIDEO_MEMORY.get(vga, 0)),
        vnc=_vnc(config, kind),
        sdl=config.flag("sdl") or False,
        spice=hvm and (config.flag("spice") or False),
        soundhw=(config.text("soundhw") or "") if hvm else "",
        usb=hvm and (config.flag("usb") or False),
        usbversion=_first(config.number("usbversion"), 0) if hvm else 0,
        usbdevices=(config.items("usbdevice") or _single(config, "usbdevice")) if hvm else (),
        usbctrls=tuple(_usb_version(spec) for spec in config.items("usbctrl")),
        serial=serial if hvm else (),
        pci=config.items("pci"),
        boot=(config.text("boot") or "cda") if hvm else "",
        hdtype=(config.text("hdtype") or "ide") if hvm else "",
        acpi=_flag(config, "acpi", default=True),
        xen_platform_pci=_flag(config, "xen_platform_pci", default=True),
        dm_restrict=config.flag("dm_restrict") or False,
        arguments=config.items("device_model_args") + config.items(f"device_model_args_{'hvm' if hvm else 'pv'}"),
        refusals=tuple(refusals),
        config=config,
    )


def _first(*numbers: int | None) -> int:
    return next((number for number in numbers if number is not None), 0)


def _flag(config: XlConfig, name: str, *, default: bool) -> bool:
    value = config.flag(name)
    return default if value is None else value


def _single(config: XlConfig, name: str) -> tuple[str, ...]:
    text = config.text(name)
    return () if text is None else (text,)


def _type(config: XlConfig, refusals: list[str]) -> tuple[str, str]:
    """Return the guest's type and why; xl compares only as many characters as the config gives."""
    found: tuple[str, str] | None = None
    for name, words in (
        ("type", {"hvm": "hvm", "pv": "pv", "pvh": "pvh"}),
        ("builder", {"hvm": "hvm", "generic": "pv"}),
    ):
        text = config.text(name)
        if text is None:
            continue
        kind = next((kind for word, kind in words.items() if word.startswith(text)), None)
        if kind is None:
            refusals.append(f'{name} = "{text}" is none of {", ".join(words)}')
        elif found and found[0] != kind:
            refusals.append(f'{name} = "{text}" contradicts {found[1]}')
        else:
            found = found or (kind, f'{name} = "{text}"')
    return found or ("pv", "neither type= nor builder= says otherwise")


def _stubdomain(config: XlConfig, *, hvm: bool) -> Stubdomain:
    return Stubdomain(
        enabled=hvm and (config.flag("device_model_stubdomain_override") or False),
        kernel=config.text("stubdomain_kernel") or "",
        ramdisk=config.text("stubdomain_ramdisk") or "",
        cmdline=config.text("stubdomain_cmdline") or "",
        memory=config.number("stubdomain_memory") or 0,
    )


def _disks(config: XlConfig, refusals: list[str]) -> list[Disk]:
    disks = []
    for spec in config.items("disk"):
        try:
            disks.append(parse_disk(spec))
        except VmConfigError as error:
            refusals.append(error.message)
    return disks


def _kernel(config: XlConfig, *, hvm: bool) -> str:
    kernel = config.text("kernel") or ""
    # xl takes hvmloader there for a leftover of xm, whose configs named it, and ignores it.
    return "" if hvm and Path(kernel).name == "hvmloader" else kernel


def _cmdline(config: XlConfig) -> str:
    """Return the kernel's command line: `cmdline`, else `root` and `extra` (`parse_cmdline` in xl_parse.c)."""
    cmdline = config.text("cmdline")
    if cmdline is not None:
        return cmdline
    root, extra = config.text("root"), config.text("extra")
    return " ".join(word for word in (f"root={root}" if root else "", extra or "") if word)


def _firmware(config: XlConfig) -> str:
    """Return what the guest boots with: the BIOS's name, or the path of a firmware of one's own."""
    firmware = config.text("firmware")
    if firmware in _BIOSES:
        return firmware
    if firmware and "uefi".startswith(firmware):
        return "ovmf"
    if firmware and not "bios".startswith(firmware):
        return firmware
    return config.text("bios") or "seabios"


def _files(
    config: XlConfig, folder: Path, kernel: str, disks: tuple[Disk, ...], stubdomain: Stubdomain, *, hvm: bool
) -> list[GuestFile]:
    files = []
    for key in (*_FILES, *_FIRMWARE_FILES):
        text = kernel if key == "kernel" else config.text(key)
        absolute_only = key in _FIRMWARE_FILES
        if text and (hvm or key not in _HVM_FILES) and (not absolute_only or Path(text).is_absolute()):
            files.append(GuestFile(key, folder / text))
    firmware = _firmware(config) if hvm else ""
    if firmware == config.text("firmware") and Path(firmware).is_absolute():
        files.append(GuestFile("firmware", Path(firmware)))
    if stubdomain.enabled:
        given = (("stubdomain_kernel", stubdomain.kernel), ("stubdomain_ramdisk", stubdomain.ramdisk))
        files += [GuestFile(key, folder / text) for key, text in given if text]
    files += [
        GuestFile("disk", folder / disk.target) for disk in disks if disk.target and not disk.script + disk.backend
    ]
    return files


def _vga(config: XlConfig) -> str:
    vga = config.text("vga")
    if vga is None:
        return "stdvga" if config.number("stdvga") else "cirrus"
    return vga


def _vnc(config: XlConfig, kind: str) -> Vnc:
    """Return the VNC server: on for HVM unless switched off, of the first `vfb` for PV (or, without one, `vnc=1`)."""
    frame_buffers = config.items("vfb")
    if kind != "hvm" and frame_buffers:
        said = dict(part.lstrip(" ").partition("=")[::2] for part in frame_buffers[0].split(","))
        return Vnc(
            enabled=_atoi(said.get("vnc", "1")) != 0,
            listen=said.get("vnclisten", Vnc.listen),
            display=_atoi(said.get("vncdisplay", "0")),
            password=bool(said.get("vncpasswd")),
        )
    return Vnc(
        enabled=kind != "pvh" and _flag(config, "vnc", default=kind == "hvm"),
        listen=config.text("vnclisten") or Vnc.listen,
        display=config.number("vncdisplay") or 0,
        password=bool(config.text("vncpasswd")),
    )


def _atoi(text: str) -> int:
    match = re.match(r"\s*([+-]?[0-9]+)", text)
    return int(match[1]) if match else 0


def _usb_version(spec: str) -> int:
    said = dict(part.lstrip(" ").partition("=")[::2] for part in spec.split(","))
    return _atoi(said.get("version", "0"))
