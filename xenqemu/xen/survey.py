"""Looking at a Xen: which libraries and headers are there, which of them QEMU cannot use, and why."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from packaging.version import Version

from xenqemu.xen import elf
from xenqemu.xen.interface import interface
from xenqemu.xen.layout import searched_anyway
from xenqemu.xen.model import Layout, XenLibrary, XenReport, XenSdk

_INTERFACE_VERSION = re.compile(r"^#define\s+__XEN_LATEST_INTERFACE_VERSION__\s+0x([0-9a-fA-F]{4,8})\b", re.MULTILINE)
_SONAME_VERSION = re.compile(r"^libxenctrl\.so\.(\d+\.\d+)(?:\.\d+)*$")


class _UnusableError(Exception):
    """A library that is there but of no use; the text says why."""


def soname_version(soname: str) -> Version | None:
    """Return the Xen version that libxenctrl's SONAME tells (tools/libs/libs.mk: MAJOR is the Xen version)."""
    match = _SONAME_VERSION.match(soname)
    return Version(match[1]) if match else None


def interface_version(text: str) -> Version | None:
    """Return the version that xen/xen-compat.h's `__XEN_LATEST_INTERFACE_VERSION__` tells.

    It is at most the Xen's own version: 0x00041300, 4.19, in the headers of 4.20, which changed nothing in it.
    """
    match = _INTERFACE_VERSION.search(text)
    if match is None:
        return None
    number = int(match[1], 16)
    return Version(f"{number >> 16}.{number >> 8 & 0xFF}")


def _examine(path: Path) -> tuple[elf.SharedObject, Path]:
    if not path.exists():
        raise _UnusableError(f"{path} is a dangling link to {path.readlink()}")
    try:
        shared = elf.read(path)
    except elf.NotSharedObjectError as error:
        raise _UnusableError(f"{path} is {error}") from error
    except OSError as error:
        raise _UnusableError(f"{path} cannot be read: {error.strerror}") from error
    if shared.machine != elf.native_machine():
        raise _UnusableError(f"{path} is for {shared.machine}, this machine is {elf.native_machine()}")
    return shared, path.resolve()


def _library(name: str, directories: tuple[Path, ...]) -> tuple[XenLibrary, elf.SharedObject]:
    reasons = []
    for directory in directories:
        path = directory / f"lib{name}.so"
        if not path.exists() and not path.is_symlink():
            continue
        try:
            shared, resolved = _examine(path)
        except _UnusableError as error:
            # The linker passes over a library of another machine, and takes the next; so do we.
            reasons.append(str(error))
            continue
        digest = hashlib.sha256(resolved.read_bytes()).hexdigest()
        return XenLibrary(name, shared.soname or path.name, resolved, digest), shared
    if reasons:
        raise _UnusableError(f"library {name}: {reasons[0]}")
    for directory in directories:
        if (directory / f"lib{name}.a").exists():
            raise _UnusableError(f"library {name}: {directory} has only the static lib{name}.a")
    raise _UnusableError(f"library {name} (lib{name}.so)")


def _runtime(
    needed: list[tuple[str, str]], directories: tuple[Path, ...], seen: set[str]
) -> tuple[list[XenLibrary], list[str]]:
    """Return the libraries of Xen behind `needed` (SONAME, who needs it), whatever they need in turn, and the missing.

    The linker would take one that is not here from the system without a word, and with it another Xen.
    """
    found, missing = [], []
    queue = list(needed)
    while queue:
        soname, user = queue.pop(0)
        if soname in seen or not soname.startswith("libxen"):
            continue
        seen.add(soname)
        candidates = [directory / soname for directory in directories]
        path = next((path for path in candidates if path.exists() or path.is_symlink()), None)
        name = soname.removeprefix("lib").partition(".so")[0]
        if path is None:
            missing.append(f"library {name} ({soname}, needed by {user})")
            continue
        try:
            shared, resolved = _examine(path)
        except _UnusableError as error:
            missing.append(f"library {name}: {error}")
            continue
        found.append(XenLibrary(name, soname, resolved, hashlib.sha256(resolved.read_bytes()).hexdigest()))
        queue.extend((other, soname) for other in shared.needed)
    return found, missing


def _headers(layout: Layout) -> tuple[list[str], Version | None]:
    missing = [
        f"header {header}"
        for header in interface().headers
        if not any((directory / header).is_file() for directory in layout.include_dirs)
    ]
    for directory in layout.include_dirs:
        compat = directory / "xen" / "xen-compat.h"
        if compat.is_file():
            return missing, interface_version(compat.read_text(encoding="utf-8", errors="replace"))
    return missing, None


def _told(directories: tuple[Path, ...], origin: str) -> tuple[Path, ...]:
    """Return the directories that the compiler has to be told of.

    A prefix is always told, /usr/local as well: among the compiler's own directories the order is the compiler's.
    """
    if origin != "system":
        return directories
    return tuple(directory for directory in directories if not searched_anyway(directory))


def survey(layout: Layout, hint: str = "") -> XenReport:
    """Return what there is of a Xen at `layout` and whether QEMU can be built with it.

    `hint` is what to do when it cannot. Every header and library that interface.toml names is looked for, and every
    library of Xen that those need; libraries have to be shared, of this machine, and of one Xen version with the
    headers.
    """
    libraries: list[XenLibrary] = []
    missing: list[str] = []
    needed: list[tuple[str, str]] = []
    for name in interface().modules:
        try:
            library, shared = _library(name, layout.library_dirs)
        except _UnusableError as error:
            missing.append(str(error))
            continue
        libraries.append(library)
        needed.extend((soname, library.soname) for soname in shared.needed)
    runtime, absent = _runtime(needed, layout.library_dirs, {library.soname for library in libraries})
    libraries += runtime
    missing += absent
    headers, header_version = _headers(layout)
    missing += headers
    ctrl = next((library for library in libraries if library.name == "xenctrl"), None)
    version = soname_version(ctrl.soname) if ctrl else None
    if ctrl is not None and version is None:
        missing.append(f"a Xen version in the SONAME of {ctrl.path} (it is {ctrl.soname})")
    if version is not None and header_version is not None and header_version > version:
        missing.append(
            f"headers of the libraries' Xen: these are of {header_version} or newer, libxenctrl is {version}"
        )
    sdk = None
    if not missing and version is not None:
        sdk = XenSdk(
            layout.origin,
            layout.location,
            version,
            _told(layout.include_dirs, layout.origin),
            _told(layout.library_dirs, layout.origin),
            tuple(libraries),
        )
    return XenReport(layout, version, tuple(libraries), tuple(missing), "" if sdk else hint, sdk)
