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

_DAMAGE = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError)
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


class _Counted:
    """A stream that refuses to be endless."""

    def __init__(self, stream: IO[bytes], what: str) -> None:
        self._stream = stream
        self._what = what
        self._left = MAX_TOTAL

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise SourceError(
                f"{self._what} unpacks to more than {MAX_TOTAL >> 30} GiB, which no QEMU does", "is it the right file?"
            )
        return data

    def drain(self) -> None:
        while self.read(1 << 20):
            pass


@contextmanager
def decompressed(path: Path) -> Iterator[_Counted]:
    """Enter with a stream of what the archive at `path` unpacks to.

    Raises `SourceError` when it turns out damaged or cut off, at the latest on leaving: the rest of the stream is
    read then, so that every checksum inside the format is checked.
    """
    with path.open("rb") as file:
        start = file.read(8)
    ways = [(argv, opener) for magic, argv, opener in _FORMATS if start.startswith(magic)]
    program, opener = ways[0] if ways else ((), _plain)
    try:
        if program and shutil.which(program[0]):
            with _process((*program, str(path)), path) as stream:
                yield stream
        else:
            with opener(path) as opened:
                stream = _Counted(opened, path.name)
                yield stream
                stream.drain()
    except _DAMAGE as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        # bz2 and gzip complain with a bare OSError, the kernel with one that has a number.
        if error.errno is not None:
            raise
        raise _damaged(path, str(error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "zstandard":
            raise
        raise _damaged(path, str(error)) from error


@contextmanager
def _process(argv: tuple[str, ...], path: Path) -> Iterator[_Counted]:
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        if process.stdout is None:
            raise AssertionError("Popen gives the pipe that it was asked for")
        stream = _Counted(process.stdout, path.name)
        try:
            yield stream
            stream.drain()
        except _DAMAGE as error:
            process.kill()
            raise _damaged(path, str(error)) from error
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


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


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
    with decompressed(path) as stream, tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members = []  # it would keep every header: 40 MB for a QEMU
            name = top.strip(member.name, folder=member.isdir())
            if member.isdir():
                continue
            if not name or name in seen:
                raise _hostile(what, member.name, "appears twice")
            seen.add(name)
            yield _entry(tar, member, name, top, what)


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, top: _Top, what: str) -> Entry:
    if member.issym():
        # Checked when read: what normalisation drops is never written anywhere.
        return Entry(name, SYMLINK, partial(_symlink_target, what, name, member.linkname))
    if member.islnk():
        return Entry(name, file_mode(member.mode), bytes, top.strip(member.linkname, folder=False))
    if not member.isreg():
        raise _hostile(what, member.name, "is a device or another special file")
    if member.size > MAX_FILE:
        raise _hostile(what, member.name, f"is {member.size >> 20} MiB big")
    return Entry(name, file_mode(member.mode), partial(_read_member, tar, member))
