"""Launchers before the compiler: which one is taken, what it is told, and what contradicts itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakeqemu import OPTIONS, fake_input, make_tree
from xenqemu.build import artifact_key, build, identify_compiler
from xenqemu.build.launcher import Statistics, engine_of, launched, launcher_environment, server
from xenqemu.build.model import Compiler, Offload
from xenqemu.cli.main import _run as run_cli
from xenqemu.errors import MissingError, UsageError
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi, QuietUi


def script(path: Path, text: str = "exit 0") -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A search path on which every launcher is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ccache", "sccache", "distcc", "icecc"):
        script(folder / name)
    return str(folder)


HOSTS = {"hosts": "red"}
REMOTE = {"remote_cache": "redis://server"}


@pytest.mark.parametrize(
    ("command", "offload", "expected"),
    [
        ("gcc", {}, "gcc"),
        ("gcc", {"launcher": "none"}, "gcc"),
        ("gcc -m64", {"launcher": "auto"}, "ccache gcc -m64"),
        ("gcc", {"launcher": "sccache"}, "sccache gcc"),
        ("ccache gcc", {}, "ccache gcc"),
        ("ccache gcc", {"launcher": "auto"}, "ccache gcc"),
        ("/opt/ccache gcc", {"launcher": "ccache"}, "/opt/ccache gcc"),
        ("sccache gcc", {"launcher": "auto"}, "sccache gcc"),
        ("distcc gcc", {"launcher": "none"}, "distcc gcc"),
        ("gcc", HOSTS, "distcc gcc"),
        ("gcc", {"engine": "none"}, "gcc"),
        ("gcc", {"engine": "icecc"}, "icecc gcc"),
        ("distcc gcc", HOSTS, "distcc gcc"),
        ("gcc", {"launcher": "ccache", **HOSTS}, "ccache gcc"),
        ("ccache distcc gcc", HOSTS, "ccache distcc gcc"),
        ("gcc", {"launcher": "auto", **REMOTE}, "ccache gcc"),
        ("sccache gcc", REMOTE, "sccache gcc"),
    ],
)
def test_what_stands_before_the_compiler(command: str, offload: dict[str, str], expected: str, path: str) -> None:
    assert " ".join(launched(tuple(command.split()), Offload(**offload), path)) == expected


@pytest.mark.parametrize(
    ("command", "offload", "message"),
    [
        ("gcc", {"launcher": "ccacge"}, "no launcher 'ccacge'"),
        ("gcc", {"launcher": "distcc"}, "no launcher 'distcc'"),
        ("ccache gcc", {"launcher": "none"}, "--launcher none contradicts the compiler command 'ccache gcc'"),
        ("ccache gcc", {"launcher": "sccache"}, "contradicts"),
        ("distcc gcc", {"launcher": "ccache"}, "contradicts"),
        ("gcc", {"launcher": "none", **REMOTE}, "nothing that uses a remote cache in 'gcc'"),
        ("distcc gcc", {"launcher": "auto", **REMOTE}, "nothing that uses a remote cache"),
        ("gcc", {"launcher": "ccache", "remote_cache": "ftp://server"}, "no server of a remote cache"),
        ("gcc", {"launcher": "sccache", **HOSTS}, "sccache hands no compiles to distcc"),
        ("gcc", {"engine": "none", **HOSTS}, "contradict"),
        ("gcc", {"engine": "make"}, "'make' hands no compiles"),
    ],
)
def test_what_contradicts_itself(command: str, offload: dict[str, str], message: str, path: str) -> None:
    with pytest.raises(UsageError, match=message):
        launched(tuple(command.split()), Offload(**offload), path)


@pytest.mark.parametrize(
    ("offload", "package"),
    [
        ({"launcher": "ccache"}, "ccache"),
        ({"launcher": "sccache"}, "sccache"),
        ({"launcher": "auto", **REMOTE}, "ccache"),
        (HOSTS, "distcc"),
        ({"engine": "icecc"}, "icecc"),
    ],
)
def test_what_was_asked_for_and_is_not_there(offload: dict[str, str], package: str, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=f"{package} is not installed") as caught:
        launched(("gcc",), Offload(**offload), str(tmp_path))
    assert caught.value.hint == f"apt install {package}"


def test_automatic_is_plain_where_there_is_none(tmp_path: Path) -> None:
    assert launched(("gcc",), Offload("auto"), str(tmp_path)) == ("gcc",)


def test_the_engine_of_hosts_is_distcc() -> None:
    assert [engine_of(Offload(**given)) for given in ({}, HOSTS, {"engine": "icecc"}, {"engine": "none"})] == [
        *(None, "distcc", "icecc", None)
    ]


def test_the_users_own_settings_of_a_cache_stay() -> None:
    compiler, work = Compiler(("ccache", "gcc"), {}), Path("/state/builds/k")
    told = launcher_environment(compiler, work, {})
    assert told == {
        "CCACHE_BASEDIR": "/state/builds/k",
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_DEPEND": "1",
        "CCACHE_STATSLOG": "/state/builds/k/ccache-stats.log",
    }
    own = {"CCACHE_NODEPEND": "1", "CCACHE_HASHDIR": "1", "CCACHE_BASEDIR": "/", "CCACHE_DIR": "/cache"}
    assert set(launcher_environment(compiler, work, own)) == {"CCACHE_STATSLOG"}
    assert launcher_environment(Compiler(("gcc",), {}), work, {}) == {}


def told(compiler: Compiler, log: Path, lines: str) -> str:
    output = io.StringIO()
    log.write_text("# before.c\ncache_miss\n")
    statistics = Statistics(compiler, {"CCACHE_STATSLOG": str(log)})
    with log.open("a") as file:
        file.write(lines)
    statistics.tell(PlainUi(output))
    return output.getvalue()


def test_what_came_out_of_the_cache_is_told(tmp_path: Path) -> None:
    log, compiler = tmp_path / "log", Compiler(("ccache", "gcc"), {})
    local = "# a.c\ndirect_cache_hit\nlocal_storage_hit\n# b.c\npreprocessed_cache_hit\n# c.c\ncache_miss\n"
    assert told(compiler, log, local) == "compiler cache: 2 of 3 compiles\n"
    remote = "# a.c\ndirect_cache_hit\nremote_storage_hit\n"
    assert told(compiler, log, remote) == "compiler cache: 1 of 1 compiles, 1 from the remote one\n"
    failed = "# a.c\ncache_miss\nremote_storage_error\nremote_storage_timeout\n"
    assert "warning: the remote cache failed 2 times" in told(compiler, log, failed)
    assert told(compiler, log, "") == ""
    assert told(Compiler(("gcc",), {}), log, remote) == ""
    Statistics(compiler, {"CCACHE_STATSLOG": str(tmp_path / "none")}).tell(PlainUi(io.StringIO()))


def test_the_server_of_sccache_is_started_before_and_with_a_remote_storage_it_is_our_own(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    script(tmp_path / "sccache", f'echo "$1 $SCCACHE_SERVER_PORT" >> {calls}')
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    compiler = Compiler(("sccache", "gcc"), {})
    with server(compiler, environment) as same:
        assert same == environment
    assert calls.read_text() == "--start-server \n"
    with server(compiler, {**environment, "SCCACHE_REDIS_ENDPOINT": "redis://x"}) as own:
        port = own["SCCACHE_SERVER_PORT"]
    assert calls.read_text().splitlines()[1:] == [f"--start-server {port}", f"--stop-server {port}"]
    with server(Compiler(("gcc",), {}), environment) as same:
        assert same == environment
    assert len(calls.read_text().splitlines()) == 3


@pytest.mark.parametrize("launcher", ["ccache", "sccache"])
def test_a_cache_changes_neither_key_nor_bytes(
    launcher: str, state: StateDir, quiet_ui: QuietUi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if launcher == "sccache":  # Debian's is not needed to see that
        script(tmp_path / "sccache", 'case $1 in --*) exit 0 ;; esac\nexec "$@"')
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "cache"))
    make_tree(state)
    inputs = fake_input(state)
    plain = build(inputs, OPTIONS, state, quiet_ui)
    options = replace(OPTIONS, offload=Offload(launcher))
    compiler = identify_compiler(options)
    assert compiler.launchers == (launcher,)
    assert artifact_key(inputs, options, compiler) == plain.key
    for name in ("cold", "warm"):
        other = StateDir(tmp_path / name).create()
        make_tree(other)
        made = build(inputs, options, other, quiet_ui)
        assert made.binary.read_bytes() == plain.binary.read_bytes()
        assert made.manifest == plain.manifest


def test_the_command_takes_a_launcher_and_says_what_came_out_of_it(
    qemu: Path, fake_xen: Path, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCACHE_DIR", str(project / "cache"))
    argv = ["build", "--qemu", str(qemu), "--xen", str(fake_xen), "--profile", "tiny.toml", "--launcher", "ccache"]
    assert run_cli(argv) == 0
    assert "compiler cache: 0 of 3 compiles" in capsys.readouterr().err
    assert run_cli(["--state-dir", str(project / "other"), *argv, "--json"]) == 0
    captured = capsys.readouterr()
    assert "compiler cache: 3 of 3 compiles" in captured.err
    assert json.loads(captured.out)["cached"] is False
    assert run_cli(["matrix", "--qemu", str(qemu), "--xen", str(fake_xen), "--launcher", "nonsense"]) == 2
    assert "no launcher 'nonsense'" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(project))
    (project / "gcc").symlink_to("/bin/true")
    assert run_cli(argv) == 5
    assert "apt install ccache" in capsys.readouterr().err


def test_no_password_is_shown(
    qemu: Path, fake_xen: Path, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCACHE_DIR", str(project / "cache"))
    monkeypatch.setenv("XENQEMU_REMOTE_CACHE", "redis://me:hunter2@127.0.0.1:1|connect-timeout=hunter2")
    argv = ["build", "--qemu", str(qemu), "--xen", str(fake_xen), "--profile", "tiny.toml", "--launcher", "ccache"]
    assert run_cli(["-v", *argv, "--json"]) == 0
    said = capsys.readouterr()
    assert "warning: the remote cache redis://127.0.0.1:1 does not answer" in said.err
    assert run_cli([*argv, "--dry-run", "--json"]) == 0
    assert run_cli(["config", "show"]) == 0
    assert run_cli(["config", "show", "--json"]) == 0
    shown = capsys.readouterr()
    assert "redis://127.0.0.1:1" in shown.out
    found = subprocess.run(["grep", "-rl", "hunter2", project], capture_output=True, text=True, check=False)
    assert "hunter2" not in said.out + said.err + shown.out + shown.err
    assert found.stdout == ""
