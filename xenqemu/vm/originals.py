"""What VM configs were before xenqemu changed them, and a journal of the changes under way.

Both are one SQLite database in the state directory: one synced transaction keeps the originals of thousands of
configs, before any of them is replaced, and a killed run leaves a whole database.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xenqemu.errors import VmConfigError
from xenqemu.state import StateDir
from xenqemu.vm.replace import sync_folder

DATABASE = "originals.sqlite"
_VERSION = 1
_SCHEMA = """
CREATE TABLE original (path BLOB PRIMARY KEY, content BLOB NOT NULL, written TEXT NOT NULL, edited INTEGER NOT NULL,
                       since TEXT NOT NULL);
CREATE TABLE journal (path BLOB PRIMARY KEY, temporary BLOB NOT NULL, verb TEXT NOT NULL, before BLOB NOT NULL,
                      after TEXT NOT NULL, whole INTEGER NOT NULL);
"""
USE = "use"
REVERT = "revert"


@dataclass(frozen=True)
class Original:
    """A config's bytes from before the first `use`; `written` is the SHA-256 of what the last one wrote.

    `edited` says that someone changed the file between two of xenqemu's changes. `since` is ISO 8601 in UTC.
    """

    path: Path
    content: bytes
    written: str
    edited: bool
    since: str


@dataclass(frozen=True)
class Change:
    """A change under way: `temporary` becomes `path`, `before` becomes what has the SHA-256 `after`.

    A `whole` change belongs to a set of which all or none are to be made.
    """

    path: Path
    temporary: Path
    verb: str
    before: bytes
    after: str
    whole: bool


def digest(content: bytes) -> str:
    """Return the SHA-256 by which content is compared."""
    return hashlib.sha256(content).hexdigest()


class Originals:
    """The database, opened; its methods raise `VmConfigError` when it cannot be read or written."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def find(self, path: Path) -> Original | None:
        """Return what is kept for the config at `path` (without links in it)."""
        for row in self._run("SELECT * FROM original WHERE path = ?", (os.fsencode(path),)):
            return _original(row)
        return None

    def all(self) -> tuple[Original, ...]:
        """Return everything that is kept, by path."""
        return tuple(_original(row) for row in self._run("SELECT * FROM original ORDER BY path"))

    def changes(self) -> tuple[Change, ...]:
        """Return the changes under way: those of a killed run, unless it is our own."""
        rows = self._run("SELECT path, temporary, verb, before, after, whole FROM journal ORDER BY path")
        return tuple(
            Change(Path(os.fsdecode(path)), Path(os.fsdecode(temporary)), verb, before, after, bool(whole))
            for path, temporary, verb, before, after, whole in rows
        )

    def begin(self, changes: Iterable[Change]) -> None:
        """Write down, synced, what is going to be done; what the files are now is kept from here on."""
        rows = [
            (os.fsencode(c.path), os.fsencode(c.temporary), c.verb, c.before, c.after, int(c.whole)) for c in changes
        ]
        with self._transaction():
            self._connection.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)", rows)

    def finish(self, done: Sequence[Change], not_done: Sequence[Change] = ()) -> None:
        """Write down, synced, that `done` has been made and `not_done` has not.

        A `use` that was made keeps what was before it, unless an earlier one's original is kept already; what was
        reverted is forgotten.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        used = [change for change in done if change.verb == USE]
        with self._transaction():
            self._connection.executemany(
                "UPDATE original SET edited = content <> ? AND (edited OR written <> ?), written = ? WHERE path = ?",
                [(c.before, digest(c.before), c.after, os.fsencode(c.path)) for c in used],
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO original VALUES (?, ?, ?, 0, ?)",
                [(os.fsencode(c.path), c.before, c.after, now) for c in used],
            )
            self._connection.executemany(
                "DELETE FROM original WHERE path = ?", [(os.fsencode(c.path),) for c in done if c.verb == REVERT]
            )
            self._connection.executemany(
                "DELETE FROM journal WHERE path = ?", [(os.fsencode(c.path),) for c in (*done, *not_done)]
            )

    def forget(self, paths: Sequence[Path]) -> None:
        """Remove what is kept for `paths`."""
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM original WHERE path = ?", [(os.fsencode(path),) for path in paths]
            )

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _errors(self._path):
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _errors(self._path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield


def _original(row: tuple[Any, ...]) -> Original:
    path, content, written, edited, since = row
    return Original(Path(os.fsdecode(path)), content, written, bool(edited), since)


@contextmanager
def open_originals(state: StateDir) -> Iterator[Originals]:
    """Enter the database of `state`, made if it is not there; only its owner may read it (configs hold passwords).

    Raises `VmConfigError` for one that cannot be read.
    """
    path = state.vm / DATABASE
    with _errors(path):
        _create(path)
        connection = sqlite3.connect(path, isolation_level=None)
    with closing(connection):
        with _errors(path):
            # EXTRA also syncs the folder: a commit that power loss undoes would not be one.
            connection.execute("PRAGMA synchronous = EXTRA")
            _upgrade(connection, path)
        yield Originals(connection, path)


def _create(path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    sync_folder(path.parent)
    sync_folder(path.parent.parent)


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise VmConfigError(f"{path} is of a newer xenqemu", "use that one, or another state directory (--state-dir)")
    if version < _VERSION:
        connection.execute("PRAGMA auto_vacuum = FULL")  # what was reverted is to take no room
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise VmConfigError(
            f"the record of original configs, {path}, cannot be used: {error}",
            "see to that file and its folder, or choose another state directory with --state-dir",
        ) from error
