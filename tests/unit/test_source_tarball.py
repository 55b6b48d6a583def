"""Tarballs: compression, damage, hostility, checksums, signatures, downloads."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
            tar.addfile(info)

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


class Server(ThreadingHTTPServer):
    """Serves one file, with the faults that a test asks for."""

    content = b""
    cut: list[int]
    status: list[int]
    ranges: bool
    etag: str
    requests: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append(asked)
        if self.server.status:
            self.send_error(self.server.status.pop(0))
            return
        content, start = self.server.content, 0
        fresh = self.headers.get("If-Range") in (None, self.server.etag)
        if asked and self.server.ranges and fresh:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start > len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", self.server.etag)
        self.end_headers()
        end = start + self.server.cut.pop(0) if self.server.cut else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("xenqemu.source.download.time.sleep", lambda _: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server(("127.0.0.1", 0), Handler)
    made.content, made.cut, made.status, made.ranges, made.etag, made.requests = (
        archive.read_bytes(),
        [],
        [],
        True,
        '"1"',
        [],
    )
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/qemu-1.tar.xz"


def test_a_url_needs_verification(server: Server, state: StateDir) -> None:
    with pytest.raises(SourceError, match="nothing says what it should be"):
        obtained(url(server), state)
    assert server.requests == []


def test_a_download(server: Server, archive: Path, state: StateDir) -> None:
    tree = verified(url(server), state, sha256=sha256(archive))
    assert tree.tree == obtained(archive, state).tree
    assert verified(url(server), state, sha256=sha256(archive)) == tree
    assert server.requests == [""]


def test_a_lost_connection_is_taken_up_again(server: Server, archive: Path, state: StateDir) -> None:
    server.cut = [100, 200]
    assert verified(url(server), state, sha256=sha256(archive)).tree
    assert server.requests == ["", "bytes=100-", "bytes=300-"]


def test_a_server_that_recovers(server: Server, archive: Path, state: StateDir) -> None:
    server.status = [503, 500]
    assert verified(url(server), state, sha256=sha256(archive)).tree


def test_the_next_run_goes_on(server: Server, archive: Path, state: StateDir) -> None:
    server.cut = [50, 50, 50, 50]
    with pytest.raises(SourceError, match=r"the connection was lost after 200 of \d+ bytes"):
        verified(url(server), state, sha256=sha256(archive))
    assert verified(url(server), state, sha256=sha256(archive)).tree
    assert server.requests[-1] == "bytes=200-"


def test_a_file_that_changed_meanwhile_is_not_patched_together(server: Server, archive: Path, state: StateDir) -> None:
    server.cut = [50, 50, 50, 50]
    good, server.content = server.content, b"another file" * 500
    with pytest.raises(SourceError):
        verified(url(server), state, sha256=sha256(archive))
    server.content, server.etag = good, '"2"'
    assert verified(url(server), state, sha256=sha256(archive)).tree


def test_a_part_longer_than_the_file(server: Server, archive: Path, state: StateDir) -> None:
    part = state.downloads / sha256(archive) / "qemu-1.tar.xz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(server.content) + 1))
    assert verified(url(server), state, sha256=sha256(archive)).tree


def test_a_server_without_ranges(server: Server, archive: Path, state: StateDir) -> None:
    server.ranges = False
    server.cut = [50]
    assert verified(url(server), state, sha256=sha256(archive)).tree


def test_a_download_that_does_not_verify_is_not_kept(server: Server, archive: Path, state: StateDir) -> None:
    good, server.content = server.content, server.content[:-1] + b"?"
    with pytest.raises(SourceError, match="wrong checksum"):
        verified(url(server), state, sha256=sha256(archive))
    assert not [path for path in state.downloads.rglob("*") if path.is_file()]
    server.content = good
    assert verified(url(server), state, sha256=sha256(archive)).tree


def test_what_is_not_there(server: Server, archive: Path, state: StateDir) -> None:
    server.status = [404]
    with pytest.raises(SourceError, match="could not be downloaded: 404"):
        verified(url(server), state, sha256=sha256(archive))
    with pytest.raises(SourceError, match=r"could not be downloaded: .*refused"):
        verified("http://127.0.0.1:9/q.tar.xz", state, sha256=sha256(archive))


def test_a_signed_download(server: Server, archive: Path, state: StateDir, key: Signer, tmp_path: Path) -> None:
    how = {"signature": key.sign(archive, tmp_path / "x.sig"), "keyring": key.export(tmp_path / "ring", armor=True)}
    tree = verified(url(server), state, **how)
    assert tree.origin["signed_by"]
    verified(url(server), state, **how)
    assert server.requests == [""]
    verified(url(server), state, refresh=True, **how)
    assert server.requests == ["", ""]


def test_file_urls(archive: Path, state: StateDir) -> None:
    tree = verified(f"file://{archive}", state, sha256=sha256(archive))
    assert tree.tree == obtained(archive, state).tree
    with pytest.raises(SourceError, match="does not exist"):
        verified(f"file://{archive}.tar.xz", state, sha256="0" * 64)
    with pytest.raises(SourceError, match="nothing says what it should be"):
        obtained(f"file://{archive}", state)


def test_a_killed_download_goes_on(server: Server, archive: Path, state: StateDir) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from xenqemu.source import download, obtain, parse_source\n"
        "from xenqemu.state import StateDir; from xenqemu.ui import QuietUi\n"
        "download._BLOCK = 64; receive = download._receive\n"
        "class Killer:\n"
        "    def update(self, done, total, what=''):\n"
        "        if done >= 512: os.kill(os.getpid(), signal.SIGKILL)\n"
        "download._receive = lambda url, part, progress: receive(url, part, Killer())\n"
        "source = parse_source(sys.argv[1], sha256=sys.argv[3])\n"
        "obtain(source, StateDir(Path(sys.argv[2])).create(), QuietUi())\n"
    )
    argv = [sys.executable, "-c", script, url(server), str(state.root), sha256(archive)]
    assert subprocess.run(argv, check=False).returncode == -9
    part = state.downloads / sha256(archive) / "qemu-1.tar.xz.part"
    assert part.is_file()
    have = part.stat().st_size
    assert verified(url(server), state, sha256=sha256(archive)).tree
    assert server.requests[1] == (f"bytes={have}-" if have else "")


def test_entries_are_read_in_order(fake: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(fake, "q")
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    assert read_all(tmp_path / "x.tar")["VERSION"] == b"10.2.2\n"
