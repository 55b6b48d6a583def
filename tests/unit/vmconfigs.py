"""Small VM configs, and a device model, for tests."""

from __future__ import annotations

import os
from pathlib import Path

from xenqemu.vm.binary import Binary
from xenqemu.vm.replace import ConfigFile, read_config

HVM = b'# a guest\ntype = "hvm"\nname = "one"  # its name\nmemory = 512\n'
PV = b'name = "two"\nkernel = "/boot/vmlinuz"\n'
DOMAIN = b"<domain type='xen'>\n  <name>three</name>\n  <os><type>hvm</type></os>\n  <devices/>\n</domain>\n"
DM = Binary(Path("/opt/xenqemu/bin/qemu-system-xen"), "--dm")
LINES = b'device_model_override = "/opt/xenqemu/bin/qemu-system-xen"\ndevice_model_version = "qemu-xen"\n'


def config(folder: Path, content: bytes = HVM, name: str = "one.cfg") -> Path:
    """Write a config and return its path, without links in it."""
    path = folder.resolve() / name
    path.write_bytes(content)
    return path


def as_read(folder: Path, content: bytes) -> ConfigFile:
    """Return a config with `content` as `read_config` does."""
    return read_config(config(folder, content))


def metadata(path: Path) -> tuple[object, ...]:
    """Return everything about a file, but for its content and times, that a replacement has to keep."""
    status = path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return status.st_mode, status.st_uid, status.st_gid, attributes
