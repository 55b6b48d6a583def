"""The build that is to be packaged: found, and held against its manifest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from xenqemu.build.hardening import inspect_elf
from xenqemu.build.manifest import MANIFEST, file_sha256, load_manifest
from xenqemu.errors import BuildError, UsageError
from xenqemu.package.model import Build
from xenqemu.state import StateDir

_BUILT_HERE = Path("dist")
_DATE = "SOURCE_DATE_EPOCH"


def find_build(state: StateDir, *, folder: Path | None = None, key: str | None = None) -> Build:
    """Return the build in `folder`, else the artifact whose key begins with `key`, else the newest.

    The newest is the one in ./dist if there is one, else the artifact used last. Raises what `read_build` and
    `xenqemu.vm.binary.choose_binary` raise.
    """
    if folder is None and key is None and (_BUILT_HERE / MANIFEST).is_file():
        folder = _BUILT_HERE
    if folder is not None:
        return read_build(folder)
    from xenqemu.vm.binary import choose_binary

    artifact = state.artifacts / choose_binary(state, key=key).key
    return read_build(artifact / "tree", artifact / MANIFEST)


def read_build(folder: Path, manifest: Path | None = None) -> Build:
    """Return the build in `folder`; `manifest` is its manifest (None: the one in the folder).

    Raises `UsageError` when there is none, and `BuildError` when a file is not as the manifest says, or when libraries
    would be looked for in a folder of the machine that built it.
    """
    there = manifest or folder / MANIFEST
    found = load_manifest(there)
    if found is None or not {"program", "qemu", "xen", "profile"} <= found.keys():
        raise UsageError(f"{folder} has no build in it", "name what `xenqemu build --out` was given")
    build = Build(folder, found)
    for output in found["outputs"]:
        path = PurePosixPath(output["path"])
        if path.is_absolute() or ".." in path.parts:
            raise BuildError(f"{there} names a file outside its folder: {path}", "build it again")
        try:
            same = file_sha256(folder / path) == output["sha256"]
        except OSError as error:
            raise BuildError(f"{folder / path} cannot be read: {error.strerror}", "build it again") from error
        if not same:
            raise BuildError(f"{folder / path} is not what it was when it was built", "build it again")
    for path in (build.program, *build.libraries):
        report = inspect_elf(folder / path)
        for place in filter(None, (*report.rpath.split(":"), *report.runpath.split(":"))):
            if not place.startswith("$ORIGIN"):
                raise BuildError(
                    f"{path} looks for libraries in {place}, which other machines do not have",
                    "build it again with this xenqemu, without -rpath in LDFLAGS",
                )
    return build


def source_date(build: Build, environment: Mapping[str, str] | None = None) -> int:
    """Return the date of a package's files: SOURCE_DATE_EPOCH, else the fixed one that the build itself was given.

    (reproducible-builds.org, "SOURCE_DATE_EPOCH specification"; `environment` of recipe.toml.) Raises `UsageError` for
    one that is no number of seconds.
    """
    said = (os.environ if environment is None else environment).get(_DATE)
    text = said or str(build.manifest["options"]["recipe"]["environment"][_DATE])
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise UsageError(f"{_DATE}={text} is no date", "it is seconds since 1970, as `date +%s` prints them")
    return int(text)
