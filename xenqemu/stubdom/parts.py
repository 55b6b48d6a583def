"""The parts of a stub domain that are not the device model: out of the machine's package archive, kept by key."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from xenqemu.archive.packages import Closure, Unpacked, fetch_closure, make_of
from xenqemu.errors import LabError
from xenqemu.lab.base import with_libraries
from xenqemu.lab.kmod import load_order, module_name
from xenqemu.state import StateDir, write_atomic
from xenqemu.stubdom.model import ModuleFile, Parts
from xenqemu.stubdom.recipe import Recipe
from xenqemu.ui import Ui

_KIND = "stubdom"
_FACTS = "stubdom.json"
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64")
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"


def fetch_parts(recipe: Recipe, state: StateDir, ui: Ui, *, refresh: bool = False) -> Parts:
    """Return the parts that `recipe` names, made once; apt verifies the packages against the archive's signed index.

    `refresh` asks the archive for newer ones. Raises `MissingError` where there is no package archive, `LabError` when
    it does not have what is needed.
    """
    memo = f"{recipe.host.series}-{recipe.digest[:16]}"
    known = None if refresh else _load(state.lab / str((state.recall(_KIND, memo) or {}).get("key", "missing")))
    if known is not None:
        return known
    with state.lock(f"{_KIND}-{recipe.host.series}", ui):
        with ui.step(f"getting kernel and tools of a stub domain for Xen {recipe.host.series}"):
            folder = _make(recipe, state, ui, refresh=refresh)
        state.remember(_KIND, memo, {"key": folder.name})
    known = _load(folder)
    if known is None:
        raise LabError(f"the parts {folder.name} vanished while they were made", "run the same command again")
    return known


def stale_parts(state: StateDir) -> tuple[Path, ...]:
    """Return the folders of parts that nothing leads to any more."""
    current = {(state.recall(_KIND, path.stem) or {}).get("key") for path in (state.memo / _KIND).glob("*.json")}
    return tuple(path.parent for path in sorted(state.lab.glob(f"*/{_FACTS}")) if path.parent.name not in current)


def _load(folder: Path) -> Parts | None:
    """Return the parts in `folder`, None when there are none or they are not readable."""
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_bytes())
        modules = tuple(
            ModuleFile(when, name, folder / "modules" / name, words) for when, name, words in facts["modules"]
        )
        parts = Parts(
            series=facts["series"],
            kernel=folder / "vmlinuz",
            kernel_release=facts["kernel_release"],
            modules=modules,
            programs={name: folder / "bin" / name for name in facts["programs"]},
            libraries={name: folder / "lib" / name for name in facts["libraries"]},
            libc={name: folder / "libc" / name for name in facts["libc"]},
            firmware={name: folder / "firmware" / name for name in facts["firmware"]},
            packages=facts["packages"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return parts if parts.kernel.is_file() else None


def _make(recipe: Recipe, state: StateDir, ui: Ui, *, refresh: bool) -> Path:
    names = (recipe.kernel_package, *recipe.packages)
    closure = fetch_closure(names, recipe.host.suites, state, ui, refresh=refresh)
    text = json.dumps([recipe.digest, dict(sorted(closure.versions.items()))])
    folder = state.lab / f"{_KIND}-{recipe.host.series}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if _load(folder) is not None:
        return folder
    return make_of(closure, folder, state, partial(_assemble, recipe, closure))


def _assemble(recipe: Recipe, closure: Closure, unpacked: Unpacked, folder: Path) -> None:
    for name in ("modules", "bin", "lib", "libc", "firmware"):
        (folder / name).mkdir()
    kernel = unpacked.match(recipe.host.files["kernel"])[0]
    release = kernel.partition("vmlinuz-")[2]
    shutil.copyfile(unpacked[kernel], folder / "vmlinuz")
    libraries = set()
    for name, path in recipe.programs.items():
        program, needed = _program(path, unpacked)
        _copy(program, folder / "bin" / name)
        for soname, library in needed.items():
            _copy(library, folder / "lib" / soname)
            libraries.add(soname)
    facts = {
        "series": recipe.host.series,
        "kernel_release": release,
        "modules": _modules(recipe, unpacked, release, folder / "modules"),
        "programs": sorted(recipe.programs),
        "libraries": sorted(libraries),
        "libc": _libc(recipe, unpacked, folder / "libc"),
        "firmware": _firmware(recipe, unpacked, folder / "firmware"),
        "packages": dict(sorted(closure.versions.items())),
    }
    write_atomic(folder / _FACTS, json.dumps(facts, indent=1, sort_keys=True).encode())


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _program(path: str, unpacked: Unpacked) -> tuple[Path, dict[str, Path]]:
    """Return the file of the program `path`, links followed, and what it needs by soname, its loader too."""
    from xenqemu.xen import elf

    program, *libraries = _files(path, unpacked)
    # A library's file may have a longer name than the soname that leads to it.
    needed = {elf.read(file).soname or file.name: file for file in (*libraries, *_files(_LOADER, unpacked))}
    return program, needed


def _files(path: str, unpacked: Unpacked) -> list[Path]:
    """Return what `path` leads to, and then the libraries that this needs."""
    entries = with_libraries([path], unpacked)
    return list(dict.fromkeys(entry.content for entry in entries if isinstance(entry.content, Path)))


def _libc(recipe: Recipe, unpacked: Unpacked, folder: Path) -> list[str]:
    names = []
    for name in recipe.libc:
        path = next((path for place in _LIBRARIES if (path := f"{place}/{name}") in unpacked), None)
        if path is not None:
            _copy(_files(path, unpacked)[0], folder / name)
            names.append(name)
    return names


def _modules(recipe: Recipe, unpacked: Unpacked, release: str, folder: Path) -> list[tuple[str, str, str]]:
    top = f"{recipe.host.files['modules']}/{release}/"
    files = {
        module_name(path): unpacked[path]
        for path in unpacked
        if path.startswith(top) and ".ko" in PurePosixPath(path).suffixes
    }
    builtin = frozenset(map(module_name, unpacked[f"{top}modules.builtin"].read_text().split()))
    parameters = {module_name(name): words for name, words in recipe.parameters.items()}
    order: dict[str, tuple[str, str, str]] = {}
    for when, names in recipe.modules.items():
        for name, module in load_order(names, files, builtin).items():
            if name not in order:
                (folder / f"{module.file}.ko").write_bytes(module.content)
                order[name] = (when, f"{module.file}.ko", parameters.get(name, ""))
    return list(order.values())


def _firmware(recipe: Recipe, unpacked: Unpacked, folder: Path) -> list[str]:
    names = []
    for path in (path for pattern in recipe.firmware for path in unpacked.match(pattern)):
        name = PurePosixPath(path).name
        if name not in recipe.without_firmware:
            shutil.copyfile(unpacked[path], folder / name)
            names.append(name)
    return names
