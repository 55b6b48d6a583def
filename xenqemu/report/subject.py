"""What a report is about: the build that was named, or the newest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xenqemu.build.manifest import MANIFEST, file_sha256, load_manifest
from xenqemu.errors import UsageError
from xenqemu.report.model import Subject
from xenqemu.state import StateDir
from xenqemu.vm.binary import choose_binary, complete_key

_KEY = re.compile(r"[0-9a-f]{4,64}")
_HINT = "name a program that xenqemu has built, its folder, or the key of an artifact (`xenqemu cache list`)"
# A program is in bin/ or lib/xen/bin/ of a folder with a manifest, or of the tree/ of one.
_DEPTH = 5


def find_subject(named: str | None, state: StateDir) -> Subject:
    """Return the build that `named` leads to: a program, a folder with a manifest, that manifest, an artifact's key.

    None is the one in ./dist, else the artifact used last. Raises `UsageError` for what is no build of xenqemu, or when
    its program is gone, and `MissingError` when nothing has been built.
    """
    path = Path(named) if named else choose_binary(state).path
    if named and not path.exists() and _KEY.fullmatch(named):
        path = state.artifacts / complete_key(named, state)
    folder, manifest = _manifest_of(path)
    # An artifact has its files in tree/; where it was delivered they are beside the manifest.
    program = str(manifest["program"])
    binary = next((place for place in (folder / "tree" / program, folder / program) if place.is_file()), None)
    if binary is None:
        raise UsageError(f"{folder / program} is gone", "build it again with `xenqemu build`")
    kept = state.artifacts / str(manifest.get("key", ""))
    try:
        digest = file_sha256(binary)
    except OSError as error:
        raise UsageError(f"{binary} cannot be read: {error.strerror}", _HINT) from error
    if binary.is_relative_to(folder / "tree"):
        kept = folder
    return Subject(binary, manifest, digest, kept if (kept / MANIFEST).is_file() else None)


def _manifest_of(path: Path) -> tuple[Path, Mapping[str, Any]]:
    if path.is_dir():
        folders = [path]
    elif path.name == MANIFEST:
        folders = [path.parent]
    else:
        folders = list(path.resolve().parents[1:_DEPTH])
    for folder in folders:
        manifest = load_manifest(folder / MANIFEST)
        if manifest is None or not isinstance(manifest.get("program"), str):
            continue
        ours = (folder / manifest["program"], folder / "tree" / manifest["program"])
        if len(folders) == 1 or path.resolve() in ours:
            return folder, manifest
    if not path.exists():
        raise UsageError(f"{path} does not exist", _HINT)
    raise UsageError(f"{path} is no build of xenqemu: there is no {MANIFEST} that belongs to it", _HINT)
