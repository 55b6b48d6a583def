"""The source tree of a Xen that the machine's own package archive has."""

from __future__ import annotations

import os
from pathlib import Path

from xenqemu.archive.naming import packaged_series
from xenqemu.source.apt import fetch_source
from xenqemu.source.entries import EXECUTABLE, SYMLINK, Entry
from xenqemu.source.unpack import tar_entries
from xenqemu.state import StateDir, publish
from xenqemu.ui import Ui


def fetch_tree(where: str, state: StateDir, ui: Ui) -> Path:
    """Return the source tree of the Xen that `where` names (`distro`: the newest), unpacked in the state directory.

    What was fetched before is taken again without network. Raises what `xenqemu.source.apt.fetch_source` and
    `xenqemu.source.unpack.tar_entries` raise.
    """
    fetched = fetch_source("xen", packaged_series(where), state, ui)
    tree = state.xen / f"source-{fetched.sha256[:16]}"
    if not tree.is_dir():
        with state.scratch("xen") as scratch, ui.step(f"unpacking {fetched.path.name}"):
            made = scratch / "tree"
            for entry in tar_entries(fetched.path):
                _write(entry, made)
            publish(made, tree)
    return tree


def _write(entry: Entry, folder: Path) -> None:
    path = folder / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.link is not None:
        os.link(folder / entry.link, path)
    elif entry.mode == SYMLINK:
        path.symlink_to(os.fsdecode(entry.read()))
    else:
        path.write_bytes(entry.read())
        path.chmod(0o755 if entry.mode == EXECUTABLE else 0o644)
