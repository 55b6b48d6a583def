"""`patches check`: does the series apply to a tree, hunk by hunk, without keeping anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import PatchError
from xenqemu.gitstore import GitStore
from xenqemu.series.apply import apply_all, warn_unlisted
from xenqemu.series.catalogue import is_listed, select
from xenqemu.series.model import AppliedPatch, Series, Topic
from xenqemu.source.model import QemuTree
from xenqemu.state import StateDir
from xenqemu.ui import Ui


@dataclass(frozen=True)
class FailedPatch:
    """A patch that does not apply and the error that says why."""

    topic: str
    file: str
    error: PatchError


@dataclass(frozen=True)
class CheckReport:
    """The result of a check: what applied and what did not; `listed` as in `PatchedTree`."""

    version: str
    listed: bool
    applied: tuple[AppliedPatch, ...]
    failed: tuple[FailedPatch, ...]


def check_series(series: Series, tree: QemuTree, state: StateDir, ui: Ui) -> CheckReport:
    """Apply every topic to a scratch index of `tree`; a failure is recorded and the next topic is tried all the same.

    Any version is checked, also one that is not supported: how else would it become so.
    """
    warn_unlisted(series, tree.version, ui)
    failed: list[FailedPatch] = []

    def record(topic: Topic, path: Path, error: PatchError) -> None:
        failed.append(FailedPatch(topic.name, path.relative_to(series.folder).as_posix(), error))

    _, applied = apply_all(GitStore.open(state), tree, select(series, tree.version), series.folder, on_failure=record)
    return CheckReport(str(tree.version), is_listed(series, tree.version), applied, tuple(failed))
