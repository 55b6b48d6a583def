"""`vm use` and `vm revert`, from arguments to what is printed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.vmconfigs import HVM, PV, artifact, config, program
from xenqemu.cli.main import cli
from xenqemu.state import StateDir


def test_a_dry_run_leaves_no_state_behind(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state-of-nobody")
    assert _run(state, "use", config(tmp_path), "--dm", program(tmp_path / "qemu"), "--dry-run").return_value == 0
    assert not state.root.exists()


def test_an_empty_path_is_not_the_current_folder(state: StateDir, tmp_path: Path) -> None:
    for words in (["use", "--all-hvm", ""], ["use", ""], ["list", ""], ["lint", ""], ["revert", ""]):
        done = _run(state, *words, *(["--dm", program(tmp_path / "qemu")] if words[0] == "use" else []))
        assert "the path is empty" in str(done.exception)


def test_a_config_that_may_not_be_read_is_one_of_many(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, secret = config(tmp_path), config(tmp_path, name="secret.cfg")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != secret or mode != os.R_OK)
    files = json.loads(_run(state, "use", secret, good, "--dm", program(tmp_path / "qemu"), "--json").stdout)["files"]
    assert [entry["path"] for entry in files] == [str(secret), str(good)]


def _run(state: StateDir, *arguments: object) -> Result:
    words = ["--state-dir", str(state.root), "vm", *(str(word) for word in arguments)]
    return CliRunner().invoke(cli, words, standalone_mode=False)


def test_the_commands(state: StateDir, tmp_path: Path) -> None:
    path, dm = config(tmp_path), program(tmp_path / "qemu")
    bad = config(tmp_path, b"nonsense", "bad.cfg")
    done = _run(state, "use", path, "--dm", dm, "--dry-run")
    assert done.return_value == 0
    assert f'+device_model_override = "{dm}"\n' in done.stdout
    done = _run(state, "use", path, bad, "--dm", dm, "--json")
    assert done.return_value == 7
    facts = json.loads(done.stdout)
    assert facts["device_model"]["path"] == str(dm)
    assert [(entry["path"], entry["action"]) for entry in facts["files"]] == [
        (str(path), "changed"),
        (str(bad), "refused"),
    ]
    assert facts["files"][0]["changes"][0]["name"] == "device_model_override"
    done = _run(state, "use", path, bad, "--dm", dm)
    assert done.return_value == 7
    assert f"{path}: unchanged" in done.output
    assert "bad.cfg:1" in done.output
    other = config(tmp_path, name="other.cfg")
    done = _run(state, "use", other, bad, "--dm", dm, "--atomic")
    assert f"{other}: not written: another config failed" in done.stderr
    assert _run(state, "revert", "--list").output == f"{path}\n"
    assert json.loads(_run(state, "revert", "--list", "--json").output)["originals"][0]["path"] == str(path)
    assert _run(state, "revert", path).output == f"{path}: reverted\n"
    assert path.read_bytes() == HVM
    assert _run(state, "revert", path).return_value == 7
    assert json.loads(_run(state, "revert", "--prune", "--json").output) == {"forgotten": [], "dry_run": False}


@pytest.mark.parametrize(
    "words",
    [
        ["use"],
        ["use", "a", "--dm", "b", "--artifact", "c"],
        ["revert"],
        ["revert", "a", "--list"],
        ["revert", "--list", "--dry-run"],
        ["revert", "--prune", "--force"],
    ],
)
def test_wrong_usage(state: StateDir, words: list[str]) -> None:
    assert type(_run(state, *words).exception).__name__ == "UsageError"


def test_the_artifact_is_said(state: StateDir, tmp_path: Path) -> None:
    artifact(state, "abcd" * 16)
    done = _run(state, "use", config(tmp_path), config(tmp_path, PV, "pv.cfg"), "--artifact", "abcdabcd")
    assert "(--artifact)" in done.output
    assert "cache prune" in done.output
    assert "pv.cfg: left alone: a PV guest" in done.output


def test_a_dry_run_of_prune_says_so(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path)
    _run(state, "use", path, "--dm", program(tmp_path / "qemu"))
    path.unlink()
    for _ in range(2):
        assert _run(state, "revert", "--prune", "--dry-run").output == f"{path}\n"
    facts = json.loads(_run(state, "revert", "--prune", "--dry-run", "--json").output)
    assert facts == {"forgotten": [{"path": str(path)}], "dry_run": True}
