"""Pointing VM configs at a device model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from xenqemu.errors import UsageError, VmConfigError
from xenqemu.state import StateDir
from xenqemu.ui import Ui
from xenqemu.vm.binary import Binary
from xenqemu.vm.difference import unified
from xenqemu.vm.originals import USE, Originals
from xenqemu.vm.replace import ConfigFile, printable, read_config, resolve
from xenqemu.vm.result import CHANGED, LEFT_ALONE, NOT_WRITTEN, UNCHANGED, FileResult, distinct, refused
from xenqemu.vm.rewrite import is_hvm, rewrite
from xenqemu.vm.transaction import Edit, apply, batches, editing, locked

# What lies beside configs in /etc/xen, and is no config in use: backups, Xen's own examples (tools/examples).
_NOT_IN_USE = ("*~", "*.example", "*.bak", "*.orig", "*.old", "*.rpm*", "*.dpkg-*", "xlexample*", ".*", "#*")


@dataclass(frozen=True)
class UseRequest:
    """What `vm use` was asked: which `configs`, and which folder's HVM guests, are to use `binary`.

    `whole`: all or none. `force` also changes configs that are better left alone; see `rewrite`.
    """

    binary: Binary
    configs: tuple[Path, ...] = ()
    all_hvm: Path | None = None
    legacy: bool = False
    whole: bool = False
    force: bool = False
    dry_run: bool = False


def use(request: UseRequest, state: StateDir, ui: Ui) -> tuple[FileResult, ...]:
    """Point configs at a device model and return what became of each, in the order given.

    A config that fails does not keep the others from being changed, unless `request.whole`. Raises `UsageError` for
    a folder that is none, and `VmConfigError` when the store of originals cannot be used.
    """
    targets, results = _targets(request)
    if request.dry_run:
        results |= {named: _plan(path, named, request)[0] for path, named in targets.items()}
    else:
        with editing(state, ui) as originals:
            for batch in batches(targets, whole=request.whole):
                abandon = request.whole and any(result.failed for result in results.values())
                results |= _use_batch(batch, request, originals, ui, abandon=abandon)
    return tuple(results[named] for named in dict.fromkeys((*request.configs, *targets.values())))


def _targets(request: UseRequest) -> tuple[dict[Path, Path], dict[Path, FileResult]]:
    """Return what `distinct` does, with the folder's HVM guests."""
    targets, results = distinct(request.configs)
    for named in _candidates(request.all_hvm):
        targets.setdefault(resolve(named), named)
    return targets, results


def _candidates(folder: Path | None) -> Iterable[Path]:
    """Return what may be configs in `folder` itself; what is below it (auto/, scripts/) is links or no configs."""
    if folder is None:
        return []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"--all-hvm {folder}: {error.strerror}", "name a folder with VM configs") from error
    return [path for path in entries if not any(path.match(pattern) for pattern in _NOT_IN_USE) and _is_hvm(path)]


def _is_hvm(path: Path) -> bool:
    """Whether `path` is an HVM guest's config, or a file that cannot be looked into, of which the user should hear."""
    if not path.is_file():
        return False
    if not os.access(path, os.R_OK):
        return True
    try:
        return is_hvm(read_config(resolve(path)))
    except VmConfigError:
        return False


def _plan(path: Path, named: Path, request: UseRequest) -> tuple[FileResult, Edit | None]:
    """Return what becomes of a config, and the edit that makes it so."""
    try:
        file = read_config(path)
        new = rewrite(file, request.binary.path, legacy=request.legacy, force=request.force)
        if new.left_alone:
            return FileResult(named, LEFT_ALONE, new.left_alone, notes=new.notes), None
        if new.content == file.content:
            return FileResult(named, UNCHANGED, "it says so already", notes=new.notes), None
        notes = (*new.notes, *_about_links(file, force=request.force))
    except VmConfigError as error:
        return refused(named, error), None
    diff = unified(file.content, new.content, printable(named)) if request.dry_run else ""
    return FileResult(named, CHANGED, changes=new.changes, notes=notes, diff=diff), Edit(file, new.content, USE)


def _about_links(file: ConfigFile, *, force: bool) -> tuple[str, ...]:
    others = file.status.st_nlink - 1
    if not others:
        return ()
    if not force:
        raise VmConfigError(
            f"{printable(file.path)}: it has {others} other name(s), hard links, that would keep the old content",
            "make them symbolic links, or leave them behind with --force",
        )
    return (f"the file's {others} other name(s), hard links, keep the old content",)


def _use_batch(
    batch: Mapping[Path, Path], request: UseRequest, originals: Originals, ui: Ui, *, abandon: bool
) -> dict[Path, FileResult]:
    results: dict[Path, FileResult] = {}
    edits: dict[Path, Edit] = {}
    failed: Mapping[Path, VmConfigError] = {}
    with locked((path.parent for path in batch), ui) as unlocked:
        for path, named in batch.items():
            result, edit = _plan(path, named, request)
            if edit is not None and path.parent in unlocked:
                result, edit = refused(named, unlocked[path.parent]), None
            results[named] = result
            if edit is not None:
                edits[path] = edit
        abandon = abandon or (request.whole and any(result.failed for result in results.values()))
        if edits and not abandon:
            failed = apply(tuple(edits.values()), originals, ui, whole=request.whole)
    for path in edits:
        named = batch[path]
        if path in failed:
            results[named] = refused(named, failed[path])
        elif abandon or (request.whole and failed):
            results[named] = replace(
                results[named], action=NOT_WRITTEN, reason="another config failed, and it was all or none"
            )
    return results
