"""Writing cpio archives in the format "newc", which Linux unpacks as its initial file system.

The rules are those of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c: an
archive may follow another, and of two entries with one path the later one stays.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_MAGIC = "070701"
_TRAILER = "TRAILER!!!"
_LARGEST = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One file: its relative `path`, its `mode` with the type in it, and what it holds.

    `content` are the bytes (or the file to copy) of a regular file, the target of a symbolic link. `device` is major
    and minor of a device.
    """

    path: str
    mode: int
    content: bytes | Path = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> Entry:
    """Return the entry of a folder."""
    return Entry(path, stat.S_IFDIR | mode)


def regular(path: str, content: bytes | Path, mode: int = 0o644) -> Entry:
    """Return the entry of a regular file."""
    return Entry(path, stat.S_IFREG | mode, content)


def link(path: str, target: str) -> Entry:
    """Return the entry of a symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, os.fsencode(target))


def write_archive(sink: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write an archive with `entries`, and with the folders that they need before them, to `sink`.

    The same entries give the same bytes: no times, no owners. Raises `ValueError` for a path that is absolute or
    climbs, and for a file of 4 GiB or more; `OSError` as it comes.
    """
    written: set[str] = set()
    number = 0
    for entry in entries:
        for one in (*_parents(entry.path, written), entry):
            number += 1
            _write(sink, one, number)
            written.add(one.path)
    _write(sink, Entry(_TRAILER, 0), 0)


def _parents(path: str, written: set[str]) -> list[Entry]:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path or str(pure) != path:
        raise ValueError(f"not a relative path: {path!r}")
    parents = [str(parent) for parent in reversed(pure.parents) if str(parent) != "."]
    return [directory(parent) for parent in parents if parent not in written]


def _write(sink: BinaryIO, entry: Entry, number: int) -> None:
    name = os.fsencode(entry.path) + b"\0"
    size = entry.content.stat().st_size if isinstance(entry.content, Path) else len(entry.content)
    if size > _LARGEST:
        raise ValueError(f"too large for a cpio archive: {entry.path} ({size} bytes)")
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    fields = (number, entry.mode, 0, 0, 1, 0, size, 0, 0, *entry.device, len(name), 0)
    header = _MAGIC.encode() + b"".join(b"%08X" % field for field in fields)
    sink.write(header + name + _padding(len(header) + len(name)))
    if isinstance(entry.content, Path):
        with entry.content.open("rb") as file:
            shutil.copyfileobj(file, sink, 1 << 20)
            if file.tell() != size:
                raise OSError(f"{entry.content} changed while it was read")
    else:
        sink.write(entry.content)
    sink.write(_padding(size))


def _padding(length: int) -> bytes:
    return bytes(-length % 4)
