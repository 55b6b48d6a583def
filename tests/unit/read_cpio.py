"""Reading back a cpio archive (newc), strictly: every field is looked at, later entries win."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Read:
    """One entry as it was read."""

    number: int
    mode: int
    content: bytes
    device: tuple[int, int]
    links: int


def read_all(data: bytes) -> list[tuple[str, Read]]:
    """Return all entries of one archive or of several that follow one another."""
    entries, position = [], 0
    while position < len(data):
        assert data[position : position + 6] == b"070701"
        fields = [int(data[position + 6 + 8 * index : position + 14 + 8 * index], 16) for index in range(13)]
        number, mode, uid, gid, links, mtime, size, _, _, major, minor, name_size, check = fields
        assert uid == gid == mtime == check == 0
        name = data[position + 110 : position + 110 + name_size]
        assert name.endswith(b"\0")
        start = -(-(position + 110 + name_size) // 4) * 4
        content = data[start : start + size]
        assert len(content) == size
        position = -(-(start + size) // 4) * 4
        if name != b"TRAILER!!!\0":
            entries.append(
                (name[:-1].decode(errors="surrogateescape"), Read(number, mode, content, (major, minor), links))
            )
    assert position == len(data)
    return entries


def read_archive(data: bytes) -> dict[str, Read]:
    """Return the entries by path."""
    return dict(read_all(data))
