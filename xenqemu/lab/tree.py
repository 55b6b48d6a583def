"""The hypervisor and the toolstack of a Xen tree that its developer has built: what is in its dist/install."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from xenqemu.archive.packages import merged
from xenqemu.errors import LabError, MissingError
from xenqemu.glibc import needed_glibc, provided_glibc
from xenqemu.lab.recipe import Recipe, known_series, load_recipe, tree_toolstack, with_toolstack
from xenqemu.xen.layout import is_tree

_BUILD = "run `make dist-xen dist-tools` in it"
_EXTRA = re.compile(r"^export XEN_EXTRAVERSION\s*\??=\s*\.(\d+)", re.MULTILINE)
# By these programs the folders of the toolstack are found, whatever prefix it was configured with.
_MARKS = {
    "bin": "*/bin/libxl-save-helper",
    "boot": "*/boot/hvmloader",
    "sbin": "*/sbin/xl",
    "user_bin": "*/bin/xenstore-ls",
}


@dataclass(frozen=True)
class XenTree:
    """A built Xen tree.

    `installed` is its dist/install, `files` what is in there by its path in dom0 (with /usr merged), `version` as the
    tree says (`4.20.3`), `recipe` what a host of it is made of.
    """

    path: Path
    installed: Path
    version: str
    files: Mapping[str, Path]
    recipe: Recipe

    @property
    def series(self) -> str:
        """The first two numbers of the version."""
        return ".".join(self.version.split(".")[:2])

    @property
    def libraries(self) -> tuple[str, ...]:
        """The folders with its libraries, as paths in dom0."""
        found = (path for path in map(PurePosixPath, self.files) if fnmatch.fnmatch(path.name, "libxen*.so.*"))
        return tuple(dict.fromkeys(str(path.parent) for path in found))

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all of it that a host can have."""
        digest = hashlib.sha256(f"{self.recipe.digest} {self.version}".encode())
        wanted = {
            name: file for name, file in sorted(self.files.items()) if _in_host(name, self.recipe.toolstack.files)
        }
        for name, file in (*wanted.items(), ("", _hypervisor(self.installed, self.path))):
            content = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def hypervisor(self) -> bytes:
        """Return the hypervisor as an ELF file."""
        return gzip.decompress(_hypervisor(self.installed, self.path).read_bytes())


def names_tree(xen: str) -> bool:
    """Whether `xen`, as a user wrote it, names a folder rather than a release."""
    return "/" in xen or Path(xen).is_dir()


def series_of(xen: str) -> str:
    """Return the first two numbers of the Xen that `xen` names: `4.20`, `distro:4.20`, or the path of a tree."""
    if not names_tree(xen):
        return xen.removeprefix("distro:")
    return ".".join(_version(_top(xen)).split(".")[:2])


def own_device_model(xen: str | None) -> Path | None:
    """Return what libxl of the Xen tree `xen` starts for a guest whose config names no device model.

    None when `xen` names no tree, or that one has none in its dist/install.
    """
    if not xen or not names_tree(xen):
        return None
    tree = inspect_tree(xen)
    program = tree.installed / tree.recipe.toolstack.device_model.lstrip("/")
    return program if program.is_file() else None


def _top(where: str) -> Path:
    path = Path(where).expanduser().absolute()
    if not is_tree(path):
        raise MissingError(f"there is no Xen tree at {where}", "name the top folder of a Xen source tree")
    return path


def inspect_tree(where: str) -> XenTree:
    """Return the built Xen tree at `where`; nothing is built, and nothing in it is changed.

    Its host has the kernel and the other programs of the newest suite that the lab knows: programs that were linked
    against an older C library run with a newer one, and not the other way round. Raises `MissingError` for what is no
    tree or has not been built.
    """
    path = _top(where)
    installed = path / "dist" / "install"
    version = _version(path)
    _hypervisor(installed, path)
    files = {merged(str(file.relative_to(installed))): file for file in _walk(installed)}
    places = {name: _folder(pattern, files, path) for name, pattern in _MARKS.items()}
    toolstack = tree_toolstack(places, files.__contains__)
    recipe = with_toolstack(load_recipe(known_series()[-1]), toolstack)
    return XenTree(path, installed, version, files, recipe)


def _in_host(name: str, patterns: Iterable[str]) -> bool:
    """Whether a host can have the file: by the toolstack's patterns, or a library."""
    return ".so" in PurePosixPath(name).name or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _version(path: Path) -> str:
    """Return the version that xen/Makefile gives to the hypervisor."""
    text = (path / "xen" / "Makefile").read_text(encoding="utf-8", errors="replace")
    numbers = []
    for name in ("VERSION", "SUBVERSION"):
        match = re.search(rf"^export XEN_{name}\s*=\s*(\d+)\s*$", text, re.MULTILINE)
        if match is None:
            raise MissingError(f"{path}/xen/Makefile names no XEN_{name}", "name the top folder of a Xen source tree")
        numbers.append(match[1])
    extra = _EXTRA.search(text)
    return ".".join([*numbers, *([extra[1]] if extra else [])])


def _hypervisor(installed: Path, tree: Path) -> Path:
    """Return the installed hypervisor, the newest where there are several; links to it have shorter names."""
    files = [path for path in sorted(installed.glob("boot/xen-*.gz")) if path.is_file() and not path.is_symlink()]
    if not files:
        raise MissingError(f"the Xen tree {tree} has no hypervisor in dist/install/boot", _BUILD)
    return max(files, key=lambda path: path.stat().st_mtime)


def _walk(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file())


def _folder(pattern: str, files: Mapping[str, Path], tree: Path) -> str:
    for name in files:
        if fnmatch.fnmatch(name, pattern):
            return str(PurePosixPath(name).parent)
    program = pattern.rpartition("/")[2]
    raise MissingError(f"the Xen tree {tree} has no {program} in dist/install", _BUILD)


def check_glibc(libc: Path, files: Iterable[Path]) -> None:
    """Raise `LabError` when one of the ELF `files` needs a newer C library than `libc`, dom0's."""
    newest = provided_glibc(libc)
    for file in files:
        needed = needed_glibc(file)
        if needed > newest:
            raise LabError(
                f"{file} needs glibc {needed}, and dom0's is {newest}",
                f"build the tree on a system with glibc {newest} or older",
            )
