"""Compiles on other machines: real daemons in network namespaces, one of which is killed under way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from tests.integration.servers import Machine, listens, network, wait_until
from tests.integration.test_cache import NEWEST, machine, told
from tests.unit.conftest import fake_xen, nobodys_settings, project, qemu  # noqa: F401 (fixtures)
from xenqemu.cli.main import _run as run_cli
from xenqemu.state import StateDir

PORT = 3632


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    """Three machines: two with a distccd that compiles as this one does, one with another compiler."""
    folder = tmp_path_factory.mktemp("hosts")
    # The daemon's user has to get there, and pytest's own folders are for one user only.
    other = Path(tempfile.mkdtemp(prefix="xq-compiler-"))
    other.chmod(0o755)
    # distcc asks for the compiler by its full name.
    target = subprocess.run(["gcc", "-dumpmachine"], capture_output=True, text=True, check=True).stdout.strip()
    for name in ("gcc", f"{target}-gcc"):
        (other / name).write_text(f'#!/bin/sh\nexec {shutil.which("gcc")} "$@" -fno-ident\n')
        (other / name).chmod(0o755)
    with network(3) as (here, machines), ExitStack() as stack:
        stack.callback(shutil.rmtree, other)
        for number, host in enumerate(machines):
            path = f"{other}:{os.environ['PATH']}" if number == 2 else os.environ["PATH"]
            argv = ["distccd", "--daemon", "--no-detach", "--log-stderr", "--log-level", "info", "--user", "nobody"]
            argv += ["--allow", f"{here}/32", "--jobs", "2"]
            process = host.start([*argv], folder / f"{host.address}.log", PATH=path, HOME="/", TMPDIR="/tmp")
            stack.callback(process.wait)
            stack.callback(host.kill)
            wait_until(lambda host=host: listens(host.address, PORT), f"distccd on {host.address}")  # type: ignore[misc]
        yield machines


@pytest.fixture
def logs(hosts: list[Machine], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the hosts' logs."""
    return next(path for path in tmp_path_factory.getbasetemp().glob("hosts*") if path.is_dir())


def compiled(logs: Path, host: Machine) -> int:
    """Return how many compiles a host has done."""
    return (logs / f"{host.address}.log").read_text(errors="replace").count("COMPILE_OK")


def test_a_host_that_dies_on_the_way_and_one_with_another_compiler(
    hosts: list[Machine],
    logs: Path,
    xenqemu: Run,
    xenqemu_command: Path,
    shared_state: StateDir,
    tmp_path: Path,
) -> None:
    first, dying, other = hosts
    xenqemu("build", "--qemu", NEWEST, "--out", tmp_path / "reference")
    # A cache of which a part is lost: what is in it need not be compiled again, so that the test stays short. The
    # entries of compiles here serve those elsewhere.
    cache = tmp_path / "ccache"
    kept = shared_state.root / "ccache"
    if kept.exists():
        shutil.copytree(kept, cache, ignore=lambda folder, names: {"0", "1"} if Path(folder) == kept else set())
    state = machine(tmp_path / "state", shared_state)
    listed = ",".join(f"{host.address}/2" for host in hosts)
    command: list[str | Path] = [xenqemu_command, "--state-dir", state, "build", "--qemu", NEWEST]
    command += ["--launcher", "ccache", "--hosts", listed, "--out", tmp_path / "dist"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XENQEMU_")}
    environment |= {"CCACHE_DIR": str(cache), "DISTCC_DIR": str(tmp_path)}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path)}
    done = compiled(logs, dying)
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        # Its first compile is the look at what it makes; a few more, and it is in the middle of its work.
        wait_until(lambda: compiled(logs, dying) > done + 5 or process.poll() is not None, "a compile on another host")
        dying.kill()
        text = process.communicate()[1]
    assert process.returncode == 0, text
    assert f"the host {other.address} has another compiler" in text
    assert f"compiling on {first.address}, {dying.address}, 4 at once" in text
    assert text.count(f"the host {dying.address} fails; what it was to compile is compiled on another, or here") == 1
    assert f"the host {first.address} fails" not in text
    assert compiled(logs, first) > 20
    assert compiled(logs, dying) > done + 5
    hits, total, _ = told(text)
    assert hits < 0.95 * total
    for name in ("bin/qemu-system-xen", "manifest.json"):
        assert (tmp_path / "reference" / name).read_bytes() == (tmp_path / "dist" / name).read_bytes(), name


@pytest.fixture
def argv(qemu: Path, fake_xen: Path) -> list[str]:  # noqa: F811
    """The build of the imitation."""
    return ["build", "--qemu", str(qemu), "--xen", str(fake_xen), "--profile", "tiny.toml"]


def test_distcc_without_a_cache(
    argv: list[str],
    hosts: list[Machine],
    logs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DISTCC_DIR", str(tmp_path))
    assert run_cli([*argv, "--out", "plain"]) == 0
    before = compiled(logs, hosts[0])
    words = [*argv, "--launcher", "none", "--out", "elsewhere"]
    assert run_cli(["--state-dir", "state-a", *words, "--hosts", f"{hosts[0].address}/2"]) == 0
    assert f"compiling on {hosts[0].address}, 2 at once" in capsys.readouterr().err
    assert compiled(logs, hosts[0]) == before + 4  # the first look, and three files
    # the same hosts by distcc's own settings
    monkeypatch.setenv("DISTCC_HOSTS", f"{hosts[0].address}/2")
    assert run_cli(["--state-dir", "state-b", *words[:-1], "again", "--distribute", "distcc"]) == 0
    assert "compiling on distcc's hosts, 2 at once" in capsys.readouterr().err
    assert compiled(logs, hosts[0]) == before + 7
    for name in ("elsewhere", "again"):
        assert Path("plain/bin/qemu-system-xen").read_bytes() == Path(name, "bin/qemu-system-xen").read_bytes()


def test_icecream(
    argv: list[str],
    hosts: list[Machine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_cli([*argv, "--out", "plain"]) == 0
    capsys.readouterr()
    here = "198.51.100.1"
    folder = Path("/tmp") / f"xq-icecream-{os.getpid()}"  # its user has to get there, and a socket's name is short
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    daemon = ["iceccd", "-vv", "-n", "xenqemu-test", "-s", here, "-u", "icecc"]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        scheduler = subprocess.Popen(["icecc-scheduler", "-n", "xenqemu-test", "-l", folder / "scheduler.log"])
        stack.callback(scheduler.wait)
        stack.callback(scheduler.kill)
        wait_until(lambda: listens(here, 8766), "icecream's scheduler")
        remote = hosts[0].start([*daemon, "-m", "2", "-N", "red", "-b", folder / "red"], folder / "red.log")
        stack.callback(remote.wait)
        stack.callback(_end, remote)
        socket_name = str(folder / "socket")
        monkeypatch.setenv("ICECC_TEST_SOCKET", socket_name)
        local = subprocess.Popen([*daemon, "-m", "1", "--no-remote", "-N", "here", "-b", folder / "here"])
        stack.callback(local.wait)
        stack.callback(_end, local)
        wait_until(lambda: _nodes(here) == {"red", "here"}, "icecream's hosts")
        # On a machine that has little to do it is the scheduler's choice.
        monkeypatch.setenv("ICECC_PREFERRED_HOST", "red")
        words = [*argv, "--launcher", "none", "--distribute", "icecc", "--hosts", here, "--out", "elsewhere"]
        assert run_cli(["--state-dir", "state-a", *words]) == 0
        said = capsys.readouterr().err
        jobs = (folder / "red.log").read_text(errors="replace")
    assert "compiling on red, 2 at once" in said
    assert jobs.count("Remote compilation completed with exit code 0") == 3
    assert Path("plain/bin/qemu-system-xen").read_bytes() == Path("elsewhere/bin/qemu-system-xen").read_bytes()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)


def _nodes(host: str) -> set[str]:
    with socket.create_connection((host, 8766), timeout=5) as connection:
        connection.sendall(b"listcs\nquit\n")
        said = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return set(re.findall(r"^ (\S+) \(", said, re.MULTILINE))
