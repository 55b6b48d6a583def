"""A distribution's own device model, fetched from the machine's package archive and unpacked, not installed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from xenqemu.archive.packages import Closure, Unpacked, fetch_closure, make_of, merged
from xenqemu.lab.base import with_libraries
from xenqemu.lab.cpio import Entry, regular
from xenqemu.lab.recipe import Recipe, load_recipe
from xenqemu.state import StateDir, write_atomic
from xenqemu.ui import Ui

_KIND = "packaged"
_FACTS = "packaged.json"


def packaged_device_model(xen: str, state: StateDir, ui: Ui, *, refresh: bool = False) -> Path:
    """Return the device model that the distribution of the Xen `xen` (`4.17`, `distro:4.17`) ships with that Xen.

    It lies in a system of its own (see `xenqemu.sysroot`) with its libraries, data and loader, and is made once; apt
    verifies the packages against the archive's signed index. `refresh` asks the archive for newer ones. Raises
    `UsageError` for an unknown `xen`, `MissingError` where there is no package archive, `LabError` when that does not
    have what is needed.
    """
    recipe = load_recipe(xen)
    known = None if refresh else _recall(recipe, state)
    if known is not None:
        return known
    with state.lock(f"{_KIND}-{recipe.series}", ui):
        known = None if refresh else _recall(recipe, state)  # another run may have made it meanwhile
        if known is None:
            with ui.step(f"getting the distribution's own device model for Xen {recipe.series}"):
                folder = _make(recipe, state, ui, refresh=refresh)
            state.remember(_KIND, _memo(recipe), {"key": folder.name})
            known = folder / recipe.device_model["program"]
    return known


def stale_packaged(state: StateDir) -> tuple[Path, ...]:
    """Return the folders of packaged device models that nothing leads to any more."""
    memos = [(state.recall(_KIND, path.stem) or {}).get("key") for path in (state.memo / _KIND).glob("*.json")]
    return tuple(path.parent for path in sorted(state.lab.glob(f"*/{_FACTS}")) if path.parent.name not in memos)


def packaged_facts(program: Path) -> Mapping[str, str]:
    """Return the version of each package that the device model `program` of `packaged_device_model` is made of."""
    folder = next((folder for folder in program.parents if (folder / _FACTS).is_file()), None)
    facts: dict[str, str] = json.loads((folder / _FACTS).read_bytes()) if folder else {}
    return facts


def _memo(recipe: Recipe) -> str:
    return f"{recipe.series}-{_digest(recipe)}"


def _digest(recipe: Recipe) -> str:
    text = json.dumps([dict(recipe.suites), dict(recipe.device_model)])
    return hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()[:16]


def _recall(recipe: Recipe, state: StateDir) -> Path | None:
    facts = state.recall(_KIND, _memo(recipe)) or {}
    program = state.lab / str(facts.get("key", "missing")) / recipe.device_model["program"]
    return program if program.is_file() else None


def _make(recipe: Recipe, state: StateDir, ui: Ui, *, refresh: bool) -> Path:
    closure = fetch_closure((recipe.device_model["package"],), recipe.suites, state, ui, refresh=refresh)
    text = json.dumps([_digest(recipe), dict(sorted(closure.versions.items()))])
    folder = state.lab / f"{_KIND}-{recipe.series}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if (folder / recipe.device_model["program"]).is_file():
        return folder
    return make_of(closure, folder, state, partial(_assemble, recipe, closure))


def _assemble(recipe: Recipe, closure: Closure, unpacked: Unpacked, folder: Path) -> None:
    """Write the program, all that it loads, and its data into the existing `folder`, with /usr merged."""
    model = recipe.device_model
    entries = list(with_libraries([model["program"], model["loader"], model["unwinder"]], unpacked))
    entries += [regular(path, unpacked[path]) for path in unpacked.match(model["keymaps"])]
    # The distribution's build looks in the folders of other packages too; one is easier to tell it of (`-L`).
    entries += [
        regular(f"{model['folder']}/{PurePosixPath(path).name}", unpacked[path])
        for pattern in model["data"]
        for path in unpacked.match(pattern)
        if unpacked[path].is_file()
    ]
    for entry in {entry.path: entry for entry in entries}.values():
        _write(entry, folder)
    for name in ("lib", "lib64"):
        (folder / name).symlink_to(f"usr/{name}")
    write_atomic(folder / _FACTS, json.dumps(dict(closure.versions), indent=1, sort_keys=True).encode())


def _write(entry: Entry, folder: Path) -> None:
    path = folder / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(entry.content, Path):
        shutil.copyfile(entry.content, path)
        path.chmod(stat.S_IMODE(entry.mode))
    else:  # a link; an absolute one would lead out of the folder
        target = os.fsdecode(entry.content)
        if target.startswith("/"):
            target = os.path.relpath(f"/{merged(target.lstrip('/'))}", f"/{PurePosixPath(entry.path).parent}")
        path.symlink_to(target)
