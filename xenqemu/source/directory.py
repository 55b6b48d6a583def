"""A QEMU in a plain folder: taken as it is."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Generator
from functools import partial
from pathlib import Path

from xenqemu.errors import SourceError
from xenqemu.source.entries import SYMLINK, Entry, file_mode
from xenqemu.source.identify import require_qemu
from xenqemu.source.model import QemuSource, QemuTree
from xenqemu.source.store import import_once
from xenqemu.state import StateDir
from xenqemu.ui import Ui


def disk_entry(path: Path, name: str) -> Entry | None:
    """Return the entry called `name` for what is at `path`, None for what is neither a file nor a symlink."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(mode):
        # Path.readlink would take off the final slash that two of QEMU's symlinks have.
        return Entry(name, SYMLINK, lambda: os.fsencode(os.readlink(path)))  # noqa: PTH115
    if stat.S_ISREG(mode):
        return Entry(name, file_mode(mode), partial(_read, path))
    return None  # a socket, a pipe: git has no such thing


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read: {error.strerror}", "the whole source tree has to be readable"
        ) from error


def walk(top: Path, prefix: str = "") -> Generator[Entry, None, None]:
    """Yield every file and symlink below `top` in a fixed order, except for `.git` and what is in it.

    Files of a folder come before its sub-folders, which is why `.gitmodules` comes first. Raises `SourceError`
    for what cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise SourceError(
            f"{error.filename} cannot be read: {error.strerror}", "the whole source tree has to be readable"
        )

    for folder, folders, files in os.walk(top, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name != ".git")
        links = [name for name in folders if Path(folder, name).is_symlink()]
        below = os.path.relpath(folder, top)
        for name in sorted(files + links):
            relative = name if below == "." else f"{below}/{name}"
            entry = disk_entry(Path(folder, name), prefix + relative)
            if entry is not None and name != ".git":
                yield entry


def _fingerprint(top: Path) -> str:
    """Return a hash over name, size and times of everything below `top`: it changes when anything there does."""
    digest = hashlib.sha256(os.fsencode(top))
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(files + folders):
            status = Path(folder, name).lstat()
            facts = (
                folder,
                name,
                status.st_mode,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_ino,
            )
            digest.update(repr(facts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def obtain_directory(source: QemuSource, state: StateDir, ui: Ui) -> QemuTree:
    """Import an extracted directory; raises `SourceError` when it is not a QEMU or not readable."""
    top = Path(source.location).resolve()
    require_qemu(top)
    imported = import_once(_fingerprint(top), lambda: walk(top), state, ui, str(top))
    origin = {"kind": source.kind.value, "location": top.name, "tree": imported.tree}
    return QemuTree(state.git, imported.tree, imported.version, origin)
