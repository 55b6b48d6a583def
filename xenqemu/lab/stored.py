"""What the lab keeps in the state directory, for listing and pruning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from xenqemu.lab.base import stale_bases
from xenqemu.lab.packaged import stale_packaged
from xenqemu.state import StateDir, disk_usage
from xenqemu.stubdom.parts import stale_parts


@dataclass(frozen=True)
class StoredBase:
    """A base: its key, the Xen in it, its size in bytes, whether the next run of that Xen would take it."""

    key: str
    xen: str
    size: int
    current: bool


def list_bases(state: StateDir) -> tuple[StoredBase, ...]:
    """Return the bases that were made, by key; damaged ones are left out."""
    stale = set(stale_bases(state))
    found = []
    for path in sorted(state.lab.glob("*/base.json")):
        try:
            xen = str(json.loads(path.read_bytes())["xen_version"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(StoredBase(path.parent.name, xen, disk_usage(path.parent), path.parent not in stale))
    return tuple(found)


def prunable(state: StateDir, *, everything: bool) -> tuple[Path, ...]:
    """Return the folders that nobody needs: bases, packaged device models, parts of stub domains that are out of date.

    With `everything` all of them, and the runs' logs.
    """
    if everything and state.lab.is_dir():
        return tuple(sorted(state.lab.iterdir()))
    return (*stale_bases(state), *stale_packaged(state), *stale_parts(state))
