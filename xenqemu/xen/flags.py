"""Telling a compiler, a linker and pkg-config about one Xen."""

from __future__ import annotations

import re

from xenqemu.xen.interface import interface
from xenqemu.xen.model import XenLibrary, XenSdk

_SPECIAL = re.compile(r"([^\w./+:=,@%~-])", re.ASCII)
_FILE_VERSION = re.compile(r"\.so\.(\d+(?:\.\d+)*)$")


def compile_flags(sdk: XenSdk) -> tuple[str, ...]:
    """Return the compiler flags for the headers of `sdk`, as the guide passes them with --extra-cflags."""
    return tuple(f"-I{directory}" for directory in sdk.include_dirs)


def link_flags(sdk: XenSdk) -> tuple[str, ...]:
    """Return the linker flags for the libraries of `sdk`, as the guide passes them with --extra-ldflags.

    rpath-link is for the libraries that libxenctrl needs: ld does not look for these in the -L directories.
    """
    search = tuple(f"-L{directory}" for directory in sdk.library_dirs)
    return search + tuple(f"-Wl,-rpath-link={directory}" for directory in sdk.library_dirs)


def _escaped(words: tuple[str, ...]) -> str:
    # pkg-config and pkgconf split as a shell does, and so does meson with what they print.
    return " ".join(_SPECIAL.sub(r"\\\1", word) for word in words)


def _module_version(sdk: XenSdk, library: XenLibrary) -> str:
    if library.name == "xenctrl":
        return f"{sdk.version}.0"  # QEMU's meson.build takes three numbers of it
    match = _FILE_VERSION.search(library.path.name) or _FILE_VERSION.search(library.soname)
    return match[1] if match else str(sdk.version)


def pkg_config_files(sdk: XenSdk) -> dict[str, str]:
    """Return pkg-config files, name to content, that make QEMU's meson.build find exactly `sdk`.

    A prefix's own files name the final prefix and not the DESTDIR that they lie in, and without any QEMU would take
    those of the system: the headers of one Xen with the libraries of another. There is one for every module that
    meson.build asks for; they require nothing, so that no file of the system can come in. For origin `system`
    there are none: pkg-config finds that Xen.
    """
    if sdk.origin == "system":
        return {}
    files = {}
    for library in sdk.libraries:
        module = interface().modules.get(library.name)
        if module is None:
            continue
        files[f"{module}.pc"] = (
            f"Name: {module}\n"
            f"Description: {library.soname} of the Xen that xenqemu was asked for\n"
            f"Version: {_module_version(sdk, library)}\n"
            f"Cflags: {_escaped(compile_flags(sdk))}\n"
            f"Libs: {_escaped((*link_flags(sdk), f'-l{library.name}'))}\n"
        )
    return files
