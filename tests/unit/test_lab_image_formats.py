"""Images of the lab's guests, read back as the formats' specifications say; and the CD that boots."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenqemu.lab.cd_image import CD_SECTOR, FIRST_PATTERN_SECTOR, bootable_cd
from xenqemu.lab.disk_image import SECTOR, SECTORS, pattern_disk, to_qcow, to_qed, to_vhd


def tables(image: bytes, order: str, l1_at: int, cluster: int, l2_entries: int, size: int) -> bytes:
    """Return the disk behind an L1 table; what no table leads to is zeros."""
    disk = bytearray()
    while len(disk) < size:
        number = len(disk) // cluster
        (l2_at,) = struct.unpack_from(f"{order}Q", image, l1_at + number // l2_entries * 8)
        (at,) = struct.unpack_from(f"{order}Q", image, l2_at + number % l2_entries * 8)
        assert at + cluster <= len(image)
        assert not at % cluster
        disk += image[at : at + cluster]
    return bytes(disk[:size])


def read_qcow(image: bytes) -> bytes:
    magic, version, backing, _, _, size, cluster_bits, l2_bits, _, crypt, l1_at = struct.unpack_from(
        ">4sIQIIQBBHIQ", image
    )
    assert (magic, version, backing, crypt) == (b"QFI\xfb", 1, 0, 0)
    assert 9 <= cluster_bits <= 16  # qcow_open() in block/qcow.c
    assert 6 <= l2_bits <= 13
    return tables(image, ">", l1_at, 1 << cluster_bits, 1 << l2_bits, size)


def read_qed(image: bytes) -> bytes:
    magic, cluster, table, header, *features, l1_at, size, _, _ = struct.unpack_from("<4sIIIQQQQQII", image)
    assert magic == b"QED\0"
    assert cluster in [1 << bits for bits in range(12, 27)]  # qed_is_cluster_size_valid() in block/qed.c
    assert table in (2, 4, 8, 16)  # qed_is_table_size_valid(), and qed_check_table_offset() refuses 1
    assert features == [0, 0, 0]
    assert l1_at >= header * cluster
    return tables(image, "<", l1_at, cluster, table * cluster // 8, size)


def read_vhd(image: bytes) -> bytes:
    footer, header = image[:512], image[512:1536]
    assert image[-512:] == footer
    for block, at in ((footer, 64), (header, 36)):
        (there,) = struct.unpack_from(">I", block, at)
        assert there == ~(sum(block) - sum(block[at : at + 4])) & 0xFFFFFFFF
    cookie, _, version, header_at, _, creator = struct.unpack_from(">8sIIQI4s", footer)
    assert (cookie, version, header_at, creator) == (b"conectix", 0x10000, 512, b"tap\0")
    original, size, cylinders, heads, sectors, kind = struct.unpack_from(">QQHBBI", footer, 40)
    assert original == size
    assert cylinders * heads * sectors <= size // SECTOR
    assert kind == 3
    cookie, _, table_at, version, entries, block_size = struct.unpack_from(">8sQQIII", header)
    assert (cookie, version, block_size) == (b"cxsparse", 0x10000, 2 << 20)
    disk, bitmap = b"", 512
    for (sector,) in struct.iter_unpack(">I", image[table_at : table_at + 4 * entries]):
        at = sector * SECTOR
        assert at >= table_at + 4 * entries
        assert image[at : at + bitmap] == b"\xff" * bitmap
        disk += image[at + bitmap : at + bitmap + block_size]
    assert len(disk) - size < block_size
    return disk[:size]


FORMATS = [(to_qcow, read_qcow), (to_qed, read_qed), (to_vhd, read_vhd)]


@pytest.mark.parametrize(("write", "read"), FORMATS)
@settings(max_examples=20, deadline=None)
@given(sectors=st.integers(1, SECTORS), seed=st.binary(min_size=1, max_size=64))
def test_an_image_holds_the_disk(
    write: Callable[[bytes], bytes], read: Callable[[bytes], bytes], sectors: int, seed: bytes
) -> None:
    raw = (seed * (sectors * SECTOR // len(seed) + 1))[: sectors * SECTOR]
    image = write(raw)
    assert len(image) % SECTOR == 0
    assert read(image) == raw
    assert write(raw) == image


@pytest.mark.parametrize("write", [write for write, _ in FORMATS])
def test_half_a_sector_is_no_disk(write: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="no disk of 700 bytes"):
        write(bytes(700))


@pytest.mark.parametrize("write", [to_qcow, to_qed])
def test_a_disk_that_one_table_does_not_lead_to_is_refused(write: Callable[[bytes], bytes]) -> None:
    assert write(bytes(2 << 20))
    with pytest.raises(ValueError, match="no disk of 2097664 bytes"):
        write(bytes((2 << 20) + SECTOR))


def test_a_large_vhd_has_several_blocks() -> None:
    raw = pattern_disk() * 5
    assert read_vhd(to_vhd(raw)) == raw


@given(code=st.binary(min_size=1, max_size=(FIRST_PATTERN_SECTOR * SECTOR) - 20 * CD_SECTOR))
def test_a_bios_finds_the_code_on_a_cd(code: bytes) -> None:
    """By El Torito's specification: boot record volume in sector 17, catalog, initial entry."""
    cd = bootable_cd(code)
    record = cd[17 * CD_SECTOR :]
    assert record[:7] == b"\0CD001\1"
    assert record[7:39] == b"EL TORITO SPECIFICATION".ljust(32, b"\0")
    (catalog_at,) = struct.unpack_from("<I", record, 0x47)
    catalog = cd[catalog_at * CD_SECTOR :]
    assert catalog[0] == 1
    assert catalog[30:32] == b"\x55\xaa"
    assert sum(struct.unpack("<16H", catalog[:32])) & 0xFFFF == 0
    indicator, media, segment, _, _, count, start = struct.unpack_from("<BBHBBHI", catalog, 32)
    assert (indicator, media, segment) == (0x88, 0, 0)
    assert cd[start * CD_SECTOR :][: count * SECTOR].rstrip(b"\0") == code.rstrip(b"\0")
    assert len(code) <= count * SECTOR < len(code) + SECTOR
    assert len(cd) == SECTORS * SECTOR
    assert cd[FIRST_PATTERN_SECTOR * SECTOR :] == pattern_disk()[FIRST_PATTERN_SECTOR * SECTOR :]


def test_code_that_a_cd_has_no_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match="room for 24576"):
        bootable_cd(bytes(24577))
