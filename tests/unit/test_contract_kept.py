"""What came of the contract's guests, kept for a device model."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.version import Version

from xenqemu.contract.kept import keep_run, kept_runs
from xenqemu.contract.outcome import CaseOutcome, Outcome, RunReport
from xenqemu.lab.cases import Case
from xenqemu.state import StateDir

DIGEST = sha256(b"a device model").hexdigest()


def outcome(name: str, kind: Outcome = Outcome.WORKS) -> CaseOutcome:
    return CaseOutcome(Case(name, f"tries {name}", "linux", group="some", timeout=60), kind, "a sign")


def report(*outcomes: CaseOutcome) -> RunReport:
    return RunReport("/dm", Version("10.2.2"), "4.20.3", outcomes, 60.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "dm"
    path.write_bytes(b"a device model")
    return path


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state").create()


def test_a_whole_run_takes_the_place_of_the_one_before(model: Path, state: StateDir) -> None:
    assert kept_runs(DIGEST, state) == {}
    keep_run(report(outcome("a"), outcome("b", Outcome.FAILS)), model, state, whole=True)
    kept = kept_runs(DIGEST, state)["4.20.3"]
    assert kept["counts"] == {"works": 1, "fails": 1}
    assert [case["case"] for case in kept["cases"]] == ["a", "b"]
    keep_run(report(outcome("c")), model, state, whole=True)
    assert [case["case"] for case in kept_runs(DIGEST, state)["4.20.3"]["cases"]] == ["c"]


def test_a_run_of_single_cases_is_put_into_it(model: Path, state: StateDir) -> None:
    keep_run(report(outcome("a"), outcome("b", Outcome.FAILS)), model, state, whole=True)
    keep_run(report(outcome("b"), outcome("c")), model, state, whole=False)
    kept = kept_runs(DIGEST, state)["4.20.3"]
    assert kept["counts"] == {"works": 3}
    assert [case["case"] for case in kept["cases"]] == ["a", "b", "c"]


def test_each_xen_and_each_device_model_has_its_own(model: Path, state: StateDir) -> None:
    keep_run(report(outcome("a")), model, state, whole=True)
    keep_run(replace(report(outcome("b")), xen="4.17.5"), model, state, whole=False)
    model.write_bytes(b"another")
    keep_run(report(outcome("c")), model, state, whole=True)
    assert list(kept_runs(DIGEST, state)) == ["4.17.5", "4.20.3"]
    assert kept_runs(DIGEST, state)["4.20.3"]["cases"][0]["case"] == "a"


@pytest.mark.parametrize("facts", [{}, {"runs": []}, {"runs": {"4.20.3": 1}}])
def test_what_is_damaged_is_not_there(model: Path, state: StateDir, facts: dict[str, object]) -> None:
    state.remember("contract", DIGEST, facts)
    assert kept_runs(DIGEST, state) == {}
    keep_run(report(outcome("a")), model, state, whole=False)
    assert kept_runs(DIGEST, state)["4.20.3"]["counts"] == {"works": 1}
