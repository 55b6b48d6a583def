"""The same content gives the same tree, whether it came as a tarball, a directory or a checkout.

A release tarball is a checkout plus its submodules and wrapped subprojects (QEMU's `scripts/make-release`), a
distribution's tarball is that minus firmware. What remains after dropping all of them, but for keycodemapdb
which no build does without, is the same everywhere, and it is all that a device model needs.
"""

from __future__ import annotations

import configparser
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from xenqemu.proc import run
from xenqemu.source.entries import Entry

# Where QEMU up to 8.0 has it (a submodule), and where later ones do (a wrap). Both ways `meson.build` needs it.
KEYCODEMAPDB = ("ui/keycodemapdb", "subprojects/keycodemapdb")
# Meson's download cache (upstream tarballs carry it), its lock, and its note of the wrap file that it last saw,
# without which it only refrains from a warning (`Resolver.validate` in mesonbuild/wrap/wrap.py).
_MESON_OWN = (
    "subprojects/packagecache/",
    "subprojects/.wraplock",
    "subprojects/keycodemapdb/.meson-subproject-wrap-hash.txt",
)


def submodules(gitmodules: bytes) -> dict[str, str]:
    """Return path and URL of each submodule that the content of a `.gitmodules` file names.

    Read by git itself, the only parser of its configuration syntax that is always right; a file that git cannot
    read names nothing. Empty URLs are kept.
    """
    listed = run(("git", "config", "--file", "-", "--null", "--list"), stdin=gitmodules, check=False)
    paths: dict[str, str] = {}
    urls: dict[str, str] = {}
    for item in listed.stdout.split("\0"):
        key, _, value = item.partition("\n")
        if key.startswith("submodule.") and key.endswith(".path"):
            paths[key.removesuffix(".path")] = value.strip("/")
        elif key.startswith("submodule.") and key.endswith(".url"):
            urls[key.removesuffix(".url")] = value
    return {path: urls.get(name, "") for name, path in paths.items()}


def wrap_values(wrap: bytes) -> dict[str, str]:
    """Return the keys of the `[wrap-*]` section of a Meson wrap file, with the section's name as `type`.

    Meson itself reads the file with configparser (`PackageDefinition` in mesonbuild/wrap/wrap.py); what it
    could not read gives an empty dictionary.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(wrap.decode())
    except (configparser.Error, UnicodeDecodeError):
        return {}
    for name in parser.sections():
        if name.startswith("wrap-"):
            return {**parser[name], "type": name}
    return {}


def _never(path: str) -> bool:
    return path.startswith(_MESON_OWN) or ".git" in path.split("/")


@dataclass
class _Rules:
    """What is known so far about which paths to drop."""

    gitmodules_seen: bool = False
    submodules: frozenset[str] = frozenset()
    wrapped: set[str] = field(default_factory=set)

    def learn(self, path: str, content: bytes) -> None:
        if path == ".gitmodules":
            self.gitmodules_seen = True
            self.submodules = frozenset(submodules(content)) - set(KEYCODEMAPDB)
        else:
            name = path.removeprefix("subprojects/").removesuffix(".wrap")
            self.wrapped |= {name, wrap_values(content).get("directory", name)}

    def drops(self, path: str) -> bool:
        parts = path.split("/")
        if any("/".join(parts[: depth + 1]) in self.submodules for depth in range(len(parts))):
            return True
        return _subproject(parts) in self.wrapped - {"keycodemapdb"}

    def undecided(self, path: str) -> bool:
        if not self.gitmodules_seen:
            return True
        return _subproject(path.split("/")) not in (None, "keycodemapdb", *self.wrapped)


def _subproject(parts: list[str]) -> str | None:
    return parts[1] if parts[0] == "subprojects" and len(parts) > 2 else None


def _teaches(path: str) -> bool:
    return path == ".gitmodules" or (
        path.startswith("subprojects/") and path.endswith(".wrap") and path.count("/") == 1
    )


def _read_spool(spool: IO[bytes], offset: int, size: int) -> bytes:
    spool.seek(offset)
    return spool.read(size)


def normalise(entries: Iterable[Entry], scratch: Path) -> Iterator[Entry]:
    """Yield those of `entries` that make up the normalised tree.

    Dropped are: everything called `.git`; the submodules that `.gitmodules` names and the subprojects that have
    a wrap file, except keycodemapdb; Meson's own notes. An entry whose fate is not known yet, because `.gitmodules`
    or a wrap file may still follow, waits in a temporary file in the folder `scratch`; what is dropped without
    waiting is not even read.
    """
    rules = _Rules()
    waiting: list[tuple[Entry, int, int]] = []
    with tempfile.SpooledTemporaryFile(max_size=8 << 20, dir=str(scratch)) as spool:
        for entry in entries:
            if _never(entry.path) or rules.drops(entry.path):
                continue
            if _teaches(entry.path) and entry.link is None:
                content = entry.read()
                rules.learn(entry.path, content)
                yield Entry(entry.path, entry.mode, partial(bytes, content))
            elif rules.undecided(entry.path):
                content = b"" if entry.link is not None else entry.read()
                waiting.append((entry, spool.tell(), len(content)))
                spool.write(content)
            else:
                yield entry
        for entry, offset, size in waiting:
            if not rules.drops(entry.path):
                yield Entry(entry.path, entry.mode, partial(_read_spool, spool, offset, size), entry.link)
