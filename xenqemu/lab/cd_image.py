"""CDs of the lab's guests: a pattern that tells blocks apart, and one that a BIOS starts (El Torito)."""

from __future__ import annotations

import struct

from xenqemu.lab.disk_image import SECTOR, pattern_disk

CD_SECTOR = 2048
# Where the numbered sectors of a CD that boots begin, in sectors of a disk (boot-sector.S, FROM_CD).
FIRST_PATTERN_SECTOR = 128

_VOLUME, _BOOT_RECORD, _TERMINATOR, _CATALOG, _CODE = 16, 17, 18, 19, 20  # the second is fixed by El Torito
_SECTORS_A_CD_SECTOR = CD_SECTOR // SECTOR


def bootable_cd(code: bytes) -> bytes:
    """Return a CD from which a BIOS loads all of `code` and starts it, without emulating a disk.

    By "El Torito Bootable CD-ROM Format Specification" 1.0; its file system is empty. What is behind is numbered as on
    `pattern_disk()`. Raises `ValueError` when `code` does not fit.
    """
    front = FIRST_PATTERN_SECTOR // _SECTORS_A_CD_SECTOR
    room = (front - _CODE) * CD_SECTOR
    if len(code) > room:
        raise ValueError(f"{len(code)} bytes of code, there is room for {room}")
    record = b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", _CATALOG)
    sectors = {
        _VOLUME: b"\1CD001\1\0" + b" " * 32 + b"XENQEMU".ljust(32),
        _BOOT_RECORD: record,
        _TERMINATOR: b"\xffCD001\1",
        _CATALOG: _validation() + struct.pack("<BBHBBHI", 0x88, 0, 0, 0, 0, -(-len(code) // SECTOR), _CODE),
        _CODE: code,
    }
    start = bytearray(front * CD_SECTOR)
    for number, content in sectors.items():
        start[number * CD_SECTOR : number * CD_SECTOR + len(content)] = content
    return bytes(start) + pattern_disk()[len(start) :]


def _validation() -> bytes:
    """Return the catalog's first entry, whose 16-bit words add up to 0."""
    entry = struct.pack("<BBH24sHBB", 1, 0, 0, b"xenqemu", 0, 0x55, 0xAA)
    total = sum(struct.unpack("<16H", entry))
    return entry[:28] + struct.pack("<H", -total & 0xFFFF) + entry[30:]
