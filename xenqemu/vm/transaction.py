"""Replacing many files so that a crash, at any moment, leaves each of them old or new, and its original kept.

In this order, each step synced before the next: the journal names what will be done and holds what the files are; the
new files are written beside the old ones; each is renamed over the old one; the folders are synced; the journal entry
becomes a kept original. What a killed run leaves is told from the content of the files, and ended by `editing`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from xenqemu.errors import VmConfigError
from xenqemu.state import StateDir
from xenqemu.text import printable
from xenqemu.ui import Ui
from xenqemu.vm.originals import DATABASE, USE, Change, Originals, digest, open_originals
from xenqemu.vm.replace import ConfigFile, put_in_place, read_config, sync_folder, sync_written, write_beside

# A file system commits what several threads sync at the same time together: 2.5 times as fast on ext4.
_THREADS = 16
# Each config may be in a folder of its own, and both are kept open: within the usual limit of 1024 files.
_BATCH = 450
_NAME_MAX = 255
# Network file systems may have no locks, or none for folders; the state directory's lock still holds.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)


@dataclass(frozen=True)
class Edit:
    """A config as it was read, and the `content` that it shall have; `verb` is `USE` or `REVERT`."""

    file: ConfigFile
    content: bytes
    verb: str


@contextmanager
def editing(state: StateDir, ui: Ui) -> Iterator[Originals]:
    """Enter the store of originals as its only user, with what a killed run left behind brought to an end.

    Raises `VmConfigError` when the store cannot be used or that end cannot be reached.
    """
    with state.lock("vm", ui), open_originals(state) as originals:
        _recover(originals, ui)
        yield originals


def tell_unfinished(state: StateDir, ui: Ui) -> None:
    """Warn of changes that are under way or were interrupted, for who only reads configs and must not end them."""
    if not (state.vm / DATABASE).exists():
        return
    try:
        with open_originals(state) as originals:
            count = len(originals.changes())
    except VmConfigError as error:
        ui.warn(error.message)
        return
    if count:
        ui.warn(
            f"{count} VM configs are just being changed, or a run that changed them was interrupted: then the next "
            "`xenqemu vm use` or `vm revert` brings it to an end"
        )


def batches(targets: Mapping[Path, Path], *, whole: bool) -> Iterator[dict[Path, Path]]:
    """Return `targets` in the portions that are locked and written down at a time, `whole` for all at once."""
    remaining = iter(targets.items())
    while batch := dict(islice(remaining, len(targets) if whole else _BATCH)):
        yield batch


@contextmanager
def locked(folders: Iterable[Path], ui: Ui) -> Iterator[Mapping[Path, VmConfigError]]:
    """Hold `folders` against other users' xenqemu, whose state directory is another; no file is made for it.

    Enter with why folders could not be locked, by folder.
    """
    failed: dict[Path, VmConfigError] = {}
    with ExitStack() as stack:
        for folder in sorted(set(folders)):  # in the same order everywhere: two runs cannot wait for one another
            try:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, handle)
                _flock(handle, folder, ui)
            except OSError as error:
                hint = "its configs cannot be changed"
                if error.errno == errno.EMFILE:
                    hint = "configs in that many folders at once need a higher limit: `ulimit -n`"
                failed[folder] = VmConfigError(f"{printable(folder)}: cannot be locked: {error.strerror}", hint)
        yield failed


def _flock(handle: int, folder: Path, ui: Ui) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        ui.note(f"waiting for another run that changes configs in {printable(folder)}")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def apply(edits: Sequence[Edit], originals: Originals, ui: Ui, *, whole: bool) -> dict[Path, VmConfigError]:
    """Make `edits`, of different files whose folders are `locked`; return those that failed, by the path of the file.

    With `whole` either all are made or, after the first failure, none is.
    """
    pending = {edit.file.path: _change(edit, whole) for edit in edits}
    originals.begin(pending.values())
    try:
        failed = _write(edits, pending)
        for edit in edits:
            path = edit.file.path
            if path in failed or (whole and failed):
                continue
            try:
                put_in_place(edit.file, pending[path].temporary)
            except VmConfigError as error:
                failed[path] = error
        if not (whole and failed):
            done = [change for path, change in pending.items() if path not in failed]
            _sync(done)
            originals.finish(done)
    finally:
        # Nothing is left of it but what failed or was interrupted.
        _end(originals, ui)
    return failed


def _write(edits: Sequence[Edit], pending: Mapping[Path, Change]) -> dict[Path, VmConfigError]:
    """Write all of `edits` beside their files, synced, and return what failed."""
    failed: dict[Path, VmConfigError] = {}
    remaining = iter(edits)
    while portion := list(islice(remaining, _BATCH)):
        handles: dict[int, Edit] = {}
        try:
            for edit in portion:
                try:
                    handles[write_beside(edit.file, pending[edit.file.path].temporary, edit.content)] = edit
                except VmConfigError as error:
                    failed[edit.file.path] = error
        finally:
            failed |= _sync_written(handles)
    return failed


def _sync_written(handles: Mapping[int, Edit]) -> dict[Path, VmConfigError]:
    def sync(handle: int) -> VmConfigError | None:
        try:
            sync_written(handles[handle].file, handle)
        except VmConfigError as error:
            return error
        return None

    if len(handles) == 1:
        results = [sync(handle) for handle in handles]
    else:
        with ThreadPoolExecutor(_THREADS) as pool:
            results = list(pool.map(sync, handles))
    return {edit.file.path: error for edit, error in zip(handles.values(), results, strict=True) if error}


def _change(edit: Edit, whole: bool) -> Change:
    path = edit.file.path
    # Hidden: `xendomains` starts every file in /etc/xen/auto that a shell's `*` finds.
    tail = f".xenqemu-{secrets.token_hex(8)}"
    head = os.fsencode(f".{path.name}")[: _NAME_MAX - len(tail)]
    temporary = path.with_name(os.fsdecode(head) + tail)
    return Change(path, temporary, edit.verb, edit.file.content, digest(edit.content), whole)


def _sync(changes: Iterable[Change]) -> None:
    for folder in sorted({change.path.parent for change in changes}):
        try:
            sync_folder(folder)
        except OSError as error:
            raise VmConfigError(
                f"{printable(folder)}: cannot be synced: {error.strerror}", "see to that disk, then run this again"
            ) from error


def _recover(originals: Originals, ui: Ui) -> None:
    """End the changes of a killed run, if there are any."""
    changes = originals.changes()
    if changes:
        ui.note(f"an earlier run was interrupted while it changed {len(changes)} VM configs: bringing that to an end")
        with locked((change.path.parent for change in changes if change.path.parent.is_dir()), ui):
            _end(originals, ui)


def _end(originals: Originals, ui: Ui) -> None:
    """Bring every change of the journal to its end; the folders are `locked`."""
    done: list[Change] = []
    not_done: list[Change] = []
    for change in originals.changes():
        (done if _is_made(change, ui) else not_done).append(change)
    if done or not_done:
        _sync(change for change in (*done, *not_done) if change.path.parent.is_dir())
        originals.finish(done, not_done)


def _is_made(change: Change, ui: Ui) -> bool:
    """Return whether `change` stands, after what is half of it was taken back."""
    try:
        had_temporary = _remove(change.temporary)
    except OSError as error:
        raise VmConfigError(
            f"{printable(change.temporary)}: cannot be removed: {error.strerror}",
            "an interrupted run left it; remove it, and run this again",
        ) from error
    try:
        file = read_config(change.path)
    except VmConfigError as error:
        ui.warn(f"{error.message}; what it was is kept for `vm revert`")
        return change.verb == USE
    now = digest(file.content)
    if now == digest(change.before):
        return False
    if change.whole and now == change.after:
        sync_written(file, write_beside(file, change.temporary, change.before))
        put_in_place(file, change.temporary)
        return False
    if now == change.after:
        return True
    # Someone has edited it since. Without the temporary file it may have been replaced before: then its original is
    # the only one there is.
    return change.verb == USE and not had_temporary


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
