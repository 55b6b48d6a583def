"""A host as its users see it, on a fake emulator whose dom0 is this machine."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit import fake_emulator
from tests.unit.read_cpio import read_archive
from xenqemu.errors import LabError, MissingError
from xenqemu.lab.channel import AgentError
from xenqemu.lab.cpio import regular, write_archive
from xenqemu.lab.host import Host, start_host
from xenqemu.lab.model import HostDisk, HostError, HostOptions, LabBase, OverlayFile
from xenqemu.ui import QuietUi


@pytest.fixture
def base(tmp_path: Path) -> LabBase:
    folder = tmp_path / "base, with a comma and blanks"
    folder.mkdir()
    for name in ("xen", "vmlinuz", "vmlinux"):
        (folder / name).write_bytes(name.encode())
    with (folder / "base.cpio").open("wb") as sink:
        write_archive(sink, [regular("etc/base", b"base")])
    return LabBase(
        "k", "4.17.5", "4.17", folder / "xen", folder / "vmlinuz", "6.1", folder / "base.cpio", folder / "guest", {}
    )


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    (tmp_path / "bin").mkdir()
    fake_emulator.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    # The fake dom0 has no busybox of ours.
    monkeypatch.setattr("xenqemu.lab.host._SHELL", ("/bin/sh", "-c"))
    return monkeypatch


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Longer than a socket's path may be."""
    path = tmp_path / ("x" * 120)
    path.mkdir()
    return path


@pytest.fixture
def host(base: LabBase, emulator: pytest.MonkeyPatch, run_dir: Path) -> Iterator[Host]:
    with start_host(base, [], [], HostOptions(), run_dir, QuietUi()) as started:
        yield started


def is_gone(run_dir: Path) -> bool:
    """Whether the emulator ends within the next seconds (a zombie has ended)."""
    pid = (run_dir / "emulator.pid").read_text()
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_programs_in_dom0(host: Host) -> None:
    done = host.run(("sh", "-c", "cat; echo err >&2; exit 3"), stdin=b"in\x00\xff")
    assert (done.stdout, done.stderr, done.code) == (b"in\x00\xff", b"err\n", 3)
    assert host.run(("no such program",)).code == 127
    assert host.run(("sh", "-c", "kill -9 $$")).code == 128 + 9


def test_words_that_are_no_text_reach_a_program_of_dom0(host: Host, tmp_path: Path) -> None:
    words = ["it's \\ \udcff$x", "\n", "", "a\udc80\n\n"]
    done = host.run(("printf", r"%s\0", *words))
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in words)
    path = tmp_path / "\udcff"
    path.write_bytes(b"x")
    assert host.run(("cat", str(path))).stdout == b"x"


def test_a_program_that_takes_too_long_is_killed(host: Host) -> None:
    with pytest.raises(HostError, match=r"`sleep 60` did not end in dom0 within 0 s"):
        host.run(("sleep", "60"), timeout=0.1)
    job = host.start(("sleep", "60"))
    assert job.poll().running
    job.kill()
    assert job.wait(10).code == 128 + 9
    assert job.poll() == job.poll()  # the agent tells it once only


def test_files_in_dom0(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes(range(256)) * 20
    host.write(str(path), content, 0o750)
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o750
    assert host.read(str(path)) == content
    assert host.read(str(path), 4000, 1100) == content[4000:5100]
    assert host.read(str(path), len(content)) == b""
    with pytest.raises(FileNotFoundError, match="No such file"):
        host.read(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        host.write(str(tmp_path / "none" / "file"), b"")
    assert host.uptime() > 0


def test_streams_are_told_apart_and_used_again(host: Host) -> None:
    for _ in range(2):
        streams = [host.stream(("sh", "-c", f"read x; echo {number} $x")) for number in range(4)]
        with pytest.raises(HostError, match="all streams"):
            host.stream(("cat",))
        for number, stream in enumerate(streams):
            stream.sendall(b"hello\n")
            assert stream.recv(100) == f"{number} hello\n".encode()
            assert host.stream_job(stream).wait(10).code == 0
            stream.close()


def test_the_end_of_the_context_ends_the_emulator(base: LabBase, emulator: pytest.MonkeyPatch, run_dir: Path) -> None:
    with pytest.raises(KeyboardInterrupt), start_host(base, [], [], HostOptions(), run_dir, QuietUi()):
        raise KeyboardInterrupt
    assert is_gone(run_dir)
    assert not (run_dir / "initrd").exists()
    assert (run_dir / "console.log").read_text() == "(XEN) all is well\n"


def test_the_overlay_comes_after_the_base(
    base: LabBase, emulator: pytest.MonkeyPatch, run_dir: Path, tmp_path: Path
) -> None:
    emulator.setenv("FAKE_EMULATOR", "die")
    (tmp_path / "script").write_bytes(b"from a file")
    overlay = [
        OverlayFile("/bin/tool", b"old"),
        OverlayFile("/bin/tool", tmp_path / "script", 0o755),
        OverlayFile("/var/run/note", b"n"),
        OverlayFile("/a/link", link="/bin/tool"),
        OverlayFile("/a/b/../../c/d/../e", b"climbs"),
        OverlayFile("/lib/x/../y", b"library"),
        OverlayFile("/lib/../z", b"z"),
    ]
    options = HostOptions(extra_modules=("nbd", "ext4"))
    with pytest.raises(HostError), start_host(base, overlay, [], options, run_dir, QuietUi()):
        pass
    entries = read_archive((run_dir / "initrd").read_bytes())
    assert entries["etc/base"].content == b"base"
    assert (entries["usr/bin/tool"].content, entries["usr/bin/tool"].mode & 0o777) == (b"from a file", 0o755)
    assert "bin" not in entries  # an entry of a folder would replace dom0's link
    assert entries["run/note"].content == b"n"
    assert entries["a/link"].content == b"/bin/tool"
    # As the kernel follows `..`: through folders that are there.
    assert entries["c/e"].content == b"climbs"
    assert {"a/b", "c/d", "usr/lib/x"} <= entries.keys()
    assert entries["usr/lib/y"].content == b"library"
    assert "lib" not in entries
    assert entries["etc/xenqemu/modules"].content == b"nbd\next4\n"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("die", "exit code 1: qemu-system-x86_64: no such machine"),
        ("panic", "switched off or restarted: Xen panicked: out of everything"),
        ("hang", "dom0 was not up within 1 s; the console's last lines:\n(XEN) all is well"),
    ],
)
def test_a_host_that_does_not_come_up(
    how: str, message: str, base: LabBase, emulator: pytest.MonkeyPatch, run_dir: Path
) -> None:
    emulator.setenv("FAKE_EMULATOR", how)
    with (
        pytest.raises(HostError) as caught,
        start_host(base, [], [], HostOptions(boot_timeout=1), run_dir, QuietUi()),
    ):
        pass
    assert message in caught.value.message
    assert is_gone(run_dir)


@pytest.mark.parametrize(
    ("how", "message"), [("stuck", "dom0 has not answered for 1 s"), ("gone", "switched off or restarted")]
)
def test_a_host_that_is_lost(
    how: str, message: str, base: LabBase, emulator: pytest.MonkeyPatch, run_dir: Path
) -> None:
    emulator.setenv("FAKE_EMULATOR", how)
    with start_host(base, [], [], HostOptions(), run_dir, QuietUi()) as host:
        with pytest.raises(HostError, match=message):
            host.ask("guest-ping", timeout=1)
        started = time.monotonic()
        with pytest.raises(HostError):
            host.ask("guest-ping", timeout=1)
        assert time.monotonic() - started < 10


def test_a_killed_emulator_is_told(host: Host, run_dir: Path) -> None:
    os.kill(int((run_dir / "emulator.pid").read_text()), signal.SIGKILL)
    with pytest.raises(HostError, match="ended by SIGKILL"):
        host.run(("true",))
    with pytest.raises(HostError):
        host.stream(("cat",))
    host.close()


def test_a_refusal_of_the_agent_is_no_lost_host(host: Host) -> None:
    with pytest.raises(AgentError, match="guest-file-open: No such file"):
        host.ask("guest-file-open", path="/nowhere/at/all", mode="r")
    assert host.run(("true",)).code == 0


def test_nothing_is_left_of_a_killed_xenqemu(base: LabBase, emulator: pytest.MonkeyPatch, run_dir: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from xenqemu.lab.host import start_host\n"
        "from xenqemu.lab.model import HostOptions, LabBase\n"
        "from xenqemu.ui import QuietUi\n"
        "b, run = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "base = LabBase('k', '4.17.5', '4.17', b / 'xen', b / 'vmlinuz', '6.1', b / 'base.cpio', b, {})\n"
        "with start_host(base, [], [], HostOptions(), run, QuietUi()):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, base.base.parent, run_dir], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
    assert is_gone(run_dir)


def test_what_cannot_be_started(base: LabBase, emulator: pytest.MonkeyPatch, run_dir: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(LabError, match=r"none\.img is not there"),
        start_host(base, [], [HostDisk(tmp_path / "none.img")], HostOptions(), run_dir, QuietUi()),
    ):
        pass

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    emulator.setattr("xenqemu.lab.host.cpio.write_archive", full)
    with (
        pytest.raises(MissingError, match="no space left"),
        start_host(base, [], [], HostOptions(), run_dir, QuietUi()),
    ):
        pass
    assert not (run_dir / "initrd").exists()

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    emulator.setattr("xenqemu.lab.host.cpio.write_archive", refused)
    with (
        pytest.raises(LabError, match="cannot be started"),
        start_host(base, [], [], HostOptions(), run_dir, QuietUi()),
    ):
        pass


def test_a_stream_whose_program_cannot_be_started(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(HostError, match="no stream to dom0"):
        host.stream(("cat",))
