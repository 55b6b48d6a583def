"""Disk images of the lab's guests: contents that a guest can tell right from wrong, raw and as qcow2."""

from __future__ import annotations

import struct

SECTOR = 512
# 1 MiB: the boot sector guest reads all over it (PATTERN_STEP in boot-sector.S), a Linux guest all of it.
SECTORS = 2048
# Where the numbered sectors begin; what is in front of them is for code (FIRST_PATTERN_SECTOR in boot-sector.S).
FIRST_PATTERN_SECTOR = 64

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
# A reference in an L1 or L2 table: the cluster is used once, so it may be written in place.
_COPIED = 1 << 63


def pattern_disk(code: bytes = b"") -> bytes:
    """Return a raw disk that begins with `code`; each 32-bit word of a later sector is the sector's own number.

    So a block that was read from the wrong place, or not at all, shows. Raises `ValueError` when `code` does not fit.
    """
    room = FIRST_PATTERN_SECTOR * SECTOR
    if len(code) > room:
        raise ValueError(f"{len(code)} bytes of code, there is room for {room}")
    numbered = (struct.pack("<I", number) * (SECTOR // 4) for number in range(FIRST_PATTERN_SECTOR, SECTORS))
    return code.ljust(room, b"\0") + b"".join(numbered)


def to_qcow2(raw: bytes) -> bytes:
    """Return a qcow2 image (version 3, 64 KiB clusters, nothing shared or compressed) of the disk `raw`.

    As QEMU's docs/interop/qcow2.txt lays it down: header, refcount table, one refcount block, L1 table and one L2
    table, each in a cluster of its own, then the data. qemu-img is not needed. Raises `ValueError` when `raw` is not
    whole sectors or needs more than one L2 table.
    """
    clusters = -(-len(raw) // _CLUSTER)
    first_data = 5
    if len(raw) % SECTOR or clusters > _CLUSTER // 8:
        raise ValueError(f"no disk of {len(raw)} bytes can be made a qcow2 image here")
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb",
        3,
        0,  # no backing file
        0,
        _CLUSTER_BITS,
        len(raw),
        0,  # not encrypted
        1,  # entries of the L1 table
        3 * _CLUSTER,
        1 * _CLUSTER,
        1,  # clusters of the refcount table
        0,  # no snapshots
        0,
        0,  # no incompatible, compatible or autoclear features
        0,
        0,
        4,  # refcounts of 16 bits
        104,
    )
    tables = (
        header,
        struct.pack(">Q", 2 * _CLUSTER),
        struct.pack(">H", 1) * (first_data + clusters),
        struct.pack(">Q", 4 * _CLUSTER | _COPIED),
        b"".join(struct.pack(">Q", (first_data + number) * _CLUSTER | _COPIED) for number in range(clusters)),
    )
    return b"".join(table.ljust(_CLUSTER, b"\0") for table in tables) + raw.ljust(clusters * _CLUSTER, b"\0")
