"""The folders with the logs of the last runs."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.state import StateDir

_KEPT = 10
_LOCK = ".running"
# What came of a run, in its folder.
RESULT = "result.json"


@contextmanager
def run_folder(state: StateDir) -> Iterator[Path]:
    """Enter a new, numbered folder for one run's logs; older ones than the last few that are not in use go."""
    top = state.lab / "runs"
    top.mkdir(parents=True, exist_ok=True)
    folder = _new(top)
    with (folder / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in _numbered(top)[:-_KEPT]:
            if not _in_use(old):
                shutil.rmtree(old, ignore_errors=True)
        yield folder


def last_runs(state: StateDir) -> tuple[Path, ...]:
    """Return the folders of the runs that are kept, the last one first."""
    top = state.lab / "runs"
    return tuple(reversed(_numbered(top))) if top.is_dir() else ()


def _numbered(top: Path) -> list[Path]:
    return sorted((path for path in top.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def _new(top: Path) -> Path:
    while True:
        numbered = _numbered(top)
        folder = top / str(int(numbered[-1].name) + 1 if numbered else 1)
        try:
            folder.mkdir()
        except FileExistsError:  # another run took that number
            continue
        return folder


def _in_use(folder: Path) -> bool:
    try:
        handle = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
