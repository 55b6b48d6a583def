"""Small git trees and patch series for the tests of the stages that work on git objects."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from packaging.version import Version

from xenqemu.gitstore import GitStore
from xenqemu.source.model import QemuTree
from xenqemu.state import StateDir

MESON = "".join(f"line {number}\n" for number in range(1, 31))
FILES = {
    "meson.build": MESON,
    "hw/i386/Kconfig": "config ALPHA\n    bool\n\nconfig BETA\n    bool\n",
    "system/vl.c": "".join(f"int v{number};\n" for number in range(1, 21)),
}


def store_tree(state: StateDir, files: Mapping[str, str], version: str = "10.2.2") -> QemuTree:
    """Put `files` into the store and return them as the pristine tree of a QEMU."""
    store = GitStore.open(state)
    empty = state.root / "tmp" / "empty"
    empty.touch()
    with empty.open("rb") as nothing:
        empty_tree = store.repo().git.mktree(istream=nothing)
    with store.index(empty_tree) as index:
        for path, content in files.items():
            index.add(path, content.encode())
        tree = index.write_tree()
    return QemuTree(store.path, tree, Version(version))


def diff(path: str, before: str, after: str) -> str:
    """Return a git diff that changes `before` into `after`."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return f"diff --git a/{path} b/{path}\n" + "".join(lines)


def patch_text(subject: str, *diffs: str) -> str:
    """Return a patch file of the series."""
    return f"Subject: {subject}\n\nWhat breaks without it.\n---\n some stat\n\n{''.join(diffs)}"


def write_series(
    folder: Path, topics: Mapping[str, Mapping[str, str]], supported: str = '"7.2", "10.0", "10.2"'
) -> Path:
    """Write a series: for each topic the files by name; returns its folder."""
    folder.mkdir(exist_ok=True)
    lines = [f"[versions]\nsupported = [{supported}]\n"]
    for name, files in topics.items():
        lines.append(f'[[topic]]\nname = "{name}"\nsummary = "about {name}"\n')
        (folder / name).mkdir()
        for file, text in files.items():
            (folder / name / file).write_text(text)
    (folder / "series.toml").write_text("\n".join(lines))
    return folder
