"""Stage 4: where the headers and libraries of the Xen that was asked for are.

What does the work is imported when it is called: `xenqemu --help` does not pay for reading ELF files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xenqemu.state import StateDir
    from xenqemu.ui import Ui
    from xenqemu.xen.model import XenReport, XenSdk

__all__ = [
    "compile_flags",
    "describe",
    "find_packaged",
    "inspect",
    "link_flags",
    "locate",
    "of_release",
    "pkg_config_files",
]

_HINT_SYSTEM = "apt-get install libxen-dev, or name a Xen of your own with --xen"
_HINT_PREFIX = "a prefix has usr/include and usr/lib, or usr/local/...: what `make install DESTDIR=...` of Xen leaves"
_HINT_TREE = "build its libraries with --build-xen-libs"
_HINT_REBUILD = "remove {} and build again with --build-xen-libs"


def inspect(where: str, state: StateDir | None = None, cc: str | None = None, *, tree: Path | None = None) -> XenReport:
    """Return what there is of the Xen at `where`, usable or not; nothing is built.

    `where` is `system`, an installed prefix or DESTDIR such as xen-unstable/dist/install, or a Xen source tree; `tree`
    is that tree or prefix where `where` is only its name. Of a tree dist/install counts first, the libraries that were
    built in place next, and then those that `locate` built from the same content with the compiler `cc` before, when
    `state` says where. Raises `MissingError` when `where` is no directory.
    """
    from xenqemu.errors import MissingError
    from xenqemu.xen import layout, libs
    from xenqemu.xen.survey import survey

    if where == "system":
        return survey(layout.system(), _HINT_SYSTEM)
    path = tree or Path(where).expanduser().absolute()
    if not path.is_dir():
        raise MissingError(
            f"no Xen at {where}: not a directory", "--xen takes `system`, a prefix, a Xen source tree or distro:4.20"
        )
    if not layout.is_tree(path):
        return survey(layout.prefix(path, where), _HINT_PREFIX)
    installed = survey(layout.prefix(path / "dist" / "install", where, "tree"), _HINT_TREE)
    if installed.sdk:
        return installed
    in_tree = survey(layout.in_tree(path, where), _HINT_TREE)
    if in_tree.sdk:
        return in_tree
    built = libs.find_built(path, state, cc) if state else None
    if built:
        return survey(layout.prefix(built, where, "tree"), _HINT_REBUILD.format(built.parent.parent))
    return installed if installed.libraries else in_tree


def of_release(release: str) -> str:
    """Return where the Xen of `release` (`4.17`, `4.17.5`) is: the system, where its is that one, or the archive."""
    version = inspect("system").version
    system = version is not None and release in (str(version), f"{version.major}.{version.minor}")
    return "system" if system else f"distro:{release}"


def find_packaged(where: str, state: StateDir, ui: Ui) -> Path | None:
    """Return the Xen in the state directory that `where` is the name of (`distro:4.20`), else None.

    It is a source tree, or a prefix. Raises what `xenqemu.xen.packaged.fetch_packaged` raises.
    """
    from xenqemu.archive.naming import names_packaged

    if not names_packaged(where):
        return None
    from xenqemu.xen.packaged import fetch_packaged

    return fetch_packaged(where, state, ui)


def locate(
    where: str,
    state: StateDir,
    ui: Ui,
    *,
    build_libs: bool = False,
    jobs: int | None = None,
    cc: str | None = None,
) -> XenSdk:
    """Return the Xen at `where` (see `inspect`), usable for building QEMU.

    With `build_libs` the libraries of a source tree that has none are built first, with `jobs` jobs and the compiler
    `cc` (None: `CC` of the environment, or Xen's own choice), in a copy in the state directory; those of `distro:4.20`,
    which is that Xen in the machine's package archive, always where that has the source. Raises `MissingError` that
    names each header and library that is missing, `BuildError` when the libraries do not build, and what
    `find_packaged` raises.
    """
    from xenqemu.errors import MissingError
    from xenqemu.xen import layout, libs

    tree = find_packaged(where, state, ui)
    report = inspect(where, state, cc, tree=tree)
    path = tree or Path(where).expanduser().absolute()
    if report.sdk is None and (build_libs or tree) and where != "system" and layout.is_tree(path):
        libs.build(path, state, ui, jobs, cc)
        report = inspect(where, state, cc, tree=tree)
    if report.sdk is not None:
        return report.sdk
    if not report.libraries and report.layout.origin == "tree":
        raise MissingError(f"the Xen source tree {where} has no built libraries", report.hint)
    if not report.libraries and not report.layout.include_dirs:
        raise MissingError(f"there is no Xen at {where}: neither headers nor libraries", report.hint)
    raise MissingError(f"QEMU cannot use the Xen at {where}, missing: {'; '.join(report.missing)}", report.hint)


def pkg_config_files(sdk: XenSdk) -> Mapping[str, str]:
    """Return the pkg-config files, name to content, that describe exactly `sdk`; see `flags.pkg_config_files`."""
    from xenqemu.xen import flags

    return flags.pkg_config_files(sdk)


def compile_flags(sdk: XenSdk) -> tuple[str, ...]:
    """Return the compiler's flags for `sdk`: -I; see `flags.compile_flags`."""
    from xenqemu.xen import flags

    return flags.compile_flags(sdk)


def link_flags(sdk: XenSdk) -> tuple[str, ...]:
    """Return the linker's flags for `sdk`: -L and rpath-link; see `flags.link_flags`."""
    from xenqemu.xen import flags

    return flags.link_flags(sdk)


def describe(report: XenReport) -> dict[str, Any]:
    """Return `report` as JSON has it: what `xenqemu xen info` prints."""
    where = report.layout
    return {
        "location": where.location,
        "origin": where.origin,
        "version": str(report.version) if report.version else None,
        "usable": report.sdk is not None,
        "reasons": list(report.missing),
        "hint": report.hint,
        "include_dirs": [str(directory) for directory in where.include_dirs],
        "library_dirs": [str(directory) for directory in where.library_dirs],
        "libraries": [
            {"name": library.name, "soname": library.soname, "path": str(library.path), "sha256": library.sha256}
            for library in report.libraries
        ],
    }
