"""Stage 1: the QEMU that the user named, as a pristine tree of known version and content."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from xenqemu.errors import MissingError, SourceError
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
    no QEMU, `MissingError` when a tool, keycodemapdb or disk space is missing.
    """
    # Each form is loaded when it is used: `xenqemu --help` should not pay for all of them.
    module = importlib.import_module(f"xenqemu.source.{_MODULES[source.kind]}")
    form: Callable[..., QemuTree] = getattr(module, f"obtain_{_MODULES[source.kind]}")
    more: dict[str, Any] = {"supported_series": supported_series} if source.kind is SourceKind.DISTRO else {}
    try:
        return form(source, state, ui, **more)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MissingError(
                f"no space left in {state.root}", "free some, or choose another with --state-dir"
            ) from error
        raise SourceError(
            f"{without_credentials(source.location)}: {error.strerror or error}", "check the path and its permissions"
        ) from error
    except CommandFailedError as error:
        command, said = error.completed.argv[0], error.completed.stderr.strip().splitlines()
        raise SourceError(
            f"{without_credentials(source.location or 'distro')}: `{command}` failed: "
            + (without_credentials(said[-1]) if said else "no reason given"),
            "is the source complete, and the state directory undamaged? (removing it costs time only)",
        ) from error


_MODULES = {
    SourceKind.CHECKOUT: "checkout",
    SourceKind.GIT: "giturl",
    SourceKind.TARBALL: "tarball",
    SourceKind.DIRECTORY: "directory",
    SourceKind.DISTRO: "distro",
}
