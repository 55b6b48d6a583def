from __future__ import annotations

from pathlib import Path

import pytest

from tests import conftest

SKIPPING = """
import pytest

def test_passes():
    pass

@pytest.mark.skip(reason="no such tool")
def test_skipped_by_mark():
    pass

def test_skipped_inside():
    pytest.skip("no such file")

@pytest.mark.xfail(reason="known", strict=True)
def test_known_to_fail():
    raise AssertionError
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(Path(conftest.__file__).read_text())
    return pytester


@pytest.mark.parametrize("value", ["true", "1"])
def test_in_ci_a_skip_fails(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    suite.makepyfile(SKIPPING)
    result = suite.runpytest_inprocess("-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed") == 1
    assert outcomes.get("xfailed") == 1
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 2
    assert "skipped" not in outcomes
    result.stdout.fnmatch_lines(["*nothing may be: Skipped: no such file*"])


def test_in_ci_a_skipped_module_fails(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    suite.makepyfile("import pytest\npytest.skip('not here', allow_module_level=True)")
    result = suite.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*nothing may be: Skipped: not here*"])


def test_elsewhere_a_skip_is_a_skip(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    suite.makepyfile(SKIPPING)
    suite.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1, skipped=2, xfailed=1)
