"""Real virtual hosts: dom0 answers, and whatever happens to one is told and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Run, shared_state, xenqemu, xenqemu_command
from xenqemu.lab.base import prepare
from xenqemu.lab.host import Host, start_host
from xenqemu.lab.model import DOM0_DISKS, HostDisk, HostError, HostOptions, LabBase, OverlayFile
from xenqemu.lab.recipe import known_series
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi

__all__ = ["shared_state", "xenqemu", "xenqemu_command"]


def emulators_in(folder: Path) -> list[int]:
    """The emulators that run in `folder`, which is that of one run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder and b"qemu-system" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def shell_command(command: Path, state: StateDir) -> list[str]:
    return [str(command), "--state-dir", str(state.root), "lab", "shell"]


def run_for_ever(host: Host) -> None:
    while True:
        host.run(("true",))


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while emulators_in(folder):
        assert time.monotonic() < deadline, "the emulator is still there"
        time.sleep(0.1)


@pytest.fixture(scope="module", params=known_series())
def base(request: pytest.FixtureRequest, shared_state: StateDir) -> LabBase:
    return prepare(request.param, shared_state, PlainUi())


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "a disk, with 1000 bytes"
    path.write_bytes(b"12345" * 200)
    return path


@pytest.fixture
def host(base: LabBase, disk: Path, tmp_path: Path) -> Iterator[Host]:
    overlay = [OverlayFile("/bin/hello", b"#!/bin/sh\necho hello $1\n", 0o755)]
    disks = [HostDisk(disk), HostDisk(disk)]
    with start_host(base, overlay, disks, HostOptions(), tmp_path, PlainUi()) as started:
        yield started


def test_dom0_answers_and_a_panic_is_told(base: LabBase, host: Host, disk: Path, tmp_path: Path) -> None:
    assert host.run(("xl", "list")).stdout.split()[6:8] == [b"Domain-0", b"0"]
    assert re.search(rf"xen_version *: {re.escape(base.series)}\.", host.run(("xl", "info")).stdout.decode())
    assert host.run(("hello", "you")).stdout == b"hello you\n"
    assert host.run(("uname", "-r")).stdout.decode().strip() == base.kernel_release
    assert host.run(("modprobe", "ext4"), timeout=60).code == 0

    assert host.read(f"{DOM0_DISKS}/1", 0, 1024) == disk.read_bytes() + bytes(24)
    host.run(("dd", "if=/dev/zero", f"of={DOM0_DISKS}/1", "bs=512", "count=1", "conv=fsync"))
    assert host.read(f"{DOM0_DISKS}/1", 0, 5) == bytes(5)
    assert disk.read_bytes() == b"12345" * 200  # throw-away writes

    content = os.urandom(300_000)
    host.write("/tmp/file", content)
    assert host.read("/tmp/file", 1000) == content[1000:]
    with host.stream(("cat",)) as stream:
        stream.settimeout(30)
        stream.sendall(b"there and back")
        assert stream.recv(100) == b"there and back"

    # The lock of the real hotplug scripts, and the loop device that `block` makes of a file.
    script = (
        "cd /etc/xen/scripts; . ./locking.sh; claim_lock test; losetup -f --show /tmp/file; release_lock test;"
        "ls /var/run/xen-hotplug"
    )
    done = host.run(("bash", "-c", script), timeout=60)
    assert (done.stdout, done.code) == (b"/dev/loop0\n", 0), done.stderr

    started = time.monotonic()
    host.start(("sh", "-c", "echo c >/proc/sysrq-trigger"))
    with pytest.raises(HostError, match="dom0's kernel panicked: sysrq triggered crash"):
        run_for_ever(host)
    assert time.monotonic() - started < 30
    wait_until_gone(tmp_path)


def test_a_dom0_that_cannot_boot(base: LabBase, tmp_path: Path) -> None:
    options = HostOptions(extra_dom0_arguments=("rdinit=/nothing", "root=/dev/none"), boot_timeout=120)
    with (
        pytest.raises(HostError, match="dom0's kernel panicked"),
        start_host(base, [], [], options, tmp_path, PlainUi()),
    ):
        pass
    wait_until_gone(tmp_path)


def test_an_emulator_that_is_killed(host: Host, tmp_path: Path) -> None:
    (process,) = emulators_in(tmp_path)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(HostError, match="ended by SIGKILL"):
        host.run(("true",))


def test_a_script_in_the_shell(xenqemu_command: Path, shared_state: StateDir) -> None:
    argv = shell_command(xenqemu_command, shared_state)
    done = subprocess.run(argv, input=b"xl list\necho end; exit 3\n", capture_output=True, timeout=300, check=False)
    assert done.returncode == 8, done.stderr
    assert b"Domain-0" in done.stdout
    assert done.stdout.endswith(b"end\n")


def test_a_prompt_on_a_terminal(xenqemu_command: Path, shared_state: StateDir) -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.execv(xenqemu_command, shell_command(xenqemu_command, shared_state))
    said = b""

    def expect(what: bytes, seconds: float) -> None:
        nonlocal said
        deadline = time.monotonic() + seconds
        while what not in said:
            assert time.monotonic() < deadline, said
            if select.select([terminal], [], [], 1)[0]:
                said += os.read(terminal, 10_000)

    expect(b"dom0:~# ", 300)
    os.write(terminal, b"echo $((6 * 7)) $(xl list | wc -l)\r")
    expect(b"\r42 2", 60)
    os.write(terminal, b"exit\r")
    expect(b"logout", 30)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    os.close(terminal)


def test_a_killed_xenqemu_leaves_nothing(xenqemu_command: Path, shared_state: StateDir) -> None:
    argv = shell_command(xenqemu_command, shared_state)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"echo up; sleep 600\n")
        process.stdin.close()
        assert process.stdout.readline() == b"up\n"
        # Each thread has the children that it started itself (proc(5)).
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        (child,) = (pid for task in tasks for pid in (task / "children").read_text().split())
        folder = Path(f"/proc/{int(child)}/cwd").readlink()
        assert emulators_in(folder) == [int(child)]
        process.kill()
    wait_until_gone(folder)


def test_what_the_base_consists_of(xenqemu: Run) -> None:
    xenqemu("lab", "prepare", "--xen", "distro:4.20")
    started = time.monotonic()
    facts = json.loads(xenqemu("lab", "prepare", "--xen", "distro:4.20", "--json").stdout)
    assert time.monotonic() - started < 2
    assert facts["xen"].startswith("4.20.")
    assert facts["packages"]["xen-utils-4.20"]
