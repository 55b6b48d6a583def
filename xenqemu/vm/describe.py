"""What the toolstack will make of a VM config, in words and numbers for people and for JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xenqemu.text import printable
from xenqemu.vm.lint import device_model_of
from xenqemu.vm.lint_facts import disk_facts, file_facts
from xenqemu.vm.model import GuestView


def describe(guest: GuestView) -> dict[str, Any]:
    """Return what `guest` is, as JSON values: who it is, its device model, disks, network, screen, firmware, files."""
    model, origin = device_model_of(guest)
    return {
        "path": os.fspath(guest.path),
        "format": guest.format,
        "name": guest.name,
        "type": guest.type,
        "type_reason": guest.type_reason,
        "memory": guest.memory,
        "max_memory": guest.max_memory,
        "vcpus": guest.vcpus,
        "max_vcpus": guest.max_vcpus,
        "device_model": {
            "path": os.fspath(model) if model else "",
            "origin": origin,
            "version": guest.device_model_version,
            "needed": _needed(guest),
            "obsolete": guest.device_model,
            "restricted": guest.dm_restrict,
            "arguments": list(guest.arguments),
        },
        "stubdomain": asdict(guest.stubdomain) if guest.stubdomain.enabled else {},
        "disks": [asdict(disk) for disk in disk_facts(guest, Path().absolute())],
        "vifs": [{**asdict(vif), "problems": list(vif.problems)} for vif in guest.vifs],
        "bridges": list(guest.bridges),
        "screen": {
            "vga": guest.vga,
            "video_memory": guest.video_memory,
            "vnc": asdict(guest.vnc),
            "sdl": guest.sdl,
            "spice": guest.spice,
        },
        "firmware": guest.firmware,
        "kernel": guest.kernel,
        "ramdisk": guest.ramdisk,
        "cmdline": guest.cmdline,
        "boot": guest.boot,
        "hdtype": guest.hdtype,
        "acpi": guest.acpi,
        "xen_platform_pci": guest.xen_platform_pci,
        "soundhw": guest.soundhw,
        "usb": list(guest.usbdevices),
        "serial": list(guest.serial),
        "pci": list(guest.pci),
        "files": [
            {"key": file.key, "path": os.fspath(file.path), "problem": file.why} for file in file_facts(guest.files)
        ],
    }


def _needed(guest: GuestView) -> str:
    """Return what the guest needs a device model for, empty for nothing (`libxl__need_xenpv_qemu` in libxl_dm.c)."""
    if guest.hvm:
        return "an HVM guest's devices"
    if any(disk.backend == "qdisk" for disk in disk_facts(guest, Path().absolute())):
        return "qdisk backends"
    return "the frame buffer" if guest.vnc.enabled or guest.sdl else ""


def without_blanks(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return `facts` for people: without what is empty (what a config does not set is no news)."""
    shown = {name: _shown(value) for name, value in facts.items()}
    return {name: value for name, value in shown.items() if value not in ("", [], {}, None)}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_blanks(value)
    if isinstance(value, list):
        return [printable(item) for item in value]
    return printable(value) if isinstance(value, str) else value
