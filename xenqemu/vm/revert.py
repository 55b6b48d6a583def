"""Giving VM configs back the bytes that they had before xenqemu changed them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xenqemu.errors import VmConfigError
from xenqemu.state import StateDir, write_atomic
from xenqemu.text import printable
from xenqemu.ui import Ui
from xenqemu.vm.difference import unified
from xenqemu.vm.originals import REVERT, Original, Originals, digest, open_originals
from xenqemu.vm.replace import ConfigFile, about_links, read_config, sync_folder
from xenqemu.vm.result import REVERTED, UNCHANGED, FileResult, distinct, refused
from xenqemu.vm.transaction import Edit, apply, batches, editing, locked


def revert(
    configs: Sequence[Path], state: StateDir, ui: Ui, *, force: bool = False, dry_run: bool = False
) -> tuple[FileResult, ...]:
    """Make configs what they were before the first `use`, and return what became of each, in the order given.

    Owner, mode and attributes stay as they are now. A config that was edited since is left as it is, unless with
    `force`: then the edited version is kept in the state directory. Raises `VmConfigError` when the store of
    originals cannot be used.
    """
    targets, results = distinct(configs)
    if dry_run:
        with open_originals(state) as originals:
            results |= {named: _plan(path, named, originals, force=force)[0] for path, named in targets.items()}
    else:
        with editing(state, ui) as originals:
            for batch in batches(targets, whole=False):
                results |= _revert_batch(batch, originals, state, ui, force=force)
    return tuple(results[named] for named in dict.fromkeys(configs))


def kept(state: StateDir) -> tuple[Original, ...]:
    """Return the originals that are kept, by path; raises `VmConfigError` when they cannot be read."""
    with open_originals(state) as originals:
        return originals.all()


def prune(state: StateDir, ui: Ui, *, dry_run: bool = False) -> tuple[Path, ...]:
    """Forget the originals of configs that do not exist any more (only look for them in a `dry_run`); return which.

    Raises `VmConfigError` when the store of originals cannot be used.
    """
    with editing(state, ui) as originals:
        gone = tuple(original.path for original in originals.all() if not os.path.lexists(original.path))
        if not dry_run:
            originals.forget(gone)
        return gone


def _plan(path: Path, named: Path, originals: Originals, *, force: bool) -> tuple[FileResult, Edit | None]:
    try:
        original = originals.find(path)
        if original is None:
            raise VmConfigError(  # noqa: TRY301
                f"{printable(named)}: nothing is kept of it: `xenqemu vm use` has not changed it, or it was reverted",
                "`xenqemu vm revert --list` shows what is kept; another user's, or --state-dir's, is kept there",
            )
        file = read_config(path)
        if file.content != original.content and not force:
            _check_unedited(file, original, named)
    except VmConfigError as error:
        return refused(named, error), None
    diff = unified(file.content, original.content, printable(named))
    return FileResult(named, REVERTED, notes=about_links(file), diff=diff), Edit(file, original.content, REVERT)


def _check_unedited(file: ConfigFile, original: Original, named: Path) -> None:
    if digest(file.content) != original.written:
        raise VmConfigError(
            f"{printable(named)}: it was edited after `xenqemu vm use`",
            "`--force --dry-run` shows what would be lost; --force reverts it and keeps the edited version",
        )
    if original.edited:
        raise VmConfigError(
            f"{printable(named)}: it was edited between two runs of `xenqemu vm use`; what is kept is from before both",
            "`--force --dry-run` shows what would be lost; --force reverts it and keeps the edited version",
        )


def _revert_batch(
    batch: Mapping[Path, Path], originals: Originals, state: StateDir, ui: Ui, *, force: bool
) -> dict[Path, FileResult]:
    results: dict[Path, FileResult] = {}
    edits: list[Edit] = []
    same: list[Path] = []
    with locked((path.parent for path in batch), ui) as unlocked:
        for path, named in batch.items():
            result, edit = _plan(path, named, originals, force=force)
            if edit is not None and path.parent in unlocked:
                result = refused(named, unlocked[path.parent])
            elif edit is not None and edit.content == edit.file.content:
                same.append(path)
                result = FileResult(named, UNCHANGED, "it is the original already")
            elif edit is not None:
                try:
                    kept_as = _keep_edited(edit.file, originals, state)
                    result = replace(result, notes=(*result.notes, *kept_as), diff="")
                    edits.append(edit)
                except VmConfigError as error:
                    result = refused(named, error)
            results[named] = result
        failed = apply(edits, originals, ui, whole=False) if edits else {}
        originals.forget(same)
    return results | {batch[path]: refused(batch[path], error) for path, error in failed.items()}


def _keep_edited(file: ConfigFile, originals: Originals, state: StateDir) -> tuple[str, ...]:
    """Keep what someone has edited, which is about to be replaced, and return a note that says where."""
    original = originals.find(file.path)
    content = digest(file.content)
    if original is None or (content == original.written and not original.edited):
        return ()
    folder = state.vm / "edited"
    place = folder / f"{file.path.name[:100]}.{content[:16]}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        write_atomic(place, file.content, 0o600)
        sync_folder(folder)
    except OSError as error:
        raise VmConfigError(
            f"{printable(place)}: the edited version cannot be kept: {error.strerror}", "nothing was reverted"
        ) from error
    return (f"the edited version is kept as {printable(place)}",)
