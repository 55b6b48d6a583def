"""What every test may use, and the rule that nothing is skipped in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from xenqemu.state import StateDir
from xenqemu.ui import QuietUi

pytest_plugins = ["pytester"]

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that: the tests that
# interrupt a run would then wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What the commands under test say in a job of a CI service is for the tests that ask for it, not for the job's page.
for _name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "NO_COLOR"):
    os.environ.pop(_name, None)


def _skips_fail() -> bool:
    return os.environ.get("CI", "").lower() in {"true", "1"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one in CI, where a skip would hide that something is not tested."""
    report = yield
    if report.skipped and _skips_fail() and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped, and in CI nothing may be: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same with a whole module that is skipped while it is collected."""
    report = yield
    if report.skipped and _skips_fail():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: skipped, and in CI nothing may be: {reason}"
    return report


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A new, empty state directory."""
    return StateDir(tmp_path / "state").create()


@pytest.fixture
def quiet_ui() -> QuietUi:
    """A user interface that says nothing but warnings."""
    return QuietUi()
