"""What every form of source is reduced to before it is imported: a stream of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FILE = "100644"
EXECUTABLE = "100755"
SYMLINK = "120000"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree.

    `path` is relative to the top of the tree, with `/` and undecodable bytes as surrogates; `mode` is one of git's
    three (`FILE`, `EXECUTABLE`, `SYMLINK`); `read` returns the content (a symlink's target), once, and at the
    latest when the next entry is asked for; `link` names an earlier entry whose content and mode this one has (a
    hard link), and then `read` is not used.
    """

    path: str
    mode: str
    read: Callable[[], bytes]
    link: str | None = None


def file_mode(permissions: int) -> str:
    """Return git's mode of a regular file: like git, only the owner's execute bit of `permissions` counts."""
    return EXECUTABLE if permissions & 0o100 else FILE
