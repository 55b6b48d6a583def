"""Putting an artifact where the user wants it: a relocatable folder, or Xen's own installation."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from xenqemu.build.manifest import MANIFEST, dump_manifest, file_sha256, load_manifest
from xenqemu.build.model import Artifact, Layout
from xenqemu.errors import BuildError, MissingError, UsageError
from xenqemu.state import write_atomic
from xenqemu.ui import Ui

_LOG = "build.log"


@contextmanager
def hold(artifact: Artifact) -> Iterator[None]:
    """Keep `artifact` from being pruned by another run for as long as this context lasts."""
    try:
        handle = os.open(artifact.path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BuildError(
            f"the artifact {artifact.key[:12]} is gone: {error.strerror}", "run the build again"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextmanager
def _clear_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MissingError(f"no space is left on the device of {target}", "free some, then run again") from error
        where = error.filename2 or error.filename or target
        raise UsageError(
            f"{target} cannot be written: {where}: {error.strerror}", "choose another folder, or make it writable"
        ) from error


def install_to(artifact: Artifact, out: Path, ui: Ui) -> Path:
    """Make the folder `out` hold what `artifact` holds and return the path of the program in it.

    Files are replaced one by one, each whole, and only where they differ; those that an earlier manifest in `out`
    lists and this one does not are removed, nothing else is. The manifest comes last, so that a folder with one is
    complete. Raises `UsageError` when `out` is no folder, cannot be written or has a manifest of something else.
    """
    program = out / str(artifact.manifest["program"])
    if out.exists() and not out.is_dir():
        raise UsageError(f"the output {out} is a file, not a folder", "choose another with --out")
    manifest = dump_manifest(artifact.manifest)
    with hold(artifact), _clear_errors(out):
        earlier = load_manifest(out / MANIFEST)
        if earlier is None and (out / MANIFEST).exists():
            raise UsageError(
                f"{out / MANIFEST} is there and is not xenqemu's",
                "choose another folder with --out, or remove that file",
            )
        outputs = artifact.manifest["outputs"]
        changed = _sync(artifact.tree, out, outputs)
        changed += _remove_stale(out, earlier, {output["path"] for output in outputs})
        _copy_if_different(artifact.log, out / _LOG, file_sha256(artifact.log), 0o644)
        if _content(out / MANIFEST) != manifest:
            write_atomic(out / MANIFEST, manifest)
    ui.note(f"{out}: {changed} files changed" if changed else f"{out}: up to date")
    return program


def install_into_xen(artifact: Artifact, layout: Layout, destdir: Path, ui: Ui) -> Path:
    """Install `artifact`, which was built for `layout`, below `destdir` and return the path of the program there.

    For `make install` as a part of Xen's build: the folders are shared with everything else of Xen, so only the
    files themselves go there, and nothing is removed. Files that are the same already are not touched.
    """
    root = destdir / str(layout.root).lstrip("/")
    if artifact.manifest["program"] != layout.program.as_posix():
        raise BuildError(f"the artifact {artifact.key[:12]} was built for another layout", "build it for this one")
    with hold(artifact), _clear_errors(root):
        changed = _sync(artifact.tree, root, artifact.manifest["outputs"])
    ui.note(f"{root}: {changed} files changed" if changed else f"{root}: up to date")
    return root / layout.program


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sync(tree: Path, target: Path, outputs: list[Mapping[str, Any]]) -> int:
    """Copy the `outputs` of `tree` that differ in `target`; return how many did."""
    target.mkdir(parents=True, exist_ok=True)
    changed = 0
    for output in outputs:
        relative = str(output["path"])
        changed += _copy_if_different(
            tree / relative, target / relative, str(output["sha256"]), int(str(output["mode"]), 8)
        )
    return changed


def _copy_if_different(source: Path, target: Path, sha256: str, mode: int) -> bool:
    if _is_same(source, target, sha256, mode):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        shutil.copyfile(source, temporary)
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def _is_same(source: Path, target: Path, sha256: str, mode: int) -> bool:
    if target.is_symlink():
        return False  # is replaced by a file: writing through somebody's link would change what it points at
    try:
        there = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if there.st_size != source.stat().st_size or there.st_mode & 0o7777 != mode:
        return False
    return file_sha256(target) == sha256


def _remove_stale(out: Path, earlier: Mapping[str, Any] | None, kept: set[str]) -> int:
    """Remove what the `earlier` manifest of `out` lists and what is not in `kept`, and folders that are empty then."""
    removed = 0
    for output in earlier["outputs"] if earlier else ():
        path = PurePosixPath(str(output.get("path", "")))
        if not path.parts or path.is_absolute() or ".." in path.parts or path.as_posix() in kept:
            continue
        try:
            (out / path).unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        removed += 1
        for parent in path.parents[:-1]:
            try:
                (out / parent).rmdir()
            except OSError:
                break
    return removed
