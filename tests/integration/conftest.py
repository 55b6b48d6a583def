"""A state directory that outlives the run, and the real command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.console import environment, execute
from xenqemu.errors import UnservedError
from xenqemu.lab.recipe import known_series
from xenqemu.source.apt import fetch_source
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi
from xenqemu.xen.packaged import fetch_tree

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Execute = Callable[..., str]


@pytest.fixture(scope="session")
def shared_state() -> StateDir:
    """The state directory of all integration tests, kept so that the next run finds its downloads.

    `XENQEMU_TEST_STATE_DIR` names it; the default is the one that the command itself uses.
    """
    default = platformdirs.user_state_path("xenqemu")
    return StateDir(Path(os.environ.get("XENQEMU_TEST_STATE_DIR") or default)).create()


@pytest.fixture(scope="session")
def xenqemu_command() -> Path:
    """The installed `xenqemu` of the environment that runs the tests."""
    command = Path(sys.executable).with_name("xenqemu")
    assert command.is_file(), f"{command} is missing: `scripts/bootstrap --for test` installs it"
    return command


@pytest.fixture(scope="session")
def xenqemu(xenqemu_command: Path, shared_state: StateDir, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the real command on the shared state directory: `xenqemu("build", "--dry-run", exit_code=0)`.

    The function returns the completed process, after checking its exit code (`exit_code=None`: any). The
    user's own settings are kept out: HOME's configuration, the XENQEMU_* variables, the current folder; and the
    compiler cache is one in the shared state directory.
    """
    elsewhere = tmp_path_factory.mktemp("cwd")

    def run(
        *words: str | Path,
        exit_code: int | None = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        state: Path | None = None,
        timeout: float | None = 3600,
    ) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XENQEMU_")}
        environment |= {"XENQEMU_STATE_DIR": str(state or shared_state.root), "XDG_CONFIG_HOME": str(elsewhere)}
        environment |= {"CCACHE_DIR": str(shared_state.root / "ccache")}
        done = subprocess.run(
            [xenqemu_command, *words],
            cwd=cwd or elsewhere,
            env=environment | dict(env or {}),
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=timeout,
            check=False,
        )
        if exit_code is not None:
            assert done.returncode == exit_code, f"exit {done.returncode}: {done.args}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def xen_trees(shared_state: StateDir, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the source tree of a Xen (`4.20`), copied once."""

    @cache
    def unpack(version: str) -> Path:
        kept = fetch_tree(f"distro:{version}", shared_state, PlainUi())
        return shutil.copytree(kept, tmp_path_factory.mktemp("xen") / f"xen-{version}", symlinks=True)

    return unpack


@pytest.fixture(scope="session")
def xen_sources(shared_state: StateDir) -> Mapping[str, Path]:
    """The tarball of each Xen (`4.20`) whose source the archive gives, the oldest first.

    An archive may list a source and not give it, for weeks. No machine can do anything about that, so it is a warning;
    any other reason not to have one is a failure, and so is an archive that gives none at all.
    """
    found = {}
    for series in known_series():
        try:
            found[series] = fetch_source("xen", series, shared_state, PlainUi()).path
        except UnservedError as error:
            warnings.warn(f"not tested: {error.message}", stacklevel=1)
    assert found, "the archive gives the source of no Xen"
    return found


@pytest.fixture(scope="session")
def newest_xen(xen_sources: Mapping[str, Path]) -> str:
    """The newest Xen (`4.20`) whose source the archive gives."""
    return list(xen_sources)[-1]


@pytest.fixture(scope="session")
def xen_tree(newest_xen: str, xen_trees: Callable[[str], Path]) -> Path:
    """The source tree of that Xen, copied anew."""
    return xen_trees(newest_xen)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, headless; without a sandbox of its own, which it refuses to root."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: `scripts/bootstrap --for test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield browser
        browser.close()


@pytest.fixture
def page(request: pytest.FixtureRequest, xenqemu_command: Path, shared_state: StateDir, tmp_path: Path) -> Execute:
    """Run what tests/commands.toml has for this test, in a home that has nothing but what the test has put there."""

    def run(state: StateDir = shared_state, **more: Any) -> str:
        return execute(request.node.nodeid, tmp_path, environment(tmp_path, xenqemu_command, state), **more)

    return run


@pytest.fixture
def dist(xenqemu: Run, tmp_path: Path) -> Path:
    xenqemu("build", "--out", tmp_path / "dist")
    return tmp_path / "dist"
