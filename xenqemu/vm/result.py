"""What became of a config: the same for every command that changes some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import VmConfigError
from xenqemu.text import printable
from xenqemu.vm.replace import resolve
from xenqemu.vm.rewrite import Setting

CHANGED = "changed"
UNCHANGED = "unchanged"
LEFT_ALONE = "left alone"
NOT_WRITTEN = "not written"
REFUSED = "refused"
REVERTED = "reverted"


@dataclass(frozen=True)
class FileResult:
    """What became of the config at `path`: the `action`, why, what changed, what else is to be known.

    `diff` is that of a dry run.
    """

    path: Path
    action: str
    reason: str = ""
    hint: str = ""
    changes: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()
    diff: str = ""

    @property
    def failed(self) -> bool:
        """Whether the user asked for what could not be done."""
        return self.action in (REFUSED, NOT_WRITTEN)


def distinct(configs: Iterable[Path]) -> tuple[dict[Path, Path], dict[Path, FileResult]]:
    """Return the name of each file of `configs` by its path without links, and what can be said of the others."""
    files: dict[Path, Path] = {}
    results: dict[Path, FileResult] = {}
    for named in dict.fromkeys(configs):
        try:
            first = files.setdefault(resolve(named), named)
        except VmConfigError as error:
            results[named] = refused(named, error)
            continue
        if first != named:
            results[named] = FileResult(named, LEFT_ALONE, f"the same file as {printable(first)}")
    return files, results


def refused(path: Path, error: VmConfigError) -> FileResult:
    """Return the result for a config that `error` is about."""
    return FileResult(path, REFUSED, error.message, hint=error.hint)
