"""xenqemu from Python, on imitations of a QEMU and a Xen; the page's example runs in the lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import xenqemu
from xenqemu import UsageError, Workspace
from xenqemu.lab.result import Report
from xenqemu.ui import QuietUi


@pytest.fixture
def work(project: Path) -> Workspace:
    return Workspace()


def test_stage_after_stage(work: Workspace, qemu: Path, fake_xen: Path, project: Path) -> None:
    assert work.state_dir == project / "state"
    tree = work.obtain(str(qemu))
    patched = work.patch(tree)
    assert [patch.topic for patch in patched.patches] == ["010-a"]
    target = work.add_target(patched, "tiny.toml")
    assert target.version == tree.version
    assert str(work.locate_xen(str(fake_xen)).version) == "4.20"


def test_a_device_model_and_a_config(work: Workspace, qemu: Path, fake_xen: Path, project: Path) -> None:
    artifact = work.build(str(qemu), str(fake_xen), "tiny.toml", xenqemu.BuildOptions(jobs=1))
    assert subprocess.run([artifact.binary, "x"], check=False).returncode == 0
    assert work.build(str(qemu), str(fake_xen), "tiny.toml") == artifact
    installed = work.install(artifact, project / "here")
    assert installed.read_bytes() == artifact.binary.read_bytes()
    config = project / "my.cfg"
    config.write_text('name = "a"\ntype = "hvm"\n')
    (result,) = work.use(installed, config)
    assert f'device_model_override = "{installed}"' in config.read_text()
    assert result.path == config


def test_errors_are_those_of_the_command_line(work: Workspace) -> None:
    with pytest.raises(UsageError) as caught:
        work.build(profile="hmv")
    assert (caught.value.exit_code, caught.value.message) == (2, "there is no profile 'hmv'")
    assert "hvm" in caught.value.hint


@dataclass(frozen=True)
class _Booted:
    report: Report


def test_boots(work: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    report = Report("4.17.5", 1.0, (), tmp_path)

    @contextmanager
    def boot(what: Any, request: Any, state: Any, ui: Any) -> Iterator[_Booted]:
        seen.append((what, request.device_model, request.xen, request.timeout))
        assert state.root == work.state_dir
        yield _Booted(report)

    monkeypatch.setattr("xenqemu.boot_pipeline.boot_configs", boot)
    monkeypatch.setattr("xenqemu.boot_pipeline.boot_cases", boot)
    config, model = tmp_path / "a.cfg", tmp_path / "dm"
    assert work.boot(config, device_model=model, xen="4.20", timeout=9) is report
    assert work.boot_cases("boot-sector", device_model=model) is report
    assert work.boot_cases() is report
    assert seen[0] == ((config,), model, "4.20", 9)
    assert [case.name for case in seen[1][0]] == ["boot-sector"]
    assert len(seen[2][0]) > 1


def test_names_are_there_and_cost_nothing_before_they_are_used() -> None:
    assert {name for name in xenqemu.__all__ if getattr(xenqemu, name, None) is None} == set()
    assert set(xenqemu.__all__) <= set(dir(xenqemu))
    assert set(xenqemu._HOMES) == set(xenqemu.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Workshop'"):
        _ = xenqemu.Workshop
    code = "import sys, xenqemu; print(sum(name.startswith('xenqemu.') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_a_workspace_is_quiet_unless_told(project: Path) -> None:
    assert isinstance(Workspace().ui, QuietUi)
    assert Workspace(project / "other").state_dir == project / "other"
