"""Putting an artifact where the user wants it: a relocatable folder, or Xen's own installation."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from xenqemu.build.manifest import MANIFEST, dump_manifest, file_sha256, load_manifest
from xenqemu.build.model import Artifact, Layout
from xenqemu.errors import BuildError, MissingError, UsageError, is_disk_full
from xenqemu.ui import Ui

_LOG = "build.log"
# While files are replaced: the manifest is gone, and this lists everything of ours that may be there.
JOURNAL = f".{MANIFEST}.previous"
_CHUNK = 1 << 20
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class _DamagedError(Exception):
    """A file of the artifact is not what its manifest says."""


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
def _clear_errors(artifact: Artifact, target: Path) -> Iterator[None]:
    try:
        yield
    except _DamagedError as error:
        with suppress(OSError):
            (artifact.path / MANIFEST).unlink()  # without one it is no artifact, however far the rest gets
        shutil.rmtree(artifact.path, ignore_errors=True)
        again = f"remove {artifact.path} and " if artifact.path.exists() else ""
        raise BuildError(
            f"the artifact {artifact.key[:12]} is damaged: {error}", f"{again}run again: it is built anew"
        ) from error
    except OSError as error:
        if is_disk_full(error):
            raise MissingError(f"no space is left on the device of {target}", "free some, then run again") from error
        where = error.filename2 or error.filename or target
        raise UsageError(
            f"{target} cannot be written: {where}: {error.strerror}", "choose another folder, or make it writable"
        ) from error


@contextmanager
def _alone_in(folder: Path, ui: Ui) -> Iterator[None]:
    """Make `folder` and hold it against other deliveries, from whatever state directory they come."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ui.note(f"waiting for another xenqemu that writes to {folder}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:  # a file system that cannot lock folders (NFS) is written all the same
                raise
        yield
    finally:
        os.close(handle)


def install_to(artifact: Artifact, out: Path, ui: Ui) -> Path:
    """Make the folder `out` hold what `artifact` holds and return the path of the program in it.

    Files are replaced one by one, each whole, and only where they differ; those that an earlier manifest in `out`
    lists and this one does not are removed, nothing else is. A folder with a manifest is complete: while files
    change there is none, and a journal remembers what a killed delivery leaves for the next to remove or replace.

    Raises `UsageError` when `out` is no folder, cannot be written or has a manifest of something else, and
    `BuildError` when the artifact turns out to be damaged; it is removed then, so that the next run builds it.
    """
    with hold(artifact), _clear_errors(artifact, out):
        if out.exists() and not out.is_dir():
            raise UsageError(f"the output {out} is a file, not a folder", "choose another with --out")
        with _alone_in(out, ui):
            changed = _replace(artifact, out)
    ui.note(f"{out}: {changed} files changed" if changed else f"{out}: up to date")
    return out / str(artifact.manifest["program"])


def _replace(artifact: Artifact, out: Path) -> int:
    """Do the work of `install_to` in a folder that nobody else writes to; return how many files changed."""
    manifest = dump_manifest(artifact.manifest)
    earlier = load_manifest(out / MANIFEST)
    if earlier is None and os.path.lexists(out / MANIFEST):
        raise UsageError(
            f"{out / MANIFEST} is there and is not xenqemu's",
            "choose another folder with --out, or remove that file",
        )
    for name in (MANIFEST, JOURNAL, _LOG):
        _partial(out / name).unlink(missing_ok=True)
    interrupted = load_manifest(out / JOURNAL)
    outputs = artifact.manifest["outputs"]
    kept = {str(output["path"]) for output in outputs}
    ours = list(dict.fromkeys([*_paths(earlier), *_paths(interrupted), *kept]))
    differing = [output for output in outputs if not _is_same(out / output["path"], output)]
    stale = [path for path in ours if path not in kept and _is_file(out / path)]
    log = _log_entry(artifact)
    same_log = _is_same(out / _LOG, log)
    if interrupted is None and not differing and not stale and same_log and _content(out / MANIFEST) == manifest:
        return 0
    journal = {"xenqemu": artifact.manifest["xenqemu"], "outputs": [{"path": path} for path in ours]}
    _write(out / JOURNAL, dump_manifest(journal))
    (out / MANIFEST).unlink(missing_ok=True)
    for output in differing:
        _copy(artifact.tree / output["path"], out / output["path"], output)
    _remove(out, [path for path in ours if path not in kept])
    for path in kept:
        _partial(out / path).unlink(missing_ok=True)
    if not same_log:
        _copy(artifact.log, out / _LOG, log)
    _write(out / MANIFEST, manifest)
    (out / JOURNAL).unlink()
    return len(differing) + len(stale)


def install_into_xen(artifact: Artifact, layout: Layout, destdir: Path, ui: Ui) -> Path:
    """Install `artifact`, which was built for `layout`, below `destdir` and return the path of the program there.

    For `make install` as a part of Xen's build: the folders are shared with everything else of Xen, so only the
    files themselves go there, and nothing is removed. Files that are the same already are not touched.
    Raises what `install_to` raises.
    """
    root = destdir / str(layout.root).lstrip("/")
    if artifact.manifest["program"] != layout.program.as_posix():
        raise BuildError(f"the artifact {artifact.key[:12]} was built for another layout", "build it for this one")
    with hold(artifact), _clear_errors(artifact, root), _alone_in(root, ui):
        differing = [output for output in artifact.manifest["outputs"] if not _is_same(root / output["path"], output)]
        for output in differing:
            _copy(artifact.tree / output["path"], root / output["path"], output)
    ui.note(f"{root}: {len(differing)} files changed" if differing else f"{root}: up to date")
    return root / layout.program


def link_beside(program: Path, name: str) -> None:
    """Make `name`, in the folder of `program`, a symbolic link to it; what has that name is replaced at once.

    Raises `UsageError` when the folder cannot be written.
    """
    link = program.with_name(name)
    temporary = _partial(link)
    try:
        if not link.is_symlink() or link.readlink() != Path(program.name):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(program.name)
            temporary.replace(link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{link} cannot be written: {error.strerror}", "make its folder writable") from error


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _partial(path: Path) -> Path:
    """Return the name that `path` has while it is written: always the same, so that the next run finds it."""
    return path.with_name(f".{path.name}.xenqemu-new")


def _write(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one."""
    temporary = _partial(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _copy(source: Path, target: Path, output: Mapping[str, Any]) -> None:
    """Copy one of the artifact's files, whole or not at all; raises `_DamagedError` when it is not as listed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _partial(target)
    temporary.unlink(missing_ok=True)  # not written through, should it be a link
    try:
        with temporary.open("wb") as file:
            _copy_content(source, file, str(output["sha256"]))
            file.flush()
            temporary.chmod(int(str(output["mode"]), 8))
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _copy_content(source: Path, file: IO[bytes], sha256: str) -> None:
    """Copy `source` into an open file; raises `_DamagedError` when what was copied has not that hash."""
    digest = hashlib.sha256()
    for chunk in _chunks(source):
        digest.update(chunk)
        file.write(chunk)
    if digest.hexdigest() != sha256:
        raise _DamagedError(f"{source} is not what it was when it was built")


def _chunks(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as content:
            while chunk := content.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise _DamagedError(f"{source} cannot be read: {error.strerror}") from error


def _log_entry(artifact: Artifact) -> dict[str, Any]:
    """Return the log as an output; no manifest lists it, because it is another in every build."""
    content = b"".join(_chunks(artifact.log))
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "mode": "0644"}


def _is_same(target: Path, output: Mapping[str, Any]) -> bool:
    if target.is_symlink():
        return False  # is replaced by a file: writing through somebody's link would change what it points at
    try:
        there = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if there.st_size != output["size"] or there.st_mode & 0o7777 != int(str(output["mode"]), 8):
        return False
    return file_sha256(target) == str(output["sha256"])


def _paths(listing: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the files that a manifest or a journal lists, but for paths that lead out of its folder."""
    for output in listing["outputs"] if listing else ():
        path = PurePosixPath(str(output["path"]))
        if path.parts and not path.is_absolute() and ".." not in path.parts:
            yield path.as_posix()


def _remove(out: Path, paths: Sequence[str]) -> None:
    """Remove files of ours below `out`, what a killed run had written of them, and folders that are empty then."""
    for path in paths:
        for file in (out / path, _partial(out / path)):
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                file.unlink()
        for parent in PurePosixPath(path).parents[:-1]:
            try:
                (out / parent).rmdir()
            except OSError:
                break
