"""The state directory: everything that xenqemu keeps between runs, and the ways to write into it safely.

Nothing in it is precious (`rm -r` costs time only) except `vm`, what VM configs were before they were changed; and
every path below it may be used by several runs at once: files are replaced whole, folders are renamed into place, and
what is built in place is held by a lock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xenqemu.errors import MissingError
from xenqemu.ui import Ui


@dataclass(frozen=True)
class StateDir:
    """The layout of the state directory.

    `git` is a bare repository with every tree that was imported and every commit of the series on it;
    `downloads` has archives, `apt` the private apt configurations, `memo` small derived facts as JSON,
    `trees` checked-out work trees by commit, `xen` Xen libraries that were built here, `builds` build
    directories and `artifacts` finished results, both by key; `vm` the originals of VM configs; `lab` the bases of
    virtual hosts by key and, in `lab/runs`, the logs of the last runs. `locks` and `tmp` are for what runs now.
    """

    root: Path

    @property
    def git(self) -> Path:
        """The bare object store."""
        return self.root / "git"

    @property
    def downloads(self) -> Path:
        """Archives by their SHA-256."""
        return self.root / "downloads"

    @property
    def clones(self) -> Path:
        """Partial clones of git URLs; their configuration may have credentials in it."""
        return self.root / "clones"

    @property
    def apt(self) -> Path:
        """Private apt configurations."""
        return self.root / "apt"

    @property
    def memo(self) -> Path:
        """Small derived facts."""
        return self.root / "memo"

    @property
    def trees(self) -> Path:
        """Work trees by commit id."""
        return self.root / "trees"

    @property
    def xen(self) -> Path:
        """Xen libraries built here, by key."""
        return self.root / "xen"

    @property
    def builds(self) -> Path:
        """Build directories by key."""
        return self.root / "builds"

    @property
    def artifacts(self) -> Path:
        """Finished results by key."""
        return self.root / "artifacts"

    @property
    def lab(self) -> Path:
        """Bases of virtual hosts by key, and `runs`."""
        return self.root / "lab"

    @property
    def vm(self) -> Path:
        """What VM configs were before `vm use`; nothing that prunes may touch it."""
        return self.root / "vm"

    def create(self) -> StateDir:
        """Make the directory and return self; raises `MissingError` when it cannot be written."""
        try:
            for path in (self.root, self.root / "locks", self.root / "tmp", self.memo):
                path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root / "tmp"):
                pass
        except OSError as error:
            raise MissingError(
                f"the state directory {self.root} cannot be written: {error.strerror}",
                "choose another with --state-dir or XENQEMU_STATE_DIR",
            ) from error
        return self

    @contextmanager
    def lock(self, name: str, ui: Ui) -> Iterator[None]:
        """Hold the lock `name` (a file name) against every other run, saying so when it has to be waited for."""
        lock = FileLock(self.root / "locks" / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            ui.note(f"waiting for another xenqemu that works on the same ({name})")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def using(self, ui: Ui) -> Iterator[None]:
        """Take part in using the directory, with others who do; nothing is pruned for as long as this context lasts.

        Everything here is found by its name and used some time later (a tree is checked out, then compiled): whoever
        prepares or builds is in this context from the first look to the last.
        """
        with self._in_use(fcntl.LOCK_SH, "waiting for `xenqemu cache prune` to end", ui):
            yield

    @contextmanager
    def alone(self, ui: Ui) -> Iterator[None]:
        """Have the directory alone: wait until nobody is `using` it, saying so, and let nobody begin."""
        with self._in_use(fcntl.LOCK_EX, f"waiting for other runs of xenqemu to end, which use {self.root}", ui):
            yield

    @contextmanager
    def _in_use(self, kind: int, waiting: str, ui: Ui) -> Iterator[None]:
        path = self.root / "locks" / "in-use"
        try:
            # A lock needs no right to write, which another user's file may not give.
            file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise MissingError(
                f"the state directory {self.root} cannot be used: {path}: {error.strerror}",
                "choose another with --state-dir or XENQEMU_STATE_DIR",
            ) from error
        try:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                ui.note(waiting)
                fcntl.flock(file, kind)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise  # a file system without locks is used without
            yield
        finally:
            os.close(file)

    @contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """Enter a new empty folder in the state directory; what is still in it on leaving is removed.

        It is on the same file system as everything else here, so that a result can be renamed into place.
        """
        path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=self.root / "tmp"))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def remember(self, kind: str, key: str, facts: dict[str, Any]) -> None:
        """Keep `facts` (JSON) under `kind` and `key`, both used as file names."""
        path = self.memo / kind / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(facts, indent=1, sort_keys=True).encode())

    def recall(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return what `remember` kept, or None when there is nothing (or nothing readable)."""
        try:
            facts = json.loads((self.memo / kind / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None


def why_not_writable(path: Path) -> str:
    """Return why the folder `path`, or what it would be made in, cannot be written; empty when it can."""
    folder = path.absolute()
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    # Not Path.is_dir(): what may not be looked at is to be told from what is no folder.
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):  # noqa: PTH116
            return f"{folder} is no folder"
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable"


def disk_usage(path: Path) -> int:
    """Return the bytes on disk of a file or a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 (called 40,000 times)
            except OSError:
                continue
    if not path.is_dir() and path.exists():
        total += path.lstat().st_blocks * 512
    return total


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one and nothing between.

    Raises `OSError`.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def publish(folder: Path, destination: Path) -> Path:
    """Rename the finished `folder` to `destination` and return it; a `destination` that is already there wins.

    Folders here are named by what went into them, so that the one which another run published first is as good.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(destination)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    return destination
