"""`xenqemu matrix`: which combinations, what is shared, and what one that fails does to the others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from xenqemu import boot_pipeline, xen
from xenqemu.boot_pipeline import BootRequest
from xenqemu.build.model import BuildOptions
from xenqemu.cli.main import _run as run_cli
from xenqemu.errors import LabError, UsageError
from xenqemu.lab.cases import Case, find_case
from xenqemu.lab.result import GuestResult, Report
from xenqemu.matrix_pipeline import Cell, MatrixRequest, _xen, parse_shard, run_matrix
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi


def request(out: Path, **more: object) -> MatrixRequest:
    made = MatrixRequest(("7.2", "10.2"), ("4.17", "4.20"), ("hvm",), BuildOptions(), out)
    return replace(made, **more)  # type: ignore[arg-type]


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 12))
def test_shards_are_all_of_it_once_in_order(qemus: int, xens: int, shards: int) -> None:
    whole = request(Path("x"), qemus=[str(n) for n in range(qemus)], xens=[str(n) for n in range(xens)])
    parts = [replace(whole, shard=(number, shards)).cells() for number in range(1, shards + 1)]
    assert [cell for part in parts for cell in part] == list(whole.cells())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "a/b", "1/3/4", "-1/2", "1/0"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="no part of a whole"):
        parse_shard(text)


def test_a_shard() -> None:
    assert parse_shard("2/3") == (2, 3)


@pytest.mark.parametrize(
    ("version", "name", "where"),
    [
        ("4.17", "4.17", "system"),
        ("4.17.5", "4.17", "system"),
        ("4.17.5", "4.17.4", "distro:4.17.4"),
        ("4.17", "4.20", "distro:4.20"),
        (None, "4.17", "distro:4.17"),
        ("4.17", "system", "system"),
        ("4.17", "../xen", "../xen"),
    ],
)
def test_a_xen_by_its_release(version: str | None, name: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xen, "inspect", lambda _: SimpleNamespace(version=version and Version(version)))
    assert _xen(name) == where


def test_folders_are_named_by_what_is_in_them() -> None:
    assert Cell("10.2", "4.20", "hvm").name == "10.2-4.20-hvm"
    assert Cell("../qemu@master", "distro:4.20", "./mine.toml").name == ".._qemu_master-distro_4.20-._mine.toml"


def test_what_is_wrong_is_told_before_anything_is_built(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with pytest.raises(UsageError, match="no profile 'hmv'"):
        run_matrix(request(tmp_path, profiles=("hvm", "hmv")), state, QuietUi())
    with pytest.raises(UsageError, match="named twice"):
        run_matrix(request(tmp_path, xens=("4.17", "4.17")), state, QuietUi())
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="nothing can be put into"):
        run_matrix(request(tmp_path / "file"), state, QuietUi())
    assert not state.root.exists()


class TestCommand:
    @pytest.fixture
    def matrix(self, qemu: Path, fake_xen: Path) -> list[str]:
        return ["matrix", "--qemu", str(qemu), "--xen", f"no-xen,{fake_xen}", "--profile", "tiny.toml"]

    def test_one_that_fails_does_not_stop_the_others(
        self, matrix: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_cli([*matrix, "--json"]) == 5
        captured = capsys.readouterr()
        report = json.loads(captured.out)
        assert not report["ok"]
        bad, good = report["results"]
        assert (bad["ok"], bad["exit_code"], bad["binary"]) == (False, 5, None)
        assert "no Xen at no-xen" in bad["problem"]
        assert "no Xen at no-xen" in captured.err
        assert (good["ok"], good["cached"]) == (True, False)
        assert Path(good["binary"]).stat().st_size == good["size"] > 0
        assert run_cli([*matrix, "--shard", "2/2"]) == 0
        columns, row = capsys.readouterr().out.splitlines()
        assert columns.split("\t")[3] == "device model"
        assert row.split("\t")[3] == "built before"
        assert run_cli(matrix) == 5
        assert capsys.readouterr().out.splitlines()[1].split("\t")[3:] == [
            *("failed", "0 s", "", ""),
            "no Xen at no-xen: not a directory",
        ]

    def test_an_empty_place_in_a_list(self, matrix: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run_cli([*matrix, "--profile", "hvm,,full"]) == 2
        assert "empty place" in capsys.readouterr().err

    def test_guests_are_booted_with_each_result(
        self, matrix: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = []

        @contextmanager
        def boot(cases: Sequence[Case], request: BootRequest, *_: object) -> Iterator[SimpleNamespace]:
            asked.append(([case.name for case in cases], request.device_model))
            if len(asked) > 1:
                raise LabError("the host did not come up", "see its log")
            guests = (
                GuestResult("boot-sector", "a.cfg", booted=True),
                GuestResult("linux-pv", "b.cfg", reason="its kernel stopped"),
            )
            yield SimpleNamespace(report=Report("4.20.3", 1.0, guests, Path("run")))

        monkeypatch.setattr(boot_pipeline, "boot_cases", boot)
        monkeypatch.setattr("time.monotonic", iter(range(1000)).__next__)
        words = [*matrix, "--shard", "2/2", "--boot", "boot-sector,linux-pv"]
        assert run_cli([*words, "--json"]) == 8
        (result,) = json.loads(capsys.readouterr().out)["results"]
        assert result["booted"] == 1
        assert result["failed"] == [{"guest": "linux-pv", "reason": "its kernel stopped"}]
        assert asked == [(["boot-sector", "linux-pv"], Path(result["binary"]))]
        assert run_cli(words) == 8
        assert capsys.readouterr().out.splitlines()[1].split("\t")[6:] == ["0 of 0", "the host did not come up"]

    def test_an_unknown_case(self, matrix: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run_cli([*matrix, "--boot", find_case("boot-sector").name + "s"]) == 2
        assert "boot-sectors" in capsys.readouterr().err
