"""Replacing a file: everything about it but its content stays, and it is never half of one."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vmconfigs import HVM, as_read, config, metadata
from xenqemu.errors import VmConfigError
from xenqemu.text import decodable, printable
from xenqemu.vm import replace
from xenqemu.vm.replace import ConfigFile, put_in_place, read_config, resolve, sync_written, write_beside

_ACL = "system.posix_acl_access"


def _acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an ACL as the kernel's include/uapi/linux/posix_acl_xattr.h lays it out: (tag, rights, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


_NOBODY = 0xFFFFFFFF
_SHARED = _acl((1, 6, _NOBODY), (2, 6, 4321), (4, 4, _NOBODY), (16, 6, _NOBODY), (32, 0, _NOBODY))


def _write(file: ConfigFile, temporary: Path, content: bytes) -> None:
    sync_written(file, write_beside(file, temporary, content))


def _replaced(path: Path, content: bytes = b"new\n") -> None:
    file = read_config(path)
    temporary = path.with_name(".temporary")
    _write(file, temporary, content)
    put_in_place(file, temporary)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o4755, 0o1777])
def test_the_mode_is_kept(tmp_path: Path, mode: int) -> None:
    path = config(tmp_path)
    path.chmod(mode)
    before = metadata(path)
    _replaced(path)
    assert metadata(path) == before
    assert path.read_bytes() == b"new\n"


def test_acls_and_attributes_are_kept(tmp_path: Path) -> None:
    path = config(tmp_path)
    os.setxattr(path, "user.note", b"\x00\xff")
    os.setxattr(path, _ACL, _SHARED)
    before = metadata(path)
    _replaced(path)
    assert metadata(path) == before
    assert os.getxattr(path, _ACL) == _SHARED


def test_an_acl_that_the_folder_gives_new_files_is_taken_off(tmp_path: Path) -> None:
    path = config(tmp_path)
    os.setxattr(path.parent, "system.posix_acl_default", _SHARED)
    before = metadata(path)
    _replaced(path)
    assert _ACL not in os.listxattr(path)
    assert metadata(path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_security_attributes_are_kept(tmp_path: Path) -> None:
    path = config(tmp_path)
    os.chown(path, 1234, 4321)
    path.chmod(0o2750)
    os.setxattr(path, "trusted.note", b"1")
    before = metadata(path)
    _replaced(path)
    assert metadata(path) == before
    assert before[1:3] == (1234, 4321)


def test_attributes_that_bind_a_file_to_its_content_are_left_to_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listxattr", lambda handle: ["security.ima", "security.evm"])
    assert as_read(tmp_path, HVM).attributes == {}


def _failing(number: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("function", "number", "reason"),
    [
        ("setxattr", errno.EPERM, r"extended attribute 'user\.note' cannot be kept: Operation not permitted"),
        ("setxattr", errno.ENOTSUP, "extended attribute 'user.note' cannot be kept"),
        ("fchmod", errno.EPERM, "its mode cannot be kept"),
        ("fsync", errno.EIO, "cannot be synced: Input/output error"),
    ],
)
def test_what_cannot_be_kept_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int, reason: str
) -> None:
    path = config(tmp_path)
    os.setxattr(path, "user.note", b"1")
    file = read_config(path)
    monkeypatch.setattr(os, function, _failing(number))
    with pytest.raises(VmConfigError, match=reason):
        _write(file, path.with_name(".temporary"), b"new")
    assert path.read_bytes() == HVM


def test_a_foreign_owner_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = as_read(tmp_path, HVM)
    status = os.stat_result((file.status.st_mode, 0, 0, 1, file.status.st_uid + 1, 0, 0, 0, 0, 0))
    monkeypatch.setattr(os, "fchown", _failing(errno.EPERM))
    with pytest.raises(VmConfigError, match="owner and group cannot be kept"):
        _write(ConfigFile(file.path, HVM, status, {}), file.path.with_name(".temporary"), b"new")


def test_a_file_system_that_takes_attributes_and_drops_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path)
    os.setxattr(path, "user.note", b"1")
    file = read_config(path)
    monkeypatch.setattr(os, "setxattr", lambda *_: None)
    with pytest.raises(VmConfigError, match="did not take them"):
        _write(file, path.with_name(".temporary"), b"new")


def test_a_file_system_without_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path)
    monkeypatch.setattr(os, "listxattr", _failing(errno.ENOTSUP))
    _replaced(path)
    assert path.read_bytes() == b"new\n"


def test_attributes_that_cannot_be_read_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path)
    monkeypatch.setattr(os, "listxattr", _failing(errno.EIO))
    with pytest.raises(VmConfigError, match="cannot be read: Input/output error"):
        read_config(path)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = as_read(tmp_path, HVM)
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(os, "open", lambda *_: full)
    with pytest.raises(VmConfigError, match="new content cannot be written: No space left"):
        _write(file, file.path.with_name(".temporary"), b"new")


def test_a_change_by_someone_else_is_noticed(tmp_path: Path) -> None:
    path = config(tmp_path)
    file = read_config(path)
    _write(file, path.with_name(".temporary"), b"new")
    path.write_bytes(HVM + b"# mine\n")
    with pytest.raises(VmConfigError, match="someone else changed it just now"):
        put_in_place(file, path.with_name(".temporary"))
    assert path.read_bytes() == HVM + b"# mine\n"


def test_a_change_of_the_mode_by_someone_else_is_noticed(tmp_path: Path) -> None:
    path = config(tmp_path)
    file = read_config(path)
    _write(file, path.with_name(".temporary"), b"new")
    path.chmod(0o611)
    with pytest.raises(VmConfigError, match="someone else"):
        put_in_place(file, path.with_name(".temporary"))


def test_what_is_no_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VmConfigError, match="no regular file"):
        read_config(tmp_path.resolve())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VmConfigError, match="no regular file"):
        read_config(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(config(tmp_path))
    with pytest.raises(VmConfigError, match="cannot be read"):
        read_config(tmp_path / "link")
    monkeypatch.setattr(replace, "MAX_SIZE", 10)
    with pytest.raises(VmConfigError, match="MiB"):
        read_config(tmp_path / "one.cfg")


def test_links_are_followed_to_the_file(tmp_path: Path) -> None:
    path = config(tmp_path)
    (tmp_path / "link").symlink_to("one.cfg")
    assert resolve(tmp_path / "link") == path
    (tmp_path / "loop").symlink_to("loop")
    for name in ("loop", "nothing", "one.cfg/below"):
        with pytest.raises(VmConfigError):
            resolve(tmp_path / name)


def test_names_are_printable() -> None:
    assert printable(Path("/é/\udce9\n\x1b")) == "/é/\\xe9\\n\\x1b"
    assert decodable(Path("/é/\udce9\n\ud800")) == "/é/\\xe9\n\\ud800"
    assert printable("a\tb\ud800", keep="\t") == "a\tb\\ud800"
