"""Disk images and kernels of a guest, as far as their first bytes tell."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

_QCOW2 = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQ")  # up to the offset of the first-level table
_TABLE_OFFSET = 0x00FFFFFFFFFFFE00
_LARGEST_TABLE = 32 << 20  # QCOW_MAX_L1_SIZE of QEMU's block/qcow2.h
_BACKING = struct.Struct(">QI")  # offset and length of the backing file's name, at byte 8 of the header
_LONGEST_NAME = 1023
_MULTIBOOT = struct.pack("<I", 0x1BADB002)
_MULTIBOOT_SEARCH = 8192


def backing_file(path: Path) -> str:
    """Return the name of the backing file that the qcow2 image at `path` says it has, empty when it has none.

    docs/interop/qcow2.txt of QEMU has the header. Raises `OSError`.
    """
    with path.open("rb") as file:
        header = file.read(20)
        if len(header) < 20 or not header.startswith(_QCOW2):
            return ""
        offset, length = _BACKING.unpack_from(header, 8)
        if not offset or not 0 < length <= _LONGEST_NAME:
            return ""
        file.seek(offset)
        return file.read(length).decode("utf-8", "surrogateescape")


def is_cut_off(path: Path) -> bool:
    """Whether the qcow2 image at `path` ends before tables that it says it has; others never are.

    QEMU opens such an image and reads zeros, so that its guest finds an empty disk. Raises `OSError`.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)  # what stat() says of a block device is 0
        file.seek(0)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_QCOW2):
            return False
        *_, entries, offset = _HEADER.unpack(header)
        length = 8 * entries
        if offset + length > size:
            return True
        file.seek(offset)
        table = file.read(min(length, _LARGEST_TABLE) // 8 * 8)
    return any(entry & _TABLE_OFFSET >= size for (entry,) in struct.iter_unpack(">Q", table))


def is_kernel(path: Path) -> bool:
    """Whether anything of Xen or QEMU could start the file at `path` as a kernel.

    These are Linux images with the boot protocol's header and multiboot (`x86_load_linux` in QEMU's
    hw/i386/x86-common.c, `load_multiboot`), ELF files (libxenguest, xg_dom_elfloader.c), each also compressed with
    gzip (xg_dom_core.c, `xc_dom_do_gunzip`). Raises `OSError`.
    """
    with path.open("rb") as file:
        start = file.read(_MULTIBOOT_SEARCH)
        if start.startswith(b"\x1f\x8b"):
            file.seek(0)
            try:
                start = gzip.GzipFile(fileobj=file).read(_MULTIBOOT_SEARCH)
            except (OSError, EOFError, zlib.error):
                return False
    return start.startswith(b"\x7fELF") or start[0x202:0x206] == b"HdrS" or _MULTIBOOT in start
