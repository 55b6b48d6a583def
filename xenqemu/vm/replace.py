"""Replacing one file by new content with nothing else about it changed: links, owner, mode, ACLs, attributes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import VmConfigError
from xenqemu.text import printable

MAX_SIZE = 16 << 20
# These bind a file to its content: the kernel writes them anew (security/integrity/ima/ima_appraise.c, evm_main.c).
_OF_THE_CONTENT = ("security.ima", "security.evm")
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENOSYS)


@dataclass(frozen=True)
class ConfigFile:
    """A file as it was read: its `path` without links in it, and all that a replacement has to keep."""

    path: Path
    content: bytes
    status: os.stat_result
    attributes: Mapping[str, bytes]


def resolve(path: Path) -> Path:
    """Return the file that `path` leads to through all links; raises `VmConfigError` when there is none."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: Python up to 3.12 about a loop of links
        reason = error.strerror if isinstance(error, OSError) else "no such path, or a loop of links"
        raise VmConfigError(f"{printable(path)}: {reason}", "name the file of a VM config") from error


def read_config(path: Path) -> ConfigFile:
    """Return the file at `path`, which must have no links in it (see `resolve`).

    Raises `VmConfigError` when it cannot be read, is no regular file, or is larger than any config (16 MiB).
    """
    try:
        # A named pipe must not hold us up, and what has become a link since is another file.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, "cannot be read", error) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise VmConfigError(f"{printable(path)}: no regular file", "name the file of a VM config")
        if status.st_size > MAX_SIZE:
            raise VmConfigError(f"{printable(path)}: {status.st_size >> 20} MiB", "no VM config is as large as that")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return ConfigFile(path, file.read(MAX_SIZE + 1), status, _attributes(handle))
    except OSError as error:
        raise _failed(path, "cannot be read", error) from error
    finally:
        os.close(handle)


def about_links(file: ConfigFile) -> tuple[str, ...]:
    """Return a note about the hard links that a replacement of `file` leaves behind, none where there are none."""
    others = file.status.st_nlink - 1
    return (f"the file's {others} other name(s), hard links, keep the old content",) if others else ()


def write_beside(file: ConfigFile, temporary: Path, content: bytes) -> int:
    """Write `content` to the new file `temporary`, with everything else as `file` has it; return it, open.

    It is for `sync_written`, which is apart because files are synced many at a time. Raises `VmConfigError`, naming
    what cannot be kept; `temporary` may be left behind then.
    """
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _failed(file.path, f"no file can be made beside it in {printable(temporary.parent)}", error) from error
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(handle, view) :]
        except OSError as error:
            raise _failed(file.path, "its new content cannot be written", error) from error
        _keep(file, handle)
    except BaseException:
        os.close(handle)
        raise
    return handle


def sync_written(file: ConfigFile, handle: int) -> None:
    """Sync and close what `write_beside` returned for `file`; raises `VmConfigError`."""
    try:
        os.fsync(handle)
    except OSError as error:
        raise _failed(file.path, "its new content cannot be synced", error) from error
    finally:
        os.close(handle)


def put_in_place(file: ConfigFile, temporary: Path) -> None:
    """Rename `temporary` over `file`, after a last look whether that is still what was read.

    Raises `VmConfigError` when someone has changed the file meanwhile, or it cannot be replaced.
    """
    now = read_config(file.path)
    # The time of the last change to the inode also tells of owner, mode and attributes.
    if now.content != file.content or _identity(now.status) != _identity(file.status):
        raise VmConfigError(
            f"{printable(file.path)}: someone else changed it just now", "nothing was written to it; run this again"
        )
    try:
        temporary.rename(file.path)
    except OSError as error:
        raise _failed(file.path, "it cannot be replaced", error) from error


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` outlast a crash; raises `OSError`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _attributes(handle: int) -> dict[str, bytes]:
    try:
        names = os.listxattr(handle)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return {}
        raise
    return {name: os.getxattr(handle, name) for name in names if name not in _OF_THE_CONTENT}


def _keep(file: ConfigFile, handle: int) -> None:
    """Give the open new file the owner, mode and attributes of `file`, and look whether it has them."""
    wanted = file.status
    what = "owner and group"
    try:
        made = os.fstat(handle)
        if (made.st_uid, made.st_gid) != (wanted.st_uid, wanted.st_gid):
            os.fchown(handle, wanted.st_uid, wanted.st_gid)
        what = "mode"
        os.fchmod(handle, stat.S_IMODE(wanted.st_mode))
        present = _attributes(handle)
        for name, value in file.attributes.items():
            what = f"extended attribute '{name}'"
            if present.get(name) != value:
                os.setxattr(handle, name, value)
        for name in present.keys() - file.attributes.keys():  # a folder's default ACL gives new files one
            what = f"lack of the extended attribute '{name}'"
            os.removexattr(handle, name)
        what = "owner, group, mode or extended attributes"
        made = os.fstat(handle)
        kept = (made.st_uid, made.st_gid, made.st_mode) == (wanted.st_uid, wanted.st_gid, wanted.st_mode)
        if not kept or _attributes(handle) != file.attributes:
            raise PermissionError(errno.EPERM, "the file system did not take them")
    except OSError as error:
        raise _failed(file.path, f"its {what} cannot be kept", error, "run this as the file's owner, or as root") from (
            error
        )


def _failed(path: Path, what: str, error: OSError, hint: str = "nothing was written to it") -> VmConfigError:
    return VmConfigError(f"{printable(path)}: {what}: {error.strerror}", hint)
