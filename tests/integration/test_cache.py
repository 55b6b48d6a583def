"""Compiler caches that machines share: a second machine's first build is a warm one, and a dead server stops nobody."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from tests.integration.servers import free_port, http_store, redis, wait_until
from tests.unit.conftest import fake_xen, nobodys_settings, project, qemu  # noqa: F401 (fixtures)
from xenqemu.cli.main import _run as run_cli
from xenqemu.series.catalogue import load_series
from xenqemu.state import StateDir

NEWEST = f"distro:{load_series().supported[-1]}"
PASSWORD = "correct-horse-battery"  # no real one
_SAID = re.compile(r"compiler cache: (\d+) of (\d+) compiles(?:, (\d+) from the remote one)?")


def told(text: str) -> tuple[int, int, int]:
    """Return what a build says of its cache: hits, compiles, hits of the remote one."""
    match = _SAID.search(text)
    assert match, text
    return int(match[1]), int(match[2]), int(match[3] or 0)


def machine(folder: Path, shared: StateDir) -> Path:
    """Return the state directory of another machine, which has the downloads and nothing else."""
    shutil.copytree(shared.downloads, folder / "downloads")
    return folder


def test_a_second_machines_first_build_is_a_warm_one(xenqemu: Run, shared_state: StateDir, tmp_path: Path) -> None:
    xenqemu("build", "--qemu", NEWEST, "--out", tmp_path / "reference")
    with redis(tmp_path, PASSWORD) as (url, _):
        # The first machine fills the server, as well from what it has already (CCACHE_RESHARE).
        first = machine(tmp_path / "first", shared_state)
        argv = ("build", "--qemu", NEWEST, "--launcher", "ccache")
        environment = {"XENQEMU_REMOTE_CACHE": url, "CCACHE_RESHARE": "1"}
        done = xenqemu(*argv, "--out", tmp_path / "one", state=first, env=environment)
        compiles = told(done.stderr)[1]
        assert compiles > 700
        # The second one has an empty cache of its own.
        second = machine(tmp_path / "second", shared_state)
        environment = {"XENQEMU_REMOTE_CACHE": url, "CCACHE_DIR": str(tmp_path / "empty")}
        done = xenqemu("-v", *argv, "--out", tmp_path / "two", "--json", state=second, env=environment)
    hits, total, remote = told(done.stderr)
    assert total == compiles
    assert hits == remote
    assert hits >= 0.99 * total
    for name in ("bin/qemu-system-xen", "manifest.json"):
        content = (tmp_path / "reference" / name).read_bytes()
        assert (tmp_path / "one" / name).read_bytes() == content, name
        assert (tmp_path / "two" / name).read_bytes() == content, name
    assert PASSWORD not in done.stdout + done.stderr
    for folder in (second / "artifacts", tmp_path / "two"):
        found = subprocess.run(["grep", "-rl", PASSWORD, folder], capture_output=True, text=True, check=False)
        assert found.stdout == ""
    # What a warm build still does is configure, generate and link.
    (timings,) = second.glob("artifacts/*/timings.json")
    spent = json.loads(timings.read_text())
    assert spent["compile"]["cpu"] < 60, spent


@pytest.fixture
def argv(qemu: Path, fake_xen: Path) -> list[str]:  # noqa: F811
    """The build of the imitation."""
    return ["build", "--qemu", str(qemu), "--xen", str(fake_xen), "--profile", "tiny.toml"]


def move(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> list[str]:
    """Go to another machine: no cache, no state."""
    monkeypatch.setenv("CCACHE_DIR", str(folder / f"cache-{name}"))
    return ["--state-dir", str(folder / f"state-{name}")]


def test_a_store_behind_http_is_shared(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with http_store() as store:
        words = [*argv, "--launcher", "ccache", "--remote-cache", store.url]
        assert run_cli([*move(monkeypatch, tmp_path, "a"), *words, "--out", "a"]) == 0
        assert told(capsys.readouterr().err) == (0, 3, 0)
        assert store.content
        assert run_cli([*move(monkeypatch, tmp_path, "b"), *words, "--out", "b"]) == 0
        assert told(capsys.readouterr().err) == (3, 3, 3)
        assert "PUT" in store.requests
    assert Path("a/bin/qemu-system-xen").read_bytes() == Path("b/bin/qemu-system-xen").read_bytes()


def test_a_server_that_is_not_there_or_dies_stops_nobody(
    argv: list[str],
    tmp_path: Path,
    project: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    xenqemu_command: Path,
) -> None:
    words = [*argv, "--launcher", "ccache"]
    nowhere = f"redis://127.0.0.1:{free_port()}"
    assert run_cli([*move(monkeypatch, tmp_path, "a"), *words, "--remote-cache", nowhere]) == 0
    assert f"the remote cache {nowhere} does not answer" in capsys.readouterr().err
    hold, there = project / "control/hold-compile", project / "control/at-compile"
    there.unlink()
    hold.touch()
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "CCACHE_DIR": str(tmp_path / "cache-b"), "PYTHONPATH": root}
    with redis(tmp_path, PASSWORD) as (url, server):
        script = (
            "import sys; from pathlib import Path; from xenqemu import resources; from xenqemu.cli.main import _run;"
            f"resources._PACKAGE = Path({str(project / 'xenqemu')!r}); sys.exit(_run(sys.argv[1:]))"
        )
        python = str(xenqemu_command.with_name("python"))
        command = [python, "-c", script, "--state-dir", str(tmp_path / "state-b"), *words]
        command += ["--remote-cache", url, "--out", "b"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until(there.exists, "the compile")
                server.kill()
                server.wait()
            finally:
                hold.unlink()
            started = time.monotonic()
            said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    assert time.monotonic() - started < 60
    assert "the remote cache failed" in said
    assert PASSWORD not in said
    assert Path("dist/bin/qemu-system-xen").read_bytes() == Path("b/bin/qemu-system-xen").read_bytes()


def test_sccache_serves_a_build_and_says_what_it_lacks(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCCACHE_DIR", str(tmp_path / "sccache"))
    monkeypatch.setenv("SCCACHE_SERVER_PORT", str(free_port()))
    words = [*argv, "--launcher", "sccache"]

    def hits() -> int:
        said = subprocess.run(
            ["sccache", "--show-stats", "--stats-format", "json"], capture_output=True, text=True, check=True
        )
        return sum(json.loads(said.stdout)["stats"]["cache_hits"]["counts"].values())

    try:
        assert run_cli([*argv, "--out", "plain"]) == 0
        assert run_cli(["--state-dir", "state-a", *words]) == 0
        assert hits() == 0
        shutil.rmtree("state-a")
        assert run_cli(["--state-dir", "state-a", *words]) == 0
        assert hits() == 3
        plain = Path("plain/bin/qemu-system-xen").read_bytes()
        assert Path("dist/bin/qemu-system-xen").read_bytes() == plain
    finally:
        subprocess.run(["sccache", "--stop-server"], check=False, capture_output=True)
    capsys.readouterr()
    features = subprocess.run(["sccache", "--help"], capture_output=True, text=True, check=True).stdout
    if re.search("Redis: +false", features):  # Debian's
        shutil.rmtree("state-a")
        with redis(tmp_path, PASSWORD) as (url, _):
            assert run_cli(["--state-dir", "state-a", *words, "--remote-cache", url]) == 5
        said = capsys.readouterr().err
        assert "has no redis storage" in said
        assert PASSWORD not in said
