"""A Xen that the machine's own package archive has: its source tree, or else its development packages."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from xenqemu.archive.apt import Kind, PrivateApt
from xenqemu.archive.mirrors import machine_archive
from xenqemu.archive.naming import packaged_series
from xenqemu.archive.packages import Closure, download_closure, unpack
from xenqemu.errors import UnservedError
from xenqemu.glibc import needed_glibc, provided_glibc
from xenqemu.source.apt import fetch_source, in_series, listing_suites, upstream_version
from xenqemu.source.entries import EXECUTABLE, SYMLINK, Entry
from xenqemu.source.unpack import tar_entries
from xenqemu.state import StateDir, publish
from xenqemu.ui import Ui
from xenqemu.xen import elf
from xenqemu.xen.layout import find_library

_SOURCE = "xen"
_DEVELOPMENT = "libxen-dev"
_MEMO = "xen-packages"
_LIBRARY = re.compile(r"usr/lib/(?:[^/]+/)?(?P<name>libxen[^/]*\.so[^/]*)")
_HEADER = "usr/include/"
_LIBC = "libc.so.6"


def fetch_tree(where: str, state: StateDir, ui: Ui) -> Path:
    """Return the source tree of the Xen that `where` names (`distro`: the newest), unpacked in the state directory.

    What was fetched before is taken again without network. Raises what `xenqemu.source.apt.fetch_source` and
    `xenqemu.source.unpack.tar_entries` raise.
    """
    fetched = fetch_source(_SOURCE, packaged_series(where), state, ui)
    tree = state.xen / f"source-{fetched.sha256[:16]}"
    if not tree.is_dir():
        with state.scratch("xen") as scratch, ui.step(f"unpacking {fetched.path.name}"):
            made = scratch / "tree"
            for entry in tar_entries(fetched.path):
                _write(entry, made)
            publish(made, tree)
    return tree


def fetch_packaged(where: str, state: StateDir, ui: Ui) -> Path:
    """Return the source tree of the Xen that `where` names, or a prefix of its development packages.

    The second where the archive lists the source and does not give it. What was made of packages is taken again
    without network. Raises what `fetch_tree` raises, and when there are no packages either, the reason that there is no
    source.
    """
    series = packaged_series(where)
    made = state.xen / str((state.recall(_MEMO, series or "any") or {}).get("folder", "missing"))
    if made.is_dir():
        return made
    try:
        return fetch_tree(where, state, ui)
    except UnservedError:
        prefix = _fetch_prefix(series, state, ui)
        if prefix is None:
            raise
        ui.note(f"taking the Xen of {prefix.name}: the archive does not have its source, and has {_DEVELOPMENT}")
        state.remember(_MEMO, series or "any", {"folder": prefix.name})
        return prefix


def _fetch_prefix(series: str, state: StateDir, ui: Ui) -> Path | None:
    """Return a prefix with headers and libraries of the packages of Xen `series`; None where no suite has them."""
    origins = machine_archive().origins
    with ui.step(f"getting the development packages of xen {series} from the package archive"):
        for mirror, suite in listing_suites(_SOURCE, series, state, ui):
            apt = PrivateApt(state.apt, mirror, suite, Kind.BINARY)
            with state.lock(f"apt-{apt.name}", ui):
                problem = apt.update(origins, refresh=False)
                found = problem or download_closure(apt, (_DEVELOPMENT,))
            if isinstance(found, Closure) and in_series(upstream_version(found.versions[_DEVELOPMENT]), series):
                return _make_prefix(found, state)
    return None


def _make_prefix(closure: Closure, state: StateDir) -> Path:
    libc = find_library(_LIBC)
    newest = provided_glibc(libc) if libc else None
    decided = json.dumps([sorted(closure.versions.items()), str(newest)])
    version = upstream_version(closure.versions[_DEVELOPMENT])
    prefix = state.xen / f"packages-{version}-{hashlib.sha256(decided.encode()).hexdigest()[:16]}"
    if prefix.is_dir():
        return prefix
    with state.scratch("xen") as scratch:
        packages, made = scratch / "packages", scratch / "prefix"
        packages.mkdir()
        unpacked = unpack(closure, packages)
        for path in unpacked:
            library = _LIBRARY.fullmatch(path)
            if path.startswith(_HEADER):
                _copy(unpacked[path], made / path)
            elif library:
                file = unpacked[path]
                too_new = not file.is_symlink() and newest is not None and needed_glibc(file) > newest
                usable = _own(file) if too_new else file
                if usable is not None:
                    _copy(usable.resolve() if too_new else usable, made / "usr/lib" / library["name"])
        return publish(made, prefix)


def _own(library: Path) -> Path | None:
    """Return this machine's own library in place of `library`, which needs a newer C library than this machine's.

    A library of Xen whose SONAME is its own and not Xen's version keeps its interface from one Xen to the next
    (tools/libs/*/Makefile: MAJOR). Of the others, and without one here, None: who needs it is told that it is missing.
    """
    return find_library(elf.read(library).soname)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() and "/" not in str(source.readlink()):
        target.symlink_to(source.readlink())
    else:
        shutil.copyfile(source, target)


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
