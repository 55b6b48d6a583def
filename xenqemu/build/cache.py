"""What is kept in the state directory: listing finished artifacts, and removing what nobody needs."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xenqemu.build.manifest import MANIFEST, load_manifest
from xenqemu.build.stage import COMMIT, FAMILY_LOCK, LAST_USED, lock_name
from xenqemu.state import StateDir, disk_usage
from xenqemu.ui import QuietUi, Ui

# Scratch folders live for minutes; a day later they are those of killed runs.
_SCRATCH_AGE = timedelta(days=1)
# Nobody has gone on with a build, interrupted or failed, for this long: it is given up. Each is about a gigabyte.
_BUILD_AGE = timedelta(days=7)


@dataclass(frozen=True)
class CachedArtifact:
    """One finished artifact: its key, what it is, its size in bytes, when it was last used (local time, ISO 8601)."""

    key: str
    version: str
    profile: str
    xen: str
    size: int
    last_used: str


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _last_used(path: Path) -> float:
    for candidate in (path / LAST_USED, path):
        try:
            return candidate.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _by_use(state: StateDir) -> list[Path]:
    return sorted(_entries(state.artifacts), key=_last_used, reverse=True)


def _entry(manifest: Mapping[str, Any], table: str, name: str) -> str:
    found = manifest.get(table)
    return str(found.get(name, "?")) if isinstance(found, dict) else "?"


def list_artifacts(state: StateDir) -> tuple[CachedArtifact, ...]:
    """Return the finished artifacts, the most recently used first; damaged ones are left out."""
    found = []
    for path in _by_use(state):
        manifest = load_manifest(path / MANIFEST)
        if manifest is None:
            continue
        used = datetime.fromtimestamp(_last_used(path)).astimezone().isoformat(" ", "minutes")
        found.append(
            CachedArtifact(
                key=path.name,
                version=_entry(manifest, "qemu", "version"),
                profile=_entry(manifest, "profile", "name"),
                xen=_entry(manifest, "xen", "version"),
                size=disk_usage(path),
                last_used=used,
            )
        )
    return tuple(found)


def prune(
    state: StateDir,
    *,
    keep: int | None = None,
    older_than: timedelta | None = None,
    everything: bool = False,
    spare: Callable[[], Collection[str]] = tuple,
    also: Callable[[], Iterable[Path]] = tuple,
    ui: Ui | None = None,
) -> int:
    """Remove what is not needed and return the bytes that this freed.

    Artifacts beyond the `keep` most recently used ones, and those not used for `older_than`, go, but for the keys that
    `spare` returns (it is called when nobody uses the directory any more); so do the build
    folders of finished builds and of those that nobody went on with for `older_than` (None: a week), work trees that
    no other build refers to, what killed runs left in `tmp`, and the folders that `also` returns (called likewise).
    With `everything` unfinished builds, downloads, the object store and all other derived things go as well.
    Runs that prepare or build (`StateDir.using`) are waited for, which `ui` is told; an artifact that is being
    delivered and a build directory in which a killed run's compilers still work stay.
    """
    with state.alone(ui or QuietUi()):
        spared, others = frozenset(spare()), tuple(also())
        return sum(_remove(path, state) for path in others) + _prune(state, keep, older_than, everything, spared)


def _prune(
    state: StateDir, keep: int | None, older_than: timedelta | None, everything: bool, spared: frozenset[str]
) -> int:
    now = time.time()
    freed = 0
    for number, path in enumerate(_by_use(state)):
        old = older_than is not None and now - _last_used(path) > older_than.total_seconds()
        if path.name not in spared and (everything or old or (keep is not None and number >= keep)):
            freed += _remove_artifact(path, state)
    for path in _entries(state.builds):
        stale = now - _last_used(path) > (_BUILD_AGE if older_than is None else older_than).total_seconds()
        if everything or stale or (state.artifacts / path.name).exists():
            with _free(lock_name(path.name), state) as free:
                freed += _remove(path, state) if free and not _has_orphans(path) else 0
    referenced = {_commit_of(path) for path in _entries(state.builds)}
    for path in _entries(state.trees):
        if path.name not in referenced:
            freed += _remove(path, state)
    for path in _entries(state.root / "tmp"):
        if now - _last_used(path) > _SCRATCH_AGE.total_seconds():
            freed += disk_usage(path)
            _delete(path)
    if everything:
        freed += _remove_derived(state, busy=any(_entries(state.builds)))
    return freed


def _remove_derived(state: StateDir, *, busy: bool) -> int:
    """Remove what can be had or made again; nothing while a build is under way, which may need any of it."""
    with _free("import", state) as free:  # held by a run that fetches or imports a source
        if busy or not free:
            return 0
        return sum(
            _remove(path, state)
            for path in (state.downloads, state.apt, state.memo, state.xen, state.clones, state.git)
        )


def _has_orphans(build: Path) -> bool:
    """Whether processes of a killed run still work in the folder `build`; they hold its family.lock (`stage`)."""
    try:
        with (build / FAMILY_LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _commit_of(build: Path) -> str:
    try:
        return (build / COMMIT).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


@contextmanager
def _free(name: str, state: StateDir) -> Iterator[bool]:
    """Enter with True and the lock `name` held, or with False when another run holds it."""
    lock = FileLock(state.root / "locks" / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _remove_artifact(path: Path, state: StateDir) -> int:
    """Remove an artifact unless a run holds it (`deliver.hold`) or is just building it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return 0
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _free(lock_name(path.name), state) as free:
            return _remove(path, state) if free else 0
    except BlockingIOError:
        return 0
    finally:
        os.close(handle)


def _remove(path: Path, state: StateDir) -> int:
    """Remove a file or folder: renamed first, so that nobody ever sees half of it; return its bytes."""
    if not path.exists():
        return 0
    size = disk_usage(path)
    with state.scratch("prune") as scratch:
        try:
            path.rename(scratch / path.name)
        except OSError:
            return 0
    return size


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
