"""Small VM configs, and a device model, for tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

from xenqemu.state import StateDir
from xenqemu.ui import Ui
from xenqemu.vm.binary import Binary
from xenqemu.vm.replace import ConfigFile, read_config
from xenqemu.vm.transaction import editing

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


def program(path: Path, content: bytes = b"") -> Path:
    """Make an executable with `content`, by default the first bytes of an ELF program for this machine."""
    with Path("/proc/self/exe").open("rb") as file:
        head = file.read(64)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or head)
    path.chmod(0o755)
    return path.resolve()


def artifact(state: StateDir, key: str) -> Path:
    """Make what a build leaves in the state directory, and return its binary."""
    path = state.artifacts / key
    made = program(path / "tree" / "bin" / "qemu-system-xen")
    outputs = [{"path": "bin/qemu-system-xen", "size": made.stat().st_size}]
    manifest = {"xenqemu": "1", "key": key, "program": "bin/qemu-system-xen", "outputs": outputs}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return made


def recover(state: StateDir, ui: Ui) -> None:
    """End what a killed run has left, as the next one does."""
    with editing(state, ui):
        pass
