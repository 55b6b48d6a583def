"""The part of the virtual host that stays: packages of the archive, made into a hypervisor, a kernel and an archive."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from xenqemu.archive.packages import Closure, Unpacked, fetch_closure, merged, unpack
from xenqemu.errors import LabError
from xenqemu.lab.bzimage import elf_inside
from xenqemu.lab.cpio import Entry, link, regular, write_archive
from xenqemu.lab.kmod import Module, dependencies, load_order, module_name
from xenqemu.lab.model import DOM0_FIRMWARE, LabBase
from xenqemu.lab.recipe import DOM0_FOLDER, Recipe, known_series, load_recipe
from xenqemu.lab.tree import XenTree, check_glibc, inspect_tree, names_tree
from xenqemu.state import StateDir, publish, write_atomic
from xenqemu.ui import Ui
from xenqemu.xen.layout import find_library

_FACTS = "base.json"
_TREE = "tree-"
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64")
_LIBC = "usr/lib/x86_64-linux-gnu/libc.so.6"
# Which of the recipe's dom0 files goes where; anything else in that folder is for people.
_SCRIPTS = {
    "start": ("usr/lib/xenqemu/start", 0o755),
    "inittab": ("etc/inittab", 0o644),
    "profile": ("etc/profile", 0o644),
    "shell": ("usr/lib/xenqemu/shell", 0o755),
}


def prepare(xen: str, state: StateDir, ui: Ui, *, refresh: bool = False) -> LabBase:
    """Return the base for `xen` (`4.17`, `4.20`, also `distro:4.17`), made first unless it is there.

    `xen` may be the path of a built Xen tree too, see `xenqemu.lab.tree`. `refresh` asks the archive for newer
    packages. Raises `UsageError` for an unknown `xen`, `MissingError` where there is no package archive or what it
    should have, and for a tree that has not been built, `LabError` when what there is does not fit together.
    """
    tree = inspect_tree(xen) if names_tree(xen) else None
    recipe = tree.recipe if tree else load_recipe(xen)
    memo = _memo(recipe, tree)
    known = None if refresh else _recall(memo, state, tree)
    if known is not None:
        return known
    with state.lock(f"lab-{recipe.series}", ui):
        known = None if refresh else _recall(memo, state, tree)  # another run may have made it meanwhile
        if known is None:
            with ui.step(f"preparing a virtual host with Xen {tree.version if tree else recipe.series}"):
                known = _make(recipe, tree, state, ui, refresh=refresh)
            # Of a tree only what was made last counts; its memo has a name that the next one replaces.
            about = {} if tree is None else {"tree": str(tree.path)}
            state.remember("lab", memo, {"key": known.key, "digest": tree.digest if tree else "", **about})
    return known


def stale_bases(state: StateDir) -> tuple[Path, ...]:
    """Return the folders of bases that nothing leads to any more: of older packages, recipes or builds of a tree."""
    memos = [state.recall("lab", _memo(load_recipe(series))) or {} for series in known_series()]
    memos += [state.recall("lab", path.stem) or {} for path in (state.memo / "lab").glob(f"{_TREE}*.json")]
    current = {memo.get("key") for memo in memos}
    return tuple(path.parent for path in sorted(state.lab.glob(f"*/{_FACTS}")) if path.parent.name not in current)


def _memo(recipe: Recipe, tree: XenTree | None = None) -> str:
    if tree is not None:
        return f"{_TREE}{hashlib.sha256(str(tree.path.resolve()).encode()).hexdigest()[:16]}"
    return hashlib.sha256(f"{recipe.series} {recipe.digest}".encode()).hexdigest()[:16]


def _recall(memo: str, state: StateDir, tree: XenTree | None) -> LabBase | None:
    facts = state.recall("lab", memo) or {}
    if tree is not None and facts.get("digest") != tree.digest:
        return None
    return _load(state.lab / str(facts["key"])) if "key" in facts else None


def _load(folder: Path) -> LabBase | None:
    """Return the base in `folder`, None when there is none or its facts are not readable."""
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_bytes())
        return LabBase(
            key=folder.name,
            xen_version=facts["xen_version"],
            series=facts["series"],
            hypervisor=folder / "xen",
            kernel=folder / "vmlinuz",
            kernel_release=facts["kernel_release"],
            base=folder / "base.cpio",
            guest=folder / "guest",
            packages=facts["packages"],
            device_model=facts["device_model"],
        )
    except (OSError, ValueError, KeyError):
        return None


def _make(recipe: Recipe, tree: XenTree | None, state: StateDir, ui: Ui, *, refresh: bool) -> LabBase:
    names = (*recipe.toolstack.packages, recipe.kernel_package, *recipe.packages)
    with ui.step("getting packages from the package archive"):
        closure = fetch_closure(names, recipe.suites, state, ui, refresh=refresh)
    # The names too: other packages of the same versions could give other files.
    decided = tree.digest if tree else recipe.digest
    text = json.dumps([recipe.series, decided, dict(sorted(closure.versions.items()))])
    key = f"{_TREE + tree.series if tree else recipe.series}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    known = _load(state.lab / key)
    if known is not None:
        return known
    with state.scratch("lab") as scratch:
        packages, made = scratch / "packages", scratch / "made"
        packages.mkdir()
        made.mkdir()
        with ui.step(f"unpacking {len(closure.files)} packages"):
            unpacked = unpack(closure, packages)
        with ui.step("making dom0's file system"):
            _assemble(recipe, tree, closure, unpacked, made)
        if (state.lab / key).exists():  # damaged, or it would have been taken
            (state.lab / key).rename(scratch / "damaged")
        publish(made, state.lab / key)
    for package in closure.ours.glob("*.deb"):
        if package not in closure.files.values():  # of an older version
            package.unlink(missing_ok=True)
    base = _load(state.lab / key)
    if base is None:
        raise LabError(f"the base {key} vanished while it was made", "run `xenqemu lab prepare` again")
    return base


def _assemble(recipe: Recipe, tree: XenTree | None, closure: Closure, unpacked: Unpacked, folder: Path) -> None:
    kernel = unpacked.match(recipe.files["kernel"])[0]
    release = kernel.partition("vmlinuz-")[2]
    packed_kernel = unpacked[kernel].read_bytes()
    (folder / "vmlinuz").write_bytes(packed_kernel)
    (folder / "vmlinux").write_bytes(elf_inside(packed_kernel) or packed_kernel)
    if tree is not None:
        unpacked = unpacked.below(tree.files)
    (folder / "xen").write_bytes(tree.hypervisor() if tree else _packaged_hypervisor(recipe, unpacked))
    modules = _Modules(recipe, unpacked, release)
    entries = {entry.path: entry for entry in _dom0(recipe, tree, unpacked, modules)}
    if tree is not None:
        check_glibc(unpacked[_LIBC], [entry.content for entry in entries.values() if isinstance(entry.content, Path)])
    with (folder / "base.cpio").open("wb") as sink:
        write_archive(sink, (entries[path] for path in sorted(entries)))
    _guest(recipe, unpacked, modules, folder / "guest")
    facts = {
        "series": tree.series if tree else recipe.series,
        "xen_version": tree.version if tree else _packaged_version(recipe, closure),
        "device_model": recipe.toolstack.device_model,
        "kernel_release": release,
        "packages": dict(closure.versions),
    }
    write_atomic(folder / _FACTS, json.dumps(facts, indent=1, sort_keys=True).encode())


def _packaged_hypervisor(recipe: Recipe, unpacked: Unpacked) -> bytes:
    return gzip.decompress(unpacked[unpacked.match(recipe.files["hypervisor"])[0]].read_bytes())


def _packaged_version(recipe: Recipe, closure: Closure) -> str:
    return closure.versions[recipe.toolstack.packages[0]].partition("+")[0].partition("-")[0]


class _Modules:
    """The kernel's modules."""

    def __init__(self, recipe: Recipe, unpacked: Unpacked, release: str) -> None:
        top = f"{recipe.files['modules']}/{release}/"
        self.release = release
        self._files = {
            module_name(path): unpacked[path]
            for path in unpacked
            if path.startswith(top) and ".ko" in PurePosixPath(path).suffixes
        }
        self._builtin = frozenset(map(module_name, unpacked[f"{top}modules.builtin"].read_text().split()))

    def load_order(self, names: tuple[str, ...]) -> dict[str, Module]:
        return load_order(names, self._files, self._builtin)


def _dom0(recipe: Recipe, tree: XenTree | None, unpacked: Unpacked, modules: _Modules) -> Iterator[Entry]:
    """Yield the entries of dom0's file system."""
    for folder in (
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "root",
        "var/log/xen",
        "var/lib/xen/dump",
        "var/lib/xen/xenpaging",
    ):
        yield Entry(folder, stat.S_IFDIR | (0o1777 if folder == "tmp" else 0o755))
    # Before the kernel mounts devtmpfs, its init needs somewhere to speak.
    yield Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    for path, target in {**recipe.dom0_links, **recipe.toolstack.links}.items():
        yield link(path, target)
    patterns = (*recipe.toolstack.files, *recipe.dom0_files)
    programs = [path for pattern in patterns for path in unpacked.match(pattern)]
    yield from with_libraries(programs, unpacked, tree)
    for pattern in recipe.firmware:
        for path in unpacked.match(pattern):
            yield from _copied(path, unpacked)
            yield link(f"{DOM0_FIRMWARE.lstrip('/')}/{PurePosixPath(path).name}", f"/{path}")
    yield regular("usr/lib/xenqemu/busybox", unpacked[recipe.files["busybox"]], 0o755)
    yield link("init", "/usr/lib/xenqemu/busybox")
    for name, (path, mode) in _SCRIPTS.items():
        text = (DOM0_FOLDER / name).read_text().replace("@path@", ":".join(recipe.toolstack.path))
        yield regular(path, text.encode(), mode)
    for name, lines in recipe.dom0_accounts.items():
        yield regular(f"etc/{name}", "".join(f"{line}\n" for line in lines).encode())
    yield from _modules(recipe, modules)


def _modules(recipe: Recipe, modules: _Modules) -> Iterator[Entry]:
    top = f"usr/lib/modules/{modules.release}"
    first = modules.load_order(recipe.dom0_modules)
    carried = modules.load_order(recipe.dom0_modules + recipe.more_modules)
    for module in carried.values():
        yield regular(f"{top}/{module.file}.ko", module.content)
    yield regular(f"{top}/first", "".join(f"{top}/{module.file}.ko\n" for module in first.values()).encode())
    # What busybox's modprobe reads; kmod's would want an index that depmod makes.
    lines = []
    for name, before in dependencies(carried).items():
        needs = " ".join(f"{carried[need].file}.ko" for need in reversed(before))
        lines.append(f"{carried[name].file}.ko: {needs}".rstrip() + "\n")
    yield regular(f"{top}/modules.dep", "".join(lines).encode())


def _guest(recipe: Recipe, unpacked: Unpacked, modules: _Modules, folder: Path) -> None:
    """Write what `LabBase.guest` promises."""
    (folder / "modules").mkdir(parents=True)
    shutil.copyfile(unpacked[recipe.files["busybox"]], folder / "busybox")
    (folder / "busybox").chmod(0o755)
    carried = modules.load_order(recipe.guest_modules)
    lines = []
    for name, before in dependencies(carried).items():
        (folder / "modules" / f"{carried[name].file}.ko").write_bytes(carried[name].content)
        lines.append(" ".join((f"{carried[name].file}:", *(carried[need].file for need in before))) + "\n")
    builtin = {module_name(name): name for name in recipe.guest_modules if module_name(name) not in carried}
    lines += [f"{name}:\n" for name in builtin.values()]
    (folder / "modules" / "modules.dep").write_text("".join(lines))


def _copied(path: str, unpacked: Unpacked) -> Iterator[Entry]:
    """Yield the entries for `path`: itself and, for a link, what it leads to."""
    source = unpacked[path]
    if not source.is_symlink():
        yield regular(path, source, stat.S_IMODE(source.stat().st_mode))
        return
    target = str(source.readlink())
    yield link(path, target)
    beside = PurePosixPath("/", path).parent / target
    yield from _copied(merged(_normal(beside)), unpacked)


def _normal(path: PurePosixPath) -> str:
    """Return `path` relative to the root, without `..`."""
    parts: list[str] = []
    for part in path.parts[1:]:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts)


def with_libraries(programs: list[str], unpacked: Unpacked, tree: XenTree | None = None) -> Iterator[Entry]:
    """Yield the entries for `programs`, paths in `unpacked`, and for every library that one of them needs.

    Libraries are not searched for in a program's own folders (DT_RUNPATH): no package of a distribution has any there.
    Those of a `tree` come first, then those of the packages, then this machine's, which the tree was linked against.
    Raises `LabError` for one that is nowhere.
    """
    from xenqemu.xen import elf

    waiting, seen = list(programs), set(programs)
    while waiting:
        for entry in _copied(waiting.pop(), unpacked):
            yield entry
            if not isinstance(entry.content, Path):
                continue
            try:
                needed = elf.read(entry.content).needed
            except elf.NotSharedObjectError:
                continue  # a script, data, or a program that needs nothing
            for soname in needed:
                found = _library(soname, unpacked, tree)
                if found is None:
                    raise LabError(f"no package has {soname}, which {entry.path} needs", "report it")
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)
                    if found.rpartition("/")[0] not in _LIBRARIES:  # where dom0's loader does not look
                        yield link(f"{_LIBRARIES[0]}/{soname}", f"/{found}")


def _library(soname: str, unpacked: Unpacked, tree: XenTree | None) -> str | None:
    """Return the path in dom0 of the library `soname`; one of this machine is added to `unpacked`."""
    places = (*(tree.libraries if tree else ()), *_LIBRARIES)
    found = next((path for place in places if (path := f"{place}/{soname}") in unpacked), None)
    if found is None and tree is not None:
        file = find_library(soname)
        if file is not None:
            found = f"{_LIBRARIES[0]}/{soname}"
            unpacked.add(found, file.resolve())
    return found


def describe(base: LabBase) -> Mapping[str, Any]:
    """Return what `base` is made of, for people and as JSON."""
    return {
        "key": base.key,
        "xen": base.xen_version,
        "kernel": base.kernel_release,
        "folder": base.base.parent,
        "base_bytes": base.base.stat().st_size,
        "packages": dict(base.packages),
    }
