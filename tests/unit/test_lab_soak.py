"""A soak: what is measured in dom0, what counts as a leak, in which order guests come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_host import FakeHost
from xenqemu.cli.main import cli
from xenqemu.errors import LabError
from xenqemu.lab import soak
from xenqemu.lab.model import Completed, HostError
from xenqemu.lab.result import GuestResult
from xenqemu.lab.soak import SoakItem, SoakPlan, SoakReport, compare, measure, read_figures, report
from xenqemu.state_pipeline import SoakRequest
from xenqemu.ui import QuietUi

MIB = 1 << 20
FIGURES = """\
processes:xl
processes:xenstored
descriptors of xenstored=21
dom0 memory available=104857600
Xen free memory=1048576
domains:Domain-0
xenstore nodes:/local/domain/0/name
xenstore nodes:/tool/a=b:c
loop devices:
"""


class View:
    def __init__(self, name: str) -> None:
        self.name = name


class Guest:
    def __init__(self, name: str) -> None:
        self.view = View(name)


class Host(FakeHost):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers["bash"] = Completed(FIGURES.encode(), b"", 0)
        self.written: list[str] = []

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        assert data.startswith(b"#!")
        self.written.append(path)


def test_figures_are_numbers_and_names() -> None:
    figures = read_figures(FIGURES)
    assert figures["processes"] == ["xenstored", "xl"]
    assert figures["descriptors of xenstored"] == 21
    assert figures["xenstore nodes"] == ["/local/domain/0/name", "/tool/a=b:c"]
    assert figures["loop devices"] == []


@given(st.text())
def test_whatever_dom0_says_can_be_read(text: str) -> None:
    assert all(isinstance(value, (int, list)) for value in read_figures(text).values())


def test_the_same_figures_are_no_leak() -> None:
    items = compare(read_figures(FIGURES), read_figures(FIGURES))
    assert [item.name for item in items if item.leaks] == []
    assert {item.name: item.before for item in items}["processes"] == 2


@pytest.mark.parametrize(
    ("line", "name", "new"),
    [
        ("processes:qemu-system-xen", "processes", ("qemu-system-xen",)),
        ("processes:xl", "processes", ("xl",)),
        ("xenstore nodes:/libxl/7", "xenstore nodes", ("/libxl/7",)),
        ("loop devices:/dev/loop0", "loop devices", ("/dev/loop0",)),
        ("files:/run/xen/qmp-libxl-7", "files", ("/run/xen/qmp-libxl-7",)),
    ],
)
def test_what_was_not_there_before_is_named(line: str, name: str, new: tuple[str, ...]) -> None:
    items = compare(read_figures(FIGURES), read_figures(FIGURES + line + "\n"))
    assert [(item.name, item.new) for item in items if item.leaks] == [(name, new)]


def test_one_name_for_another_is_a_leak_and_what_has_gone_is_none() -> None:
    (item,) = compare({"files": ["/a", "/b"]}, {"files": ["/a", "/c"]})
    assert item.leaks
    assert item.new == ("/c",)
    (item,) = compare({"files": ["/a", "/b"]}, {"files": ["/a"]})
    assert not item.leaks


@pytest.mark.parametrize(
    ("name", "before", "after", "leaks"),
    [
        ("descriptors of xenstored", 21, 22, True),
        ("descriptors of xenstored", 21, 20, False),
        ("dom0 memory available", 100 * MIB, 92 * MIB, False),
        ("dom0 memory available", 100 * MIB, 92 * MIB - 1, True),
        ("dom0 memory available", 100 * MIB, 200 * MIB, False),
        ("dom0 slab", 10 * MIB, 19 * MIB, True),
        ("Xen free memory", 900 * MIB, 897 * MIB, True),
        ("Xen free memory", 900 * MIB, 898 * MIB, False),
    ],
)
def test_figures_may_differ_by_so_much(name: str, before: int, after: int, leaks: bool) -> None:
    (item,) = compare({name: before}, {name: after})
    assert item.leaks is leaks


def test_guests_come_in_turn_and_are_measured_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    booted: list[tuple[str, int]] = []
    host = Host(tmp_path)

    def boot(_: object, guest: Guest, wish: Any, logs: Path) -> GuestResult:
        assert logs == tmp_path
        assert wish.expect
        booted.append((guest.view.name, len(wish.steps)))
        return GuestResult(guest.view.name, "", booted=True)

    monkeypatch.setattr(soak, "boot_guest", boot)
    guests: Any = (Guest("plain"), Guest("card"))
    saved: Any = Guest("saved")
    fake: Any = host
    soak.soak(fake, guests, saved, SoakPlan(5, 2), tmp_path, QuietUi())
    assert [name for name, _ in booted[:4]] == ["card", "plain", "card", "saved"]
    assert [name for name, _ in booted[4:]] == ["card", "plain", "plain", "plain", "card", "saved"]
    once, twice = booted[3][1], booted[-1][1]
    assert twice - once == 5
    assert [argv[:2] for argv in host.commands].count(("xl", "destroy")) == len(booted)
    assert len(host.written) == 2

    made = report("4.17.5", Path("/dm"), SoakPlan(5, 2), 12.5, tmp_path)
    assert made.leaks == ()
    assert json.loads((tmp_path / "soak.json").read_bytes())["cycles"] == 5


def test_a_guest_that_does_not_come_up_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "boot_guest", lambda *_: GuestResult("card", "", reason="nothing came"))
    host: Any = Host(tmp_path)
    guests: Any = (Guest("plain"), Guest("card"))
    with pytest.raises(LabError, match="card: nothing came"):
        soak.soak(host, guests, guests[0], SoakPlan(1, 1), tmp_path, QuietUi())


def test_figures_that_cannot_be_taken(tmp_path: Path) -> None:
    host: Any = Host(tmp_path)
    host.answers["bash"] = Completed(b"", b"xl: not found", 127)
    with pytest.raises(HostError, match="xl: not found"):
        measure(host)


def _report(*items: SoakItem) -> SoakReport:
    return SoakReport("4.17.5", "/dm", 3, 1, 60.0, items, Path("/run/1"))


def test_the_table_has_memory_in_mib_and_names_the_first_leaks() -> None:
    columns, rows = _report(
        SoakItem("dom0 slab", 10 * MIB, 10.5 * MIB, 8 * MIB),
        SoakItem("files", 1, 5, 0, ("/a", "/b", "/c", "/d")),
    ).table()
    assert columns == ("item", "before", "after", "worse by", "result")
    assert rows == [
        ("dom0 slab (MiB)", "10", "10.5", "0.5", "ok"),
        ("files", "1", "5", "4", "leaks: /a, /b, /c ..."),
    ]


@pytest.mark.parametrize(
    ("item", "code"), [(SoakItem("files", 1, 2, 0, ("/run/xen/left",)), 8), (SoakItem("files", 1, 1), 0)]
)
def test_the_command_ends_with_8_for_a_leak(
    item: SoakItem, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[SoakRequest] = []

    def run_soak(request: SoakRequest, *_: object) -> SoakReport:
        asked.append(request)
        return _report(item)

    monkeypatch.setattr("xenqemu.state_pipeline.run_soak", run_soak)
    words = ["--state-dir", str(tmp_path), "lab", "soak", "--cycles", "5", "--saves", "1", "--xen", "4.17"]
    done = CliRunner().invoke(cli, [*words, "--json"], standalone_mode=False)
    assert done.return_value == code
    assert asked == [SoakRequest(None, "4.17", 5, 1)]
    assert json.loads(done.stdout)["leaks"] == (["files"] if code else [])
    plain = CliRunner().invoke(cli, words, standalone_mode=False)
    assert "files\t1\t" in plain.stdout
    assert ("leaked: files, 1 before and 2 after: /run/xen/left" in plain.stderr) is bool(code)
