"""keycodemapdb: the part of a QEMU that its own repository does not have, and that no build does without."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from xenqemu.source.entries import Entry
from xenqemu.source.gitio import BlobReader, TreeItem
from xenqemu.source.normalise import KEYCODEMAPDB, submodules, wrap_values

SUBMODULE, WRAP = KEYCODEMAPDB
# How a developer gets it into a checkout, by where it belongs.
COMMANDS = {
    SUBMODULE: f"git submodule update --init {SUBMODULE}",
    WRAP: "meson subprojects download keycodemapdb",
}


@dataclass(frozen=True)
class Pin:
    """What a tree says about its keycodemapdb: where it belongs, where it comes from, at which revision.

    `overlay` is the folder whose files Meson puts over it (`patch_directory`), empty for none.
    """

    path: str
    url: str
    revision: str
    overlay: str = ""


def pinned(items: list[TreeItem], reader: BlobReader, url: str = "") -> Pin | None:
    """Return what the tree with `items` pins, None when it pins nothing or has the files themselves.

    `url` is the URL of the tree's own repository, against which git resolves relative submodule URLs.
    """
    by_path = {item.path: item for item in items}
    if any(item.path.startswith(tuple(f"{path}/" for path in KEYCODEMAPDB)) for item in items):
        return None
    gitlink = by_path.get(SUBMODULE)
    if gitlink is not None and gitlink.is_gitlink:
        modules = by_path.get(".gitmodules")
        named = submodules(reader.read(modules.oid)) if modules else {}
        return Pin(SUBMODULE, _absolute(named.get(SUBMODULE, ""), url), gitlink.oid)
    wrap = by_path.get(f"{WRAP}.wrap")
    values = wrap_values(reader.read(wrap.oid)) if wrap else {}
    if values.get("type") != "wrap-git" or not values.get("revision"):
        return None
    overlay = values.get("patch_directory", "")
    return Pin(WRAP, values.get("url", ""), values["revision"], overlay and f"subprojects/packagefiles/{overlay}/")


def _absolute(url: str, base: str) -> str:
    if not base or not url.startswith(("./", "../")):
        return url
    head, separator, path = base.partition("://")
    return head + separator + posixpath.normpath(posixpath.join(path, url)) if separator else url


def with_overlay(
    pin: Pin, files: Iterator[Entry], items: list[TreeItem], read: Callable[[str], bytes]
) -> Iterator[Entry]:
    """Yield `files`, then what Meson would copy over them (`apply_patch` in mesonbuild/wrap/wrap.py)."""
    yield from files
    for item in items:
        if pin.overlay and item.path.startswith(pin.overlay) and not item.is_gitlink:
            yield Entry(f"{pin.path}/{item.path.removeprefix(pin.overlay)}", item.mode, partial(read, item.oid))
