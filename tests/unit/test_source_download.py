"""Downloads: verified, continued after interruptions, never patched together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_qemu import write_fake_qemu
from tests.unit.keys import signer
from tests.unit.test_source_forms import obtained, pack
from tests.unit.test_source_tarball import sha256, verified
from xenqemu.errors import MissingError, SourceError
from xenqemu.state import StateDir


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_fake_qemu(tmp_path / "q")
    return pack(tmp_path / "q", tmp_path / "qemu-1.tar.xz")


class Server(ThreadingHTTPServer):
    """Serves one file, with the faults that a test asks for."""

    content = b""
    cut: list[int]
    status: list[int]
    ranges: bool
    etag: str
    requests: list[str]
    logins: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append(asked)
        self.server.logins += filter(None, [self.headers.get("Authorization")])
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
    made.logins = []
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


def test_a_signed_download(server: Server, archive: Path, state: StateDir, tmp_path: Path) -> None:
    with signer() as key:
        how = {"signature": key.sign(archive, tmp_path / "x.sig"), "keyring": key.export(tmp_path / "ring", armor=True)}
    tree = verified(url(server), state, **how)
    assert tree.origin["signed_by"]
    verified(url(server), state, **how)
    assert server.requests == [""]
    verified(url(server), state, refresh=True, **how)
    assert server.requests == ["", ""]


@pytest.mark.parametrize("how", ["sha256", "signature"])
def test_a_kept_download_that_was_damaged_comes_again(
    how: str, server: Server, archive: Path, state: StateDir, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"sha256": sha256(archive)}
    if how == "signature":
        with signer() as key:
            options = {
                "signature": key.sign(archive, tmp_path / "x.sig"),
                "keyring": key.export(tmp_path / "ring", armor=True),
            }
    first = verified(url(server), state, **options)
    (kept,) = state.downloads.glob("*/qemu-1.tar.xz")
    kept.write_bytes(bytes(kept.stat().st_size))
    assert verified(url(server), state, **options) == first
    assert server.requests == ["", ""]


def test_what_is_downloaded_is_on_the_disk_before_it_has_its_name(
    server: Server, archive: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    replaced: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    def note_replace(self: Path, target: Path) -> Path:
        if target.name == "qemu-1.tar.xz":
            assert self.stat().st_ino in synced
            replaced.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    for source in (url(server), f"file://{archive}"):
        assert verified(source, StateDir(state.root / str(len(replaced))).create(), sha256=sha256(archive)).tree
    assert len(replaced) == 2


@pytest.mark.parametrize("wrong", ["signature", "keyring", "no keyring"])
def test_what_a_signature_needs_is_looked_at_before_the_download(
    wrong: str, server: Server, state: StateDir, tmp_path: Path
) -> None:
    for name in ("signature", "keyring"):
        if name != wrong:
            (tmp_path / name).write_text("-----BEGIN PGP SIGNATURE-----\n")
    with pytest.raises(SourceError, match="no public key" if wrong == "no keyring" else f"{wrong} does not exist"):
        verified(url(server), state, signature=tmp_path / "signature", keyring=tmp_path / "keyring")
    assert server.requests == []


def test_a_url_with_a_password(server: Server, archive: Path, state: StateDir) -> None:
    there = url(server).replace("http://", "http://me:s%40cret@") + "?token=s%40cret"
    tree = verified(there, state, sha256=sha256(archive))
    assert server.logins == ["Basic bWU6c0BjcmV0"]
    assert tree.origin["location"] == url(server)
    server.status = [404]
    with pytest.raises(SourceError, match="could not be downloaded") as caught:
        verified(there, state, sha256="0" * 64)
    assert "cret" not in caught.value.message


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


def test_a_full_disk_is_said_so(
    server: Server, archive: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xenqemu.source.download._receive", full)
    with pytest.raises(MissingError, match="no space left in"):
        verified(url(server), state, sha256=sha256(archive))
