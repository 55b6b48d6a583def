"""`lab prepare` and `lab shell`: the terminal's side on a pseudo terminal, dom0's side on a fake host."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import signal
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from click.testing import CliRunner

from xenqemu.cli.main import cli
from xenqemu.lab.host import Host
from xenqemu.lab.model import Completed, JobStatus, LabBase
from xenqemu.lab.shell import attach_terminal, run_script


class FakeJob:
    def __init__(self) -> None:
        self.ended: Completed | None = None

    def poll(self) -> JobStatus:
        return JobStatus(running=self.ended is None, completed=self.ended)


class FakeHost(Host):
    """Dom0's end of a stream is `far`; what is run or written is kept."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.job = FakeJob()
        self.ran: list[tuple[str, ...]] = []
        self.written: dict[str, bytes] = {}

    def stream(self, argv: Sequence[str]) -> socket.socket:
        self.ran.append(tuple(argv))
        return self.near

    def stream_job(self, connection: socket.socket) -> Any:
        assert connection is self.near
        return self.job

    def run(self, argv: Sequence[str], *, timeout: float = 30.0, stdin: bytes = b"") -> Completed:
        self.ran.append(tuple(argv))
        return Completed(b"", b"", 0)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.written[path] = data


@pytest.fixture
def host() -> Iterator[FakeHost]:
    made = FakeHost()
    yield made
    made.near.close()
    made.far.close()


class Terminal:
    """A terminal of 24 lines and 80 columns: `person` is where one types and reads."""

    def __init__(self) -> None:
        self.person, self.program = pty.openpty()
        self.resize(24, 80)

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.program, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, count: int) -> bytes:
        said = b""
        while len(said) < count:
            said += os.read(self.person, count - len(said))
        return said


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    os.close(made.person)
    os.close(made.program)


def meanwhile(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_session(host: FakeHost, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    before = termios.tcgetattr(terminal.program)
    seen: list[bytes] = []

    def person() -> None:
        host.far.sendall(b"dom0# ")
        seen.append(terminal.read(6))
        os.write(terminal.person, b"\x03ls\r")  # raw: Ctrl-C is dom0's
        seen.append(host.far.recv(100))
        terminal.resize(50, 132)
        os.kill(os.getpid(), signal.SIGWINCH)
        while len(host.ran) < 2:
            time.sleep(0.01)
        os.write(terminal.person, b"\x1d")

    thread = meanwhile(person)
    attach_terminal(host, terminal.program, terminal.program)
    thread.join(10)
    assert seen == [b"dom0# ", b"\x03ls\r"]
    assert "TERM=xterm-256color /usr/lib/xenqemu/shell 24 80," in host.ran[0][-1]
    assert host.ran[1] == ("stty", "-F", "/run/xenqemu-shell", "rows", "50", "cols", "132")
    assert termios.tcgetattr(terminal.program) == before
    assert host.near.fileno() == -1


def test_the_shell_in_dom0_ends(host: FakeHost, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "x,pty=evil")
    host.job.ended = Completed(b"", b"", 0)
    attach_terminal(host, terminal.program, terminal.program)
    assert "TERM=linux " in host.ran[0][-1]


def test_the_stream_ends(host: FakeHost, terminal: Terminal) -> None:
    host.far.shutdown(socket.SHUT_RDWR)
    attach_terminal(host, terminal.program, terminal.program)


def test_a_script(host: FakeHost) -> None:
    def dom0() -> None:
        host.far.sendall(b"one\n")
        time.sleep(0.1)
        host.far.sendall(b"two\n")
        host.job.ended = Completed(b"", b"", 3)

    thread = meanwhile(dom0)
    sink = io.BytesIO()
    assert run_script(host, b"xl list\n", sink).code == 3
    thread.join(10)
    assert sink.getvalue() == b"one\ntwo\n"
    assert list(host.written.values()) == [b"xl list\n"]


def test_the_shell_command(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    @contextmanager
    def open_host(xen: str | None, model: Path | None, *_: object) -> Iterator[Host]:
        asked.append((xen, model))
        yield host

    ends = iter((0, 5))

    def script(_: Host, text: bytes, __: BinaryIO) -> Completed:
        asked.append(text)
        return Completed(b"", b"", next(ends))

    monkeypatch.setattr("xenqemu.boot_pipeline.open_host", open_host)
    monkeypatch.setattr("xenqemu.lab.shell.run_script", script)
    argv = ["--state-dir", str(tmp_path), "lab", "shell", "--xen", "4.20"]
    # Neither is a terminal here, so that what comes on standard input is run.
    first, second = (CliRunner().invoke(cli, argv, input="xl list\n", standalone_mode=False) for _ in range(2))
    assert asked == [("4.20", None), b"xl list\n"] * 2
    assert (first.return_value, second.return_value) == (0, 8)
    assert "ended with exit code 5" in second.stderr


def test_the_prepare_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "base.cpio"
    path.write_bytes(b"x" * 1000)
    base = LabBase("4.17-x", "4.17.5", "4.17", path, path, "6.1", path, tmp_path, {"xen": "4.17.5+72-1"})
    asked = []

    def prepare(xen: str, *_: object, refresh: bool) -> LabBase:
        asked.append((xen, refresh))
        return base

    monkeypatch.setattr("xenqemu.lab.base.prepare", prepare)
    argv = ["--state-dir", str(tmp_path), "lab", "prepare"]
    told = CliRunner().invoke(cli, [*argv, "--xen", "distro:4.17", "--refresh"])
    assert "xen: 4.17.5\n" in told.stdout
    assert "xen\t4.17.5+72-1\n" in told.stdout
    facts = json.loads(CliRunner().invoke(cli, [*argv, "--json"]).stdout)
    assert facts["base_bytes"] == 1000
    assert asked[0] == ("distro:4.17", True)
    assert asked[1][0] in ("4.17", "4.20")
