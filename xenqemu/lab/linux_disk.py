"""A disk from which a BIOS starts Linux: for guests to which no toolstack can hand a kernel."""

from __future__ import annotations

import struct
from pathlib import Path

from xenqemu.errors import LabError
from xenqemu.lab.assemble import assemble
from xenqemu.lab.disk_image import SECTOR

_LOADER = "loader/linux-loader.S"
_ENTRIES = 4
_TABLE = 510 - 12 * _ENTRIES
# Where things go: REAL_MODE_SEGMENT of linux-loader.S, and as Documentation/arch/x86/boot.rst of Linux advises.
_REAL_MODE = 0x10000
_CMDLINE = 0x1E000
_KERNEL = 0x100000
_HEAP_END = 0xE000 - 0x200
# Offsets of the setup header there.
_SETUP_SECTORS = 0x1F1
_MAGIC = 0x202
_LOADER_TYPE = 0x210
_LOAD_FLAGS = 0x211
_RAMDISK = 0x218
_HEAP = 0x224
_CMDLINE_POINTER = 0x228
_INIT_SIZE = 0x260
_UNKNOWN_LOADER, _CAN_USE_HEAP = 0xFF, 0x80
_LONGEST_CMDLINE = 0x20000 - _CMDLINE
_MIB = 1 << 20


def linux_disk(kernel: bytes, initramfs: bytes, cmdline: str, folder: Path) -> bytes:
    """Return a disk that starts the bzImage `kernel` with `initramfs` and `cmdline`; `folder` takes what lies between.

    Raises `LabError` for a kernel that is no bzImage, and `MissingError` when there are no binutils for x86.
    """
    if kernel[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise LabError("the guest's kernel is no bzImage", "report it")
    line = cmdline.encode() + b"\0"
    if len(line) > _LONGEST_CMDLINE:
        raise LabError(f"the guest's command line of {len(line)} bytes is too long", "report it")
    size = ((kernel[_SETUP_SECTORS] or 4) + 1) * SECTOR
    setup = bytearray(kernel[:size])
    (init_size,) = struct.unpack_from("<I", setup, _INIT_SIZE)
    # Above what the kernel needs to unpack itself, whose preferred address is 16 MiB.
    ramdisk = -(-(16 * _MIB + init_size) // _MIB) * _MIB
    setup[_LOADER_TYPE] = _UNKNOWN_LOADER
    setup[_LOAD_FLAGS] |= _CAN_USE_HEAP
    struct.pack_into("<II", setup, _RAMDISK, ramdisk, len(initramfs))
    struct.pack_into("<H", setup, _HEAP, _HEAP_END)
    struct.pack_into("<I", setup, _CMDLINE_POINTER, _CMDLINE)
    pieces = ((bytes(setup), _REAL_MODE), (line, _CMDLINE), (kernel[size:], _KERNEL), (initramfs, ramdisk))
    code = bytearray(assemble(folder, program=_LOADER))
    disk = bytearray()
    for number, (content, address) in enumerate(pieces):
        first, sectors = 1 + len(disk) // SECTOR, -(-len(content) // SECTOR)
        struct.pack_into("<III", code, _TABLE + 12 * number, first, sectors, address)
        disk += content.ljust(sectors * SECTOR, b"\0")
    whole = bytes(code) + bytes(disk)
    return whole.ljust(-(-len(whole) // _MIB) * _MIB, b"\0")
