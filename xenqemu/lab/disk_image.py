"""Disk images of the lab's guests: contents that a guest can tell right from wrong, in all formats that xl knows.

Everything in an image is allocated: dom0 has it as a block device, where it cannot grow.
"""

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
# Of a qcow or QED image: the least that QED can have, and one table is enough for 2 MiB.
_SMALL_CLUSTER = 4096

_VHD_BLOCK = 2 << 20
_VHD_HEADER = 1024
_VHD_FIRST_BLOCK = 8  # in sectors: what is in front is on the first page
_HEADS, _TRACK = 4, 17  # of a small disk, by the specification's appendix
_VHD_FOOTER_SUM, _VHD_HEADER_SUM = 64, 36  # where the checksums are


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


def to_qcow(raw: bytes) -> bytes:
    """Return a qcow image (version 1) of the disk `raw`: header, L1 table, L2 table, data, see QEMU's block/qcow.c.

    Raises `ValueError` when `raw` is not whole sectors or needs more than one L2 table.
    """
    bits, entries = _SMALL_CLUSTER.bit_length() - 1, _SMALL_CLUSTER // 8
    header = struct.pack(
        ">4sIQIIQBBHIQ",
        b"QFI\xfb",
        1,
        0,  # no backing file
        0,
        0,  # when it was made
        len(raw),
        bits,
        entries.bit_length() - 1,
        0,
        0,  # not encrypted
        _SMALL_CLUSTER,
    )
    return _small_clusters(header, ">", 1, raw)


def to_qed(raw: bytes) -> bytes:
    """Return a QED image of the disk `raw`: header, L1 table, L2 table, data, as QEMU's docs/interop/qed_spec.rst says.

    Raises `ValueError` when `raw` is not whole sectors or needs more than one L2 table.
    """
    header = struct.pack(
        "<4sIIIQQQQQII",
        b"QED\0",
        _SMALL_CLUSTER,
        2,  # clusters of a table: QEMU takes no table of one for a valid one (qed_check_table_offset() in block/qed.h)
        1,  # clusters of this header
        0,  # no features, compatible or not
        0,
        0,
        _SMALL_CLUSTER,
        len(raw),
        0,  # no backing file
        0,
    )
    return _small_clusters(header, "<", 2, raw)


def _small_clusters(header: bytes, order: str, table: int, raw: bytes) -> bytes:
    """Return `header`, an L1 table, its one L2 table and the clusters of `raw`.

    Tables are of `table` clusters each, numbers of that byte `order`.
    """
    clusters = -(-len(raw) // _SMALL_CLUSTER)
    if len(raw) % SECTOR or clusters > _SMALL_CLUSTER // 8:
        raise ValueError(f"no disk of {len(raw)} bytes can be made an image of this format here")
    first_data, size = 1 + 2 * table, table * _SMALL_CLUSTER
    l1 = struct.pack(f"{order}Q", (1 + table) * _SMALL_CLUSTER)
    l2 = b"".join(struct.pack(f"{order}Q", (first_data + number) * _SMALL_CLUSTER) for number in range(clusters))
    front = header.ljust(_SMALL_CLUSTER, b"\0") + l1.ljust(size, b"\0") + l2.ljust(size, b"\0")
    return front + raw.ljust(clusters * _SMALL_CLUSTER, b"\0")


def to_vhd(raw: bytes) -> bytes:
    """Return a dynamic VHD image of the disk `raw`: a copy of the footer, header, block table, blocks, footer.

    Microsoft's "Virtual Hard Disk Image Format Specification" has the layout. The creator is blktap's, for which QEMU
    takes the size as it stands and not from the geometry (vpc_open() in block/vpc.c). Raises `ValueError` when `raw` is
    not whole sectors.
    """
    if len(raw) % SECTOR:
        raise ValueError(f"no disk of {len(raw)} bytes can be made a VHD image")
    blocks = -(-len(raw) // _VHD_BLOCK)
    bitmap = b"\xff" * (_VHD_BLOCK // SECTOR // 8)
    table_at = SECTOR + _VHD_HEADER
    table = struct.pack(
        f">{blocks}I", *(_VHD_FIRST_BLOCK + number * (_VHD_BLOCK // SECTOR + 1) for number in range(blocks))
    )
    footer = struct.pack(
        ">8sIIQI4sI4sQQHBBI4x16s",
        b"conectix",
        2,  # reserved, always set
        0x10000,
        SECTOR,  # where the header is
        0,  # when it was made
        b"tap\0",
        0x10003,
        b"\0\0\0\0",
        len(raw),
        len(raw),
        len(raw) // SECTOR // (_HEADS * _TRACK),
        _HEADS,
        _TRACK,
        3,  # dynamic
        b"xenqemu guest vd",
    )
    header = struct.pack(">8sQQIII", b"cxsparse", (1 << 64) - 1, table_at, 0x10000, blocks, _VHD_BLOCK)
    footer = _with_sum(footer.ljust(SECTOR, b"\0"), _VHD_FOOTER_SUM)
    header = _with_sum(header.ljust(_VHD_HEADER, b"\0"), _VHD_HEADER_SUM)
    filled = raw.ljust(blocks * _VHD_BLOCK, b"\0")
    data = b"".join(bitmap + filled[start : start + _VHD_BLOCK] for start in range(0, blocks * _VHD_BLOCK, _VHD_BLOCK))
    front = footer + header + table.ljust((_VHD_FIRST_BLOCK - 3) * SECTOR, b"\xff")
    return front + data + footer


def _with_sum(block: bytes, at: int) -> bytes:
    """Return `block` with the complement of the sum of its bytes at offset `at`."""
    return block[:at] + struct.pack(">I", ~sum(block) & 0xFFFFFFFF) + block[at + 4 :]
