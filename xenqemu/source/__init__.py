"""Stage 1: the QEMU that the user named, as a pristine tree of known version and content."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenqemu.errors import MissingError, SourceError, is_disk_full
from xenqemu.proc import CommandFailedError
from xenqemu.source.model import QemuSource, QemuTree, SourceKind
from xenqemu.source.parse import parse_source
from xenqemu.source.urls import without_credentials

if TYPE_CHECKING:
    from xenqemu.state import StateDir
    from xenqemu.ui import Ui

__all__ = ["QemuSource", "QemuTree", "SourceKind", "obtain", "parse_source"]


def obtain(source: QemuSource, state: StateDir, ui: Ui, *, supported_series: Sequence[str] = ()) -> QemuTree:
    """Import `source` into the object store of `state` and return it as a pristine tree.

    `supported_series` (like `("7.2", "10.2")`) bounds what `distro` without a series means: the newest of them. What
    was imported before is recognised and not read again. Raises `SourceError` when the source cannot be had or is
    no QEMU, `MissingError` when a tool, keycodemapdb, disk space or the right to write in `state` is missing.
    """
    # Each form is loaded when it is used: `xenqemu --help` should not pay for all of them.
    module = importlib.import_module(f"xenqemu.source.{_MODULES[source.kind]}")
    form: Callable[..., QemuTree] = getattr(module, f"obtain_{_MODULES[source.kind]}")
    more: dict[str, Any] = {"supported_series": supported_series} if source.kind is SourceKind.DISTRO else {}
    try:
        return form(source, state, ui, **more)
    except OSError as error:
        raise _in_words(error, source, state) from error
    except CommandFailedError as error:
        command, said = error.completed.argv[0], error.completed.stderr.strip().splitlines()
        refused = _refused(state) if "ermission denied" in error.completed.stderr else None
        if refused is not None:
            raise _unwritable(refused, "Permission denied") from error
        raise SourceError(
            f"{without_credentials(source.location or 'distro')}: `{command}` failed: "
            + (without_credentials(said[-1]) if said else "no reason given"),
            "is the source complete, and the state directory undamaged? (removing it costs time only)",
        ) from error


def _in_words(error: OSError, source: QemuSource, state: StateDir) -> MissingError | SourceError:
    """Return the error for what the system refused: the state directory's fault, or the source's."""
    if is_disk_full(error):
        return MissingError(f"no space left in {state.root}", "free some, or choose another with --state-dir")
    # Of a rename the destination comes first: that is what is refused.
    named = [Path(os.fsdecode(name)) for name in (error.filename2, error.filename) if isinstance(name, str | bytes)]
    ours = next((path for path in named if path.is_relative_to(state.root)), None)
    if ours is not None:
        return _unwritable(ours, error.strerror or str(error))
    where = str(named[0]) if named else without_credentials(source.location or "distro")
    return SourceError(f"{where}: {error.strerror or error}", "check the path and its permissions")


def _unwritable(path: Path, why: str) -> MissingError:
    return MissingError(
        f"the state directory cannot be used: {path}: {why}",
        "check its permissions, or choose another with --state-dir or XENQEMU_STATE_DIR",
    )


def _refused(state: StateDir) -> Path | None:
    """Return a folder that git writes in and this user cannot; git's own words do not always name it."""
    git = ("objects", "objects/pack", "refs", "refs/xenqemu", "refs/xenqemu/tree", "refs/xenqemu/incoming")
    folders = (state.git, *(state.git / name for name in git), state.clones, *state.clones.glob("*"))
    return next((path for path in folders if path.exists() and not os.access(path, os.W_OK | os.X_OK)), None)


_MODULES = {
    SourceKind.CHECKOUT: "checkout",
    SourceKind.GIT: "giturl",
    SourceKind.TARBALL: "tarball",
    SourceKind.DIRECTORY: "directory",
    SourceKind.DISTRO: "distro",
}
