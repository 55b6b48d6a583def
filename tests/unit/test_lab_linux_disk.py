"""The disk from which a BIOS starts Linux: what goes where, as the boot sector reads it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from xenqemu.errors import LabError
from xenqemu.lab.linux_disk import linux_disk

SECTOR = 512


def kernel(sectors: int = 3, init_size: int = 5 << 20) -> bytes:
    image = bytearray(((sectors or 4) + 1) * SECTOR)
    image[0x1F1] = sectors
    image[0x202:0x206] = b"HdrS"
    image[0x211] = 1
    struct.pack_into("<I", image, 0x260, init_size)
    return bytes(image) + b"protected mode" * 100


def pieces(disk: bytes) -> dict[int, bytes]:
    """Return what the boot sector copies, by the address to which."""
    entries = [struct.unpack_from("<III", disk, 510 - 48 + 12 * number) for number in range(4)]
    return {address: disk[first * SECTOR : (first + count) * SECTOR] for first, count, address in entries}


def test_what_goes_where(tmp_path: Path) -> None:
    disk = linux_disk(kernel(), b"files" * 300, "console=ttyS0 x=1", tmp_path)
    assert (len(disk) % (1 << 20), disk[510:512]) == (0, b"\x55\xaa")
    found = pieces(disk)
    ramdisk = 21 << 20  # above where the kernel unpacks itself
    assert set(found) == {0x10000, 0x1E000, 0x100000, ramdisk}
    assert found[0x1E000].rstrip(b"\0") == b"console=ttyS0 x=1"
    assert found[0x100000].startswith(b"protected mode")
    assert found[ramdisk].startswith(b"files" * 300)
    setup = found[0x10000]
    assert len(setup) == 4 * SECTOR
    assert (setup[0x210], setup[0x211]) == (0xFF, 0x81)
    assert struct.unpack_from("<II", setup, 0x218) == (ramdisk, 1500)
    assert struct.unpack_from("<I", setup, 0x228) == (0x1E000,)
    assert list(tmp_path.iterdir()) == []
    assert linux_disk(kernel(), b"files" * 300, "console=ttyS0 x=1", tmp_path) == disk


def test_what_is_no_kernel_and_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no bzImage"):
        linux_disk(bytes(4096), b"", "", tmp_path)
    with pytest.raises(LabError, match="too long"):
        linux_disk(kernel(), b"", "x" * 9000, tmp_path)
    assert len(pieces(linux_disk(kernel(sectors=0), b"", "", tmp_path))[0x10000]) == 5 * SECTOR
