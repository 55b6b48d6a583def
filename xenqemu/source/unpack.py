"""Release tarballs as a stream of entries. Nothing is written to disk, and nothing in an archive is trusted."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import posixpath
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from xenqemu.errors import SourceError
from xenqemu.source.entries import SYMLINK, Entry, file_mode

# A complete upstream tarball (with the firmware sources) unpacks to about 1 GiB, its largest file to 30 MiB.
MAX_TOTAL = 4 << 30
MAX_FILE = 256 << 20

_BLOCK = 512  # what tar counts in; an archive ends with two blocks of zeros
_DAMAGE = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)
_AGAIN = "get the file again and compare its checksum with the one that the project publishes"


def _zstd(path: Path) -> IO[bytes]:
    import zstandard

    opened: IO[bytes] = zstandard.open(path, "rb")
    return opened


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


# Magic number, program that decompresses in a process of its own (xz even in several threads), and the way without it.
_FORMATS: tuple[tuple[bytes, tuple[str, ...], Callable[[Path], Any]], ...] = (
    (b"\xfd7zXZ\0", ("xz", "-T0", "-dc", "--"), lzma.open),
    (b"\x1f\x8b", ("gzip", "-dc", "--"), gzip.open),
    (b"BZh", ("bzip2", "-dc", "--"), bz2.open),
    (b"\x28\xb5\x2f\xfd", ("zstd", "-qdc", "--"), _zstd),
)


def is_tarball(path: Path) -> bool:
    """Return whether the file at `path` begins like a tar archive, compressed or not."""
    with path.open("rb") as file:
        start = file.read(512)
    return any(start.startswith(magic) for magic, _, _ in _FORMATS) or start[257:262] == b"ustar"


class _Unpacked:
    """The unpacked archive at `path`: refuses to be endless, and says in our words when it is damaged."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream = stream
        self._path = path
        self._left = MAX_TOTAL
        self.tail = b""

    def read(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except _DAMAGE as error:
            raise _damaged(self._path, str(error)) from error
        except OSError as error:
            # bz2 and gzip complain with a bare OSError, the kernel with one that has a number.
            if error.errno is not None:
                raise
            raise _damaged(self._path, str(error)) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "zstandard":
                raise
            raise _damaged(self._path, str(error)) from error
        self._left -= len(data)
        if self._left < 0:
            raise SourceError(
                f"{self._path.name} unpacks to more than {MAX_TOTAL >> 30} GiB, which no QEMU does",
                "is it the right file?",
            )
        self.tail = (self.tail + data[-_BLOCK:])[-_BLOCK:]
        return data

    def drain(self) -> None:
        while self.read(1 << 20):
            pass


@contextmanager
def decompressed(path: Path) -> Iterator[_Unpacked]:
    """Enter with a stream of what the archive at `path` unpacks to.

    Raises `SourceError` when it turns out damaged or cut off, at the latest on leaving: the rest of the stream is
    read then, so that every checksum inside the format is checked.
    """
    with path.open("rb") as file:
        start = file.read(8)
    ways = [(argv, opener) for magic, argv, opener in _FORMATS if start.startswith(magic)]
    program, opener = ways[0] if ways else ((), _plain)
    if program and shutil.which(program[0]):
        with _process((*program, str(path)), path) as stream:
            yield stream
    else:
        with opener(path) as opened:
            stream = _Unpacked(opened, path)
            yield stream
            stream.drain()


@contextmanager
def _process(argv: tuple[str, ...], path: Path) -> Iterator[_Unpacked]:
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        if process.stdout is None:
            raise AssertionError("Popen gives the pipe that it was asked for")
        stream = _Unpacked(process.stdout, path)
        yield stream
        stream.drain()
        complaint = process.communicate()[1].decode("utf-8", "replace").strip()
        if process.returncode != 0:
            raise _damaged(path, complaint.rpartition(": ")[2])
    finally:
        process.kill()
        process.communicate()


def _damaged(path: Path, detail: str) -> SourceError:
    return SourceError(f"{path} is damaged or cut off{f' ({detail})' if detail else ''}", _AGAIN)


def _hostile(what: str, name: str, why: str) -> SourceError:
    return SourceError(f"{what}: '{name}' {why}", "no release of QEMU has that: do not use this archive")


@contextmanager
def _understanding(path: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise _damaged(path, str(error)) from error


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    with _understanding(path):
        file = tar.extractfile(member)
        return b"" if file is None else file.read()


def _require_end(tar: tarfile.TarFile, stream: _Unpacked, path: Path) -> None:
    """Raise `SourceError` unless the archive ends as archives do: with zeros, and nothing else after them.

    tarfile takes a header that it does not understand, or that is cut off, for the end.
    """
    while rest := tar.fileobj.read(1 << 20):
        if rest.strip(b"\0"):
            raise _damaged(path, "not understood to its end")
    stream.drain()
    if stream.tail.strip(b"\0") or len(stream.tail) < _BLOCK:
        raise _damaged(path, "it has no end")


class _Top:
    """The one folder that everything in a release tarball is in, taken off the names."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._top: str | None = None

    def strip(self, name: str, *, folder: bool) -> str:
        """Return `name` below the top folder, empty for that folder itself; raises `SourceError` for a bad name."""
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise _hostile(self._what, name, "climbs out of the archive's folder")
        parts = [part for part in parts if part not in ("", ".")]
        if self._top is None:
            # `tar -C tree .` has no top folder and says so in its first member.
            self._top = parts[0] if parts and (folder or len(parts) > 1) else ""
        if self._top:
            if parts[:1] != [self._top]:
                raise SourceError(
                    f"{self._what}: '{name}' is not in the folder '{self._top}' like what came before it",
                    "a release tarball has one top folder: is it the right file?",
                )
            parts = parts[1:]
        return "/".join(parts)


def _symlink_target(what: str, name: str, target: str) -> bytes:
    climbs = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if target.startswith("/") or climbs == ".." or climbs.startswith("../"):
        raise _hostile(what, name, f"is a symlink that points outside of the tree ('{target}')")
    return os.fsencode(target)


def tar_entries(path: Path) -> Generator[Entry, None, None]:
    """Yield the files of the tar archive at `path`, their names without the top folder.

    The rules are those of Python's `tarfile.data_filter`, with a refusal where that would repair. Raises `SourceError`
    for names and symlinks that climb out, devices, members that appear twice, sizes that no QEMU has, and damage.
    """
    what = path.name
    top = _Top(what)
    seen: set[str] = set()
    with (
        decompressed(path) as stream,
        _understanding(path),
        # A read copies what is left of the buffer: a bigger one costs seconds.
        tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 16) as tar,  # type: ignore[call-overload]
    ):
        while (member := tar.next()) is not None:
            tar.members = []  # it would keep every header: 40 MB for a QEMU
            name = top.strip(member.name, folder=member.isdir())
            if member.isdir():
                continue
            if not name or name in seen:
                raise _hostile(what, member.name, "appears twice")
            seen.add(name)
            yield _entry(tar, member, name, top, path)
        _require_end(tar, stream, path)


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, top: _Top, path: Path) -> Entry:
    what = path.name
    if member.issym():
        # Checked when read: what normalisation drops is never written anywhere.
        return Entry(name, SYMLINK, partial(_symlink_target, what, name, member.linkname))
    if member.islnk():
        return Entry(name, file_mode(member.mode), bytes, top.strip(member.linkname, folder=False))
    if not member.isreg():
        raise _hostile(what, member.name, "is a device or another special file")
    if member.size > MAX_FILE:
        raise _hostile(what, member.name, f"is {member.size >> 20} MiB big")
    return Entry(name, file_mode(member.mode), partial(_read_member, tar, member, path))
