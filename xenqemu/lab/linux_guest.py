"""The Linux guest: the distribution's kernel with an initial file system that reports what the kernel has found."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from xenqemu.errors import LabError
from xenqemu.lab.cpio import directory, link, regular, write_archive
from xenqemu.lab.model import LabBase
from xenqemu.state import write_atomic

# QEMU 7.2 hands the archive to a Xen guest through a port, byte by byte (xen_load_linux() in hw/i386/pc.c has no DMA
# there): it holds what this guest needs, and is compressed.
_COMPRESSION = 9
_FOLDERS = ("bin", "dev", "proc", "sys", "sbin", "modules")


def build_initramfs(base: LabBase, modules: Sequence[str], folder: Path) -> Path:
    """Write the initial file system of a guest that loads `modules` of `base`'s kernel into the existing `folder`.

    Returns its path; the same input gives the same bytes. Raises `LabError` when `base` lacks a module.
    """
    try:
        files = base.modules(*modules)
    except KeyError as error:
        raise LabError(
            f"the Linux guest needs the kernel module {error.args[0]}, which the lab's base does not have",
            "`xenqemu lab prepare --refresh` makes the base anew",
        ) from error
    init = (resources.files("xenqemu.lab") / "guests" / "linux-init.sh").read_bytes()
    archive = io.BytesIO()
    write_archive(
        archive,
        (
            *(directory(name) for name in _FOLDERS),
            regular("bin/busybox", base.busybox, 0o755),
            link("bin/sh", "busybox"),
            # orderly_poweroff() and orderly_reboot() in the kernel, which `xl shutdown` and `xl reboot` lead to.
            *(
                regular(f"sbin/{name}", f"#!/bin/sh\nexec /bin/busybox {name} -f\n".encode(), 0o755)
                for name in ("poweroff", "reboot")
            ),
            regular("init", init, 0o755),
            *(regular(f"modules/{file.name}", file) for file in files),
            regular("modules/order", "".join(f"{file.name}\n" for file in files).encode()),
        ),
    )
    path = folder / "initramfs.gz"
    write_atomic(path, gzip.compress(archive.getvalue(), _COMPRESSION, mtime=0))
    return path
