"""Pointing VM configs at a device model."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from xenqemu.errors import UsageError, VmConfigError
from xenqemu.state import StateDir
from xenqemu.text import printable
from xenqemu.ui import Ui
from xenqemu.vm.binary import Binary
from xenqemu.vm.difference import unified
from xenqemu.vm.originals import USE, Originals
from xenqemu.vm.replace import MAX_SIZE, ConfigFile, about_links, read_config, resolve
from xenqemu.vm.result import CHANGED, LEFT_ALONE, NOT_WRITTEN, UNCHANGED, FileResult, distinct, refused
from xenqemu.vm.rewrite import LibvirtVm, XlVm, rewrite, understand
from xenqemu.vm.stubdom import StubImages
from xenqemu.vm.transaction import Edit, apply, batches, editing, locked

# What lies beside configs in /etc/xen, and is no config in use: backups, Xen's own examples (tools/examples).
_NOT_IN_USE = ("*~", "*.example", "*.bak", "*.orig", "*.old", "*.rpm*", "*.dpkg-*", "xlexample*", ".*", "#*")


@dataclass(frozen=True)
class UseRequest:
    """What `vm use` was asked: which `configs`, and which folder's HVM guests, are to use `binary`.

    With a `stubdom` they are to have their device model in it. `whole`: all or none. `force` also changes configs that
    are better left alone; see `rewrite`.
    """

    binary: Binary
    configs: tuple[Path, ...] = ()
    all_hvm: Path | None = None
    stubdom: StubImages | None = None
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
    found = frozenset(targets.values()).difference(request.configs)
    if request.dry_run:
        results |= _foreseen(targets, request, found)
    else:
        with editing(state, ui) as originals:
            for batch in batches(targets, whole=request.whole):
                abandon = request.whole and any(result.failed for result in results.values())
                results |= _use_batch(batch, request, originals, ui, found=found, abandon=abandon)
    return tuple(results[named] for named in dict.fromkeys((*request.configs, *targets.values())) if named in results)


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
    return [
        path for path in entries if not any(path.match(pattern) for pattern in _NOT_IN_USE) and _may_be_config(path)
    ]


def _may_be_config(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:  # a link to nothing
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_SIZE


def _plan(path: Path, named: Path, request: UseRequest, *, found: bool) -> tuple[FileResult | None, Edit | None]:
    """Return what becomes of a config, and the edit that makes it so.

    One that was `found` in a folder, and turns out to be no HVM guest's, has no result.
    """
    try:
        file = read_config(path)
        vm = _understand(file, found=found)
        if vm is None:
            return None, None
        new = rewrite(vm, request.binary.path, legacy=request.legacy, force=request.force, stubdom=request.stubdom)
        if new.left_alone:
            return FileResult(named, LEFT_ALONE, new.left_alone, notes=new.notes), None
        if new.content == file.content:
            return FileResult(named, UNCHANGED, "it says so already", notes=new.notes), None
        if not request.force:
            _check_links(file)
    except VmConfigError as error:
        return refused(named, error), None
    diff = unified(file.content, new.content, printable(named)) if request.dry_run else ""
    notes = (*new.notes, *about_links(file))
    return FileResult(named, CHANGED, changes=new.changes, notes=notes, diff=diff), Edit(file, new.content, USE)


def _foreseen(targets: Mapping[Path, Path], request: UseRequest, found: frozenset[Path]) -> dict[Path, FileResult]:
    """Return what would become of the configs, as far as that can be told without writing."""
    planned = {named: _plan(path, named, request, found=named in found)[0] for path, named in targets.items()}
    results = {named: result for named, result in planned.items() if result is not None}
    if not (request.whole and any(result.failed for result in results.values())):
        return results
    return {named: _not_written(result) if result.action == CHANGED else result for named, result in results.items()}


def _understand(file: ConfigFile, *, found: bool) -> XlVm | LibvirtVm | None:
    """Return what `file` says, None if it was `found` and is no HVM guest's config."""
    try:
        vm = understand(file)
    except VmConfigError:
        if found:
            return None
        raise
    return vm if vm.is_hvm or not found else None


def _check_links(file: ConfigFile) -> None:
    others = file.status.st_nlink - 1
    if others:
        raise VmConfigError(
            f"{printable(file.path)}: it has {others} other name(s), hard links, that would keep the old content",
            "make them symbolic links, or leave them behind with --force",
        )


def _use_batch(
    batch: Mapping[Path, Path],
    request: UseRequest,
    originals: Originals,
    ui: Ui,
    *,
    found: frozenset[Path],
    abandon: bool,
) -> dict[Path, FileResult]:
    results: dict[Path, FileResult] = {}
    edits: dict[Path, Edit] = {}
    failed: Mapping[Path, VmConfigError] = {}
    with locked((path.parent for path in batch), ui) as unlocked:
        for path, named in batch.items():
            result, edit = _plan(path, named, request, found=named in found)
            if edit is not None and path.parent in unlocked:
                result, edit = refused(named, unlocked[path.parent]), None
            if result is not None:
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
            results[named] = _not_written(results[named])
    return results


def _not_written(result: FileResult) -> FileResult:
    return replace(result, action=NOT_WRITTEN, reason="another config failed, and it was all or none", diff="")
