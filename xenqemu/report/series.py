"""The patches of a build, with what the series says of each."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xenqemu.errors import PatchError
from xenqemu.report.model import DiffPart, FileChange, Paragraph, Patch
from xenqemu.report.words import tables, text
from xenqemu.series.patchfile import PatchFile, read_patch

_KINDS = {"+": "add", "-": "remove", "@": "head"}
_HEADERS = ("diff --git ", "index ", "--- ", "+++ ", "new file ", "deleted file ", "similarity ", "rename ")
_LIST = re.compile(r"^(?:\s|[-*•] |\d+[.)] )", re.MULTILINE)


def patches(manifest: Mapping[str, Any], folder: Path) -> tuple[Patch, ...]:
    """Return the patches that the manifest names, each with its description from the series in `folder`.

    One whose file is not there, or not what was applied, says so.
    """
    return tuple(
        _patch(text(entry, "topic"), text(entry, "file"), text(entry, "sha256"), folder)
        for entry in tables(manifest, "patches")
    )


def _patch(topic: str, file: str, sha256: str, folder: Path) -> Patch:
    path = folder / file
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return Patch(topic, file, note="its name leads out of the series")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        read = read_patch(path)
    except (OSError, PatchError):
        return Patch(topic, file, note="this file is not in the series any more")
    note = "" if digest == sha256 else "the file has changed since: this is what the series says now"
    return Patch(topic, file, read.subject, paragraphs(read.description), _changes(read), diff_parts(read.diff), note)


def paragraphs(description: str) -> tuple[Paragraph, ...]:
    """Return the paragraphs of a description; those with lists, tables or code in them keep their lines."""
    parts = (part.strip("\n") for part in re.split(r"\n[ \t]*\n", description))
    return tuple(_paragraph(part) for part in parts if part.strip())


def _paragraph(part: str) -> Paragraph:
    if _LIST.search(part):
        return Paragraph(part, fixed=True)
    return Paragraph(" ".join(line.strip() for line in part.splitlines()), fixed=False)


def _changes(patch: PatchFile) -> tuple[FileChange, ...]:
    from unidiff.patch import PatchSet

    return tuple(FileChange(file.path, file.added, file.removed) for file in PatchSet(patch.diff))


def diff_parts(diff: str) -> tuple[DiffPart, ...]:
    """Return a diff in parts whose lines are of one kind."""
    runs = itertools.groupby(diff.rstrip("\n").split("\n"), key=_line_kind)
    return tuple(DiffPart(kind, "\n".join(lines)) for kind, lines in runs)


def _line_kind(line: str) -> str:
    return "head" if line.startswith(_HEADERS) else _KINDS.get(line[:1], "same")
