"""Tarballs: compression, damage, hostility, checksums, signatures, downloads."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.fake_qemu import write_fake_qemu
from tests.unit.keys import Signer, signer
from tests.unit.test_source_forms import obtained, pack
from xenqemu.errors import MissingError, SourceError
from xenqemu.source import QemuTree, obtain, parse_source, unpack
from xenqemu.source.unpack import tar_entries
from xenqemu.source.verify import dearmored, sha256_of
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    write_fake_qemu(tmp_path / "q")
    return tmp_path / "q"


@pytest.fixture
def archive(fake: Path, tmp_path: Path) -> Path:
    return pack(fake, tmp_path / "qemu-1.tar.xz")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verified(source: Path | str, state: StateDir, **how: Any) -> QemuTree:
    return obtain(parse_source(str(source), **how), state, QuietUi())


@pytest.mark.parametrize("programs", ["all", "none"])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_compressions(
    suffix: str, programs: str, fake: Path, tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    if programs == "none":
        monkeypatch.setattr("xenqemu.source.unpack.shutil.which", lambda _: None)
    path = tmp_path / f"x.{suffix}"
    compression = suffix.partition(".")[2]
    if compression == "zst":
        path.write_bytes(zstandard.compress(pack(fake, tmp_path / "plain.tar", "w").read_bytes()))
    else:
        pack(fake, path, f"w:{compression}")
    tree = obtained(path, state)
    assert tree.tree == obtained(fake, state).tree
    assert tree.origin["sha256"] == sha256(path)
    assert tree.origin["verified"] == "no"
    whole = path.read_bytes()
    # The last kilobytes of a plain tar archive are only padding.
    for size in (len(whole) // 2, len(whole) - 9) if compression else (len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(SourceError, match="is damaged or cut off"):
            obtained(path, state)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_flipped_bytes_are_noticed(archive: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(archive.read_bytes())
    where = data.draw(st.integers(12, len(whole) - 1))
    whole[where] ^= data.draw(st.integers(1, 255))
    damaged = tmp_path / "damaged.tar.xz"
    damaged.write_bytes(whole)
    with pytest.raises(SourceError):
        read_all(damaged)


def read_all(path: Path) -> dict[str, bytes]:
    return {entry.path: entry.read() for entry in tar_entries(path)}


def hostile(path: Path, change: Callable[[tarfile.TarFile], None]) -> Path:
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("qemu-1")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        change(tar)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("qemu-1/../../etc/passwd")], "climbs out"),
        ([member("../x")], "climbs out"),
        ([member("/etc/passwd")], "climbs out"),
        ([member("qemu-1/x", tarfile.SYMTYPE, "../x")], "points outside"),
        ([member("qemu-1/a/x", tarfile.SYMTYPE, "../../../x")], "points outside"),
        ([member("qemu-1/x", tarfile.SYMTYPE, "/etc/passwd")], "points outside"),
        ([member("qemu-1/x", tarfile.LNKTYPE, "../../etc/passwd")], "climbs out"),
        ([member("qemu-1/x", tarfile.LNKTYPE, "qemu-1/none")], "hard link to none, which is not there"),
        (
            [member("qemu-1/x", tarfile.LNKTYPE, "qemu-1/y"), member("qemu-1/y", tarfile.LNKTYPE, "qemu-1/x")],
            "hard link",
        ),
        ([member("qemu-1/x", tarfile.CHRTYPE)], "a device"),
        ([member("qemu-1/x", tarfile.FIFOTYPE)], "a device"),
        ([member("qemu-1/x"), member("qemu-1/./x")], "appears twice"),
        ([member("other/x")], "is not in the folder 'qemu-1'"),
        ([member("qemu-1/x", size=unpack.MAX_FILE + 1)], "MiB big"),
    ],
)
def test_hostile_archives(
    members: list[tarfile.TarInfo], message: str, fake: Path, tmp_path: Path, state: StateDir
) -> None:
    def change(tar: tarfile.TarFile) -> None:
        tar.add(fake, "qemu-1")
        for info in members:
            # The header alone, which Python 3.13's addfile() refuses to write for a file with a size.
            header = info.tobuf()
            assert tar.fileobj is not None
            tar.fileobj.write(header)
            tar.offset += len(header)

    with pytest.raises(SourceError, match=re.escape(message)):
        obtained(hostile(tmp_path / "x.tar", change), state)
    assert not (tmp_path.parent / "etc").exists()


def test_a_symlink_in_what_is_dropped_does_not_matter(fake: Path, tmp_path: Path, state: StateDir) -> None:
    def change(tar: tarfile.TarFile) -> None:
        tar.add(fake, "qemu-1")
        tar.addfile(member("qemu-1/roms/seabios/abs", tarfile.SYMTYPE, "/usr/share"))

    assert obtained(hostile(tmp_path / "x.tar", change), state).tree == obtained(fake, state).tree


def test_a_bomb(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_TOTAL", 8 << 20)
    path = tmp_path / "x.tar.xz"
    info = member("qemu-1/roms/seabios/zeros", size=64 << 20)
    path.write_bytes(lzma.compress(info.tobuf() + bytes(info.size + 1024), preset=0))
    with pytest.raises(SourceError, match="unpacks to more than"):
        obtained(path, state)


@pytest.mark.parametrize("content", [b"", b"not an archive at all", b"\xfd7zXZ\0", lzma.compress(b"not a tar" * 1000)])
def test_what_is_no_archive(content: bytes, tmp_path: Path, state: StateDir) -> None:
    path = tmp_path / "x.tar.xz"
    path.write_bytes(content)
    with pytest.raises(SourceError):
        obtained(path, state)


def test_checksums(archive: Path, state: StateDir) -> None:
    tree = verified(archive, state, sha256=sha256(archive).upper())
    assert tree.origin["verified"] == "sha256"
    with pytest.raises(SourceError, match="wrong checksum"):
        verified(archive, state, sha256="0" * 64)
    with pytest.raises(SourceError, match="is not a SHA-256"):
        verified(archive, state, sha256="123")


def test_a_remembered_checksum_follows_the_file(archive: Path, state: StateDir) -> None:
    before = sha256_of(archive, state)
    times = archive.stat()
    content = bytearray(archive.read_bytes())
    content[20] ^= 1
    archive.write_bytes(content)
    os.utime(archive, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sha256_of(archive, state) == sha256(archive) != before


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    with signer() as made:
        yield made


@pytest.mark.parametrize("armor", [True, False])
@pytest.mark.parametrize("over", ["compressed", "uncompressed"])
def test_signatures(over: str, armor: bool, key: Signer, archive: Path, tmp_path: Path, state: StateDir) -> None:
    signed = archive
    if over == "uncompressed":
        signed = tmp_path / "plain.tar"
        signed.write_bytes(lzma.decompress(archive.read_bytes()))
    how = {
        "signature": key.sign(signed, tmp_path / "x.sig"),
        "keyring": key.export(tmp_path / "ring", armor=armor),
    }
    tree = verified(archive, state, **how)
    assert tree.origin["verified"] == "signature"
    assert re.fullmatch(r"[0-9A-F]{40}", tree.origin["signed_by"])
    assert verified(archive, state, sha256=sha256(archive), **how).origin["verified"] == "sha256, signature"


def test_signatures_that_do_not_verify(key: Signer, archive: Path, tmp_path: Path, state: StateDir) -> None:
    signature = key.sign(archive, tmp_path / "x.sig")
    ring = key.export(tmp_path / "ring", armor=True)
    with signer("other") as other:
        foreign = other.export(tmp_path / "foreign", armor=True)
    both = tmp_path / "both"
    both.write_bytes(foreign.read_bytes() + ring.read_bytes())
    assert verified(archive, state, signature=signature, keyring=both).origin["signed_by"]
    with pytest.raises(SourceError, match="does not have the key that made it"):
        verified(archive, state, signature=signature, keyring=foreign)
    with pytest.raises(SourceError, match="does not exist"):
        verified(archive, state, signature=signature, keyring=tmp_path / "none")
    with pytest.raises(SourceError, match="needs the keyring of the signer"):
        verified(archive, state, signature=signature)
    (tmp_path / "nonsense").write_text("nonsense")
    with pytest.raises(SourceError, match="is not verified by nonsense"):
        verified(archive, state, signature=tmp_path / "nonsense", keyring=ring)
    pack(tmp_path / "q", archive, "w:gz")
    with pytest.raises(SourceError, match="does not fit the file"):
        verified(archive, state, signature=signature, keyring=ring)


def test_a_revoked_key(archive: Path, tmp_path: Path, state: StateDir) -> None:
    with signer("revoked") as key:
        signature = key.sign(archive, tmp_path / "x.sig")
        ring = key.export(tmp_path / "ring", armor=True)
        assert verified(archive, state, signature=signature, keyring=ring).origin["signed_by"]
        (certificate,) = (key.home / "openpgp-revocs.d").glob("*.rev")
        # GnuPG puts a colon before it, so that it is not imported by mistake.
        (tmp_path / "rev").write_text(certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
        key.gpg("--import", tmp_path / "rev")
        revoked = key.export(tmp_path / "revoked", armor=True)
    with pytest.raises(SourceError, match="the key was revoked"):
        verified(archive, state, signature=signature, keyring=revoked)


def test_an_expired_key(archive: Path, tmp_path: Path, state: StateDir) -> None:
    with signer("expired") as key:
        (fingerprint,) = re.findall(r"^fpr:+(\w+):", key.gpg("--with-colons", "--list-keys").decode(), re.MULTILINE)
        signature = key.sign(archive, tmp_path / "x.sig")
        key.gpg("--passphrase", "", "--quick-set-expire", fingerprint, "seconds=1")
        ring = key.export(tmp_path / "ring", armor=True)
        time.sleep(2.1)  # gpg counts in whole seconds
    with pytest.raises(SourceError, match="the key has expired"):
        verified(archive, state, signature=signature, keyring=ring)


def test_an_expired_signature(archive: Path, tmp_path: Path, state: StateDir) -> None:
    with signer("short") as key:
        key.gpg("--default-sig-expire", "seconds=1", "--output", tmp_path / "x.sig", "--detach-sign", archive)
        ring = key.export(tmp_path / "ring", armor=True)
        time.sleep(2.1)
    with pytest.raises(SourceError, match="the signature has expired"):
        verified(archive, state, signature=tmp_path / "x.sig", keyring=ring)


def test_no_gpgv(key: Signer, archive: Path, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenqemu.source.verify.shutil.which", lambda _: None)
    with pytest.raises(MissingError, match="needs gpgv"):
        verified(archive, state, signature=archive, keyring=archive)


def test_damaged_keyrings() -> None:
    start, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
    assert dearmored(b"\x98binary") == b"\x98binary"
    assert dearmored(f"{start}\nComment: x\n\nYWJj\n=abcd\n{end}\n".encode()) == b"abc"
    with pytest.raises(SourceError, match="armor cannot be decoded"):
        dearmored(f"{start}\n\n!!!\n{end}\n".encode())
    with pytest.raises(SourceError, match="no public key"):
        dearmored(b"-----BEGIN PGP SIGNATURE-----\n")


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
@pytest.mark.parametrize("programs", ["all", "none"])
def test_damage_inside(
    suffix: str, programs: str, fake: Path, tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    if programs == "none":
        monkeypatch.setattr("xenqemu.source.unpack.shutil.which", lambda _: None)
    path = tmp_path / f"x.{suffix}"
    plain = pack(fake, tmp_path / "plain.tar", "w").read_bytes()
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "tar.gz": gzip.compress,
        "tar.bz2": bz2.compress,
        "tar.xz": lzma.compress,
        "tar.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    }
    whole = bytearray(compressors[suffix](plain))
    middle = len(whole) // 2
    whole[middle : middle + 40] = bytes(40)
    path.write_bytes(whole)
    with pytest.raises(SourceError, match="damaged or cut off"):
        obtained(path, state)


def test_a_header_that_is_not_understood_is_not_the_end(fake: Path, tmp_path: Path, state: StateDir) -> None:
    path = pack(fake, tmp_path / "x.tar", "w")
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    content[last.offset + 148 : last.offset + 156] = b"12345678"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="not understood to its end"):
        obtained(path, state)


def test_a_disk_that_fails_is_not_the_archives_fault(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenqemu.source.unpack.shutil.which", lambda _: None)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(unpack, "_FORMATS", ((b"\xfd7zXZ", ("xz",), lambda _: Failing()),))
    with pytest.raises(OSError, match="Input/output"):
        read_all(archive)


def test_entries_are_read_in_order(fake: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(fake, "q")
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    assert read_all(tmp_path / "x.tar")["VERSION"] == b"10.2.2\n"
