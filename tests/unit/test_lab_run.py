"""A run: orders planned, a host started with what they need, a report."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import click
import pytest
from click.testing import CliRunner
from packaging.version import Version

from tests.unit.fake_host import SERIAL, FakeHost, FakeJob
from xenqemu.cli.lab import command
from xenqemu.errors import MissingError, UsageError
from xenqemu.lab import boot, run
from xenqemu.lab.boot import Wish
from xenqemu.lab.cases import find_case, load_cases
from xenqemu.lab.device_model import DeviceModel
from xenqemu.lab.model import Completed, HostError, HostOptions, LabBase, OverlayFile
from xenqemu.lab.result import GuestResult, Memory, Report
from xenqemu.lab.run import Order, carry_out, choose_xen, host_options, plan
from xenqemu.lab.runs import run_folder
from xenqemu.lab.staging import StageOptions
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi
from xenqemu.vm.xlcfg import parse

BASE = Mock(LabBase, xen_version="4.17.5", series="4.17")
MakeOrder = Callable[..., Order]


@pytest.fixture
def device_model(tmp_path: Path) -> Path:
    path = tmp_path / "dm"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def order(tmp_path: Path, device_model: Path) -> MakeOrder:
    def make(name: str = "guest", more: str = "", ephemeral: bool = True) -> Order:
        config = parse(f"name='{name}'\ntype='hvm'\nserial='pty'\n{more}\n".encode(), str(tmp_path / f"{name}.cfg"))
        return Order(config, StageOptions(tmp_path, device_model), Wish(1.0, ephemeral=ephemeral))

    return make


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """What `start_host` gives, and in `given` what it was asked for."""
    host = FakeHost(tmp_path)
    host.later = {SERIAL: b"guest login: "}
    host.given = []  # type: ignore[attr-defined]

    @contextmanager
    def start(*given: Any) -> Iterator[FakeHost]:
        host.given.append(given)  # type: ignore[attr-defined]
        yield host

    monkeypatch.setattr(run, "start_host", start)
    monkeypatch.setattr(run, "find_emulator", str)
    monkeypatch.setattr(boot, "_POLL", 0.001)
    monkeypatch.setattr("xenqemu.lab.watched._OPEN_SECONDS", 0.01)
    return host


def boot_all(orders: Sequence[Order], folder: Path) -> Report:
    with carry_out(plan(orders), lambda: BASE, folder, QuietUi()) as booted:
        return booted.report


def test_guests_boot_one_after_another(host: FakeHost, order: MakeOrder, tmp_path: Path) -> None:
    report = boot_all([order("one"), order("two")], tmp_path)
    assert report.ok
    assert [guest.name for guest in report.guests] == ["one", "two"]
    assert (report.xen, report.run) == ("4.17.5", tmp_path)
    kept = json.loads((tmp_path / "result.json").read_text())
    assert kept["booted"] is True
    assert [guest["stem"] for guest in kept["guests"]] == ["one", "two"]
    assert kept["device_models"] == {str(tmp_path / "dm"): sha256(b"#!/bin/sh\n").hexdigest()}
    # The first is destroyed before the second is created; the second goes with the host.
    words = [" ".join(argv) for argv in host.commands]
    create = next(number for number, line in enumerate(words) if line.endswith("two.cfg"))
    assert words.index("xl destroy one") < create
    assert "xl destroy two" not in words


def test_guests_that_are_kept_are_not_destroyed(host: FakeHost, order: MakeOrder, tmp_path: Path) -> None:
    boot_all([order("one", ephemeral=False), order("two", ephemeral=False)], tmp_path)
    assert not any("destroy" in argv for argv in host.commands)


def test_guests_of_one_name(host: FakeHost, order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot_all([order("one"), order("one")], tmp_path)
    assert {path.name for path in tmp_path.glob("one*.xl.log")} == {"one.xl.log", "one-2.xl.log"}
    host.commands.clear()
    start, refused = host.start, Completed(b"", b"Domain with name one already exists.", 3)

    def start_unless_there(argv: Sequence[str], *, stdin: bytes = b"") -> FakeJob:
        there = argv in host.commands and "create" in argv
        return FakeJob(refused) if there else start(argv, stdin=stdin)

    monkeypatch.setattr(host, "start", start_unless_there)
    orders = [order(name, ephemeral=False) for name in ("one", "one", "two")]
    assert [guest.booted for guest in boot_all(orders, tmp_path).guests] == [True, False, True]
    assert not any("destroy" in argv for argv in host.commands)


def test_what_cannot_be_staged_does_not_keep_the_others(host: FakeHost, order: MakeOrder, tmp_path: Path) -> None:
    report = boot_all([order("one", "kernel='/nowhere'"), order("two")], tmp_path)
    assert not report.ok
    assert [guest.booted for guest in report.guests] == [False, True]
    assert report.guests[0].reason == "kernel: /nowhere: No such file or directory"


def test_no_host_is_started_for_nothing(host: FakeHost, order: MakeOrder, tmp_path: Path) -> None:
    report = boot_all([order("one", "kernel='/nowhere'")], tmp_path)
    assert report.host_seconds is None
    assert host.given == []  # type: ignore[attr-defined]
    assert report.guests[0].remedy.startswith("Correct kernel=")


def test_a_host_that_goes_away(host: FakeHost, order: MakeOrder, tmp_path: Path) -> None:
    host.fails_on = "unpause"
    report = boot_all([order("one"), order("two")], tmp_path)
    assert [guest.reason for guest in report.guests] == [
        "the virtual host failed: dom0 has not answered for 60 s",
        "not tried: the virtual host failed: dom0 has not answered for 60 s",
    ]
    assert report.guests[0].cause == "The virtual host itself failed: dom0 has not answered for 60 s."


def test_a_host_that_does_not_come_up(order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def start(*given: Any) -> Iterator[FakeHost]:
        raise HostError("Xen panicked: x")
        yield

    monkeypatch.setattr(run, "start_host", start)
    monkeypatch.setattr(run, "find_emulator", str)
    with pytest.raises(HostError, match="panicked"):
        boot_all([order()], tmp_path)


def test_the_size_of_the_host(order: MakeOrder, tmp_path: Path) -> None:
    staged = [
        one.guest for one in plan([order("a", "memory=1500"), order("b", "memory=600\nmaxmem=2000")]) if one.guest
    ]
    usual = HostOptions()
    alone = host_options(staged[:1], (), together=False)
    assert alone.memory_mib >= usual.dom0_memory_mib + 1500
    assert host_options(staged, (), together=True).memory_mib >= usual.dom0_memory_mib + 3500
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(100 << 20)
    large = host_options(staged, (OverlayFile("/x", big),), together=False)
    assert large.dom0_memory_mib == usual.dom0_memory_mib + 200
    stub = "memory=1500\nvideoram=16\ndevice_model_stubdomain_override=1\nstubdomain_memory="
    sizes = [
        host_options([one.guest for one in plan([order("d", text)]) if one.guest], (), together=False).memory_mib
        for text in (f"{stub}700", f"{stub}900", f"{stub}0", stub.replace("override=1", "override=0") + "900")
    ]
    assert sizes[1] - sizes[0] == 200
    assert sizes[0] - sizes[2] == 700 - 128
    assert sizes[1] - sizes[3] == 900 + 16
    huge = [one.guest for one in plan([order("c", "memory=99999999")]) if one.guest]
    with pytest.raises(MissingError, match="MiB"):
        host_options(huge, (), together=False)


def test_what_the_machine_lacks_is_told_before_a_base_is_made(
    order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Mock()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="qemu-system-x86_64"), carry_out(plan([order()]), base, tmp_path, QuietUi()):
        pass
    base.assert_not_called()


def test_which_xen(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    old, new, unknown = (DeviceModel(tmp_path, xen=xen) for xen in ("4.17", "4.20", "4.11"))
    assert choose_xen(None, [old], QuietUi()) == "4.17"
    assert choose_xen(None, [unknown, new], QuietUi()) == "4.20"
    assert "linked against Xen 4.11" in capsys.readouterr().err
    assert choose_xen("distro:4.20", [new], QuietUi()) == "distro:4.20"
    assert not capsys.readouterr().err
    assert choose_xen("4.20", [old], QuietUi()) == "4.20"
    assert "is linked against Xen 4.17, and is tried under Xen 4.20" in capsys.readouterr().err
    assert choose_xen(None, [], QuietUi()) in ("4.17", "4.20")
    with pytest.raises(UsageError, match=r"no Xen '4\.11'"):
        choose_xen("4.11", [old], QuietUi())


def test_folders_of_runs(state: StateDir) -> None:
    with run_folder(state) as first:
        assert first.name == "1"
        for number in range(2, 14):
            with run_folder(state) as folder:
                assert folder.name == str(number)
        kept = sorted(int(path.name) for path in first.parent.iterdir())
        assert kept == [1, *range(4, 14)]  # the first is still in use
    with run_folder(state):
        pass
    assert not first.exists()
    with (first.parent / "13" / ".running").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


GOOD = GuestResult(
    "g",
    "g.cfg",
    "/dm",
    created=True,
    create_seconds=1.0,
    booted=True,
    sign="a sign",
    boot_seconds=2.0,
    memory=Memory(20_000_000, 1, 1),
)
BAD = replace(GOOD, name="b", booted=False, sign="", reason="no bootable disk", boot_seconds=None, memory=None)


def test_a_report_in_words() -> None:
    report = Report("4.17.5", 7.0, (GOOD, BAD), Path("/logs"))
    assert report.sentence == "booted a guest under Xen 4.17.5: g, 10 s, 20 MB (a sign)"
    assert report.table({})[1] == [
        ("g", "1.0 s", "2.0 s", "20.0 MB", "a sign"),
        ("b", "1.0 s", "-", "-", "no bootable disk"),
    ]
    assert not report.as_wanted({})
    assert report.as_wanted({"b": "bootable"})
    assert not report.as_wanted({"b": "kernel"})
    assert not report.as_wanted({"b": "bootable", "g": "a guest that should not boot"})
    assert report.table({"b": "bootable"})[1][1][-1] == "fails as it should: no bootable disk"


@pytest.fixture
def xenqemu(host: FakeHost, device_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run `xenqemu lab` in `tmp_path`, with the host that a script plays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XENQEMU_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("xenqemu.lab.base.prepare", lambda *given, **more: BASE)

    def call(*words: str) -> Any:
        return CliRunner().invoke(command, words, standalone_mode=False, catch_exceptions=False)

    return call


def test_lab_boot(xenqemu: Callable[..., Any], host: FakeHost, tmp_path: Path, device_model: Path) -> None:
    (tmp_path / "g.cfg").write_text("name='guest'\ntype='hvm'\nserial='pty'\n")
    done = xenqemu("boot", "g.cfg", "--dm", "dm")
    assert done.return_value == 0
    assert done.stdout.startswith("booted a guest under Xen 4.17.5: guest, ")
    assert "next: `xl create`" in done.stderr
    host.files[SERIAL] = b""
    done = xenqemu("boot", "g.cfg", "g.cfg", "--dm", "dm", "--json")
    facts = json.loads(done.stdout)
    assert facts["booted"] is True
    assert facts["guests"][0]["device_model"] == str(device_model)
    (overlay,) = [given[1] for given in host.given[:1]]  # type: ignore[attr-defined]
    assert str(tmp_path / "g.cfg") in {file.path for file in overlay}


def test_lab_boot_of_what_does_not_boot(xenqemu: Callable[..., Any], host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "g.cfg").write_text("name='guest'\ntype='hvm'\nkernel='/nowhere'\n")
    done = xenqemu("boot", "g.cfg", "--dm", "dm")
    assert done.return_value == 8
    assert "kernel: /nowhere: No such file or directory" in done.stdout
    assert "  Correct kernel=" in done.stderr
    assert "logs: " in done.stderr
    assert "next: `xenqemu explain " in done.stderr


def test_lab_boot_refuses_what_cannot_be_before_anything_starts(
    xenqemu: Callable[..., Any], host: FakeHost, tmp_path: Path
) -> None:
    (tmp_path / "g.cfg").write_text("name='guest'\ntype='hvm'\n")
    with pytest.raises(UsageError, match="no regular expression"):
        xenqemu("boot", "g.cfg", "--dm", "dm", "--expect", "(")
    with pytest.raises(UsageError, match="one guest"):
        xenqemu("boot", "g.cfg", "g.cfg", "--dm", "dm", "--screenshot", "x.png")
    with pytest.raises(UsageError, match="no such folder"):
        xenqemu("boot", "g.cfg", "--dm", "dm", "--screenshot", "none/x.png")
    with pytest.raises(UsageError, match="no time"):
        xenqemu("boot", "g.cfg", "--dm", "dm", "--timeout", "nan")
    with pytest.raises(UsageError, match="no time"):
        xenqemu("cases", "boot-sector", "--dm", "dm", "--timeout", "nan")
    with pytest.raises(click.BadParameter, match="empty"):
        xenqemu("boot", "", "--dm", "dm")
    assert host.given == []  # type: ignore[attr-defined]


def test_what_steps_have_measured_is_told(
    xenqemu: Callable[..., Any], host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = {"situation": "idle", "screen": "text 80x25", "tracking": "on", "bytes": 0, "rectangles": 0, "updates": 0}
    figure |= {"frame": 1152000, "asked": 0, "pages": 0, "of": 16, "cpu": 0.01}
    guest = replace(GOOD, figures=(figure,))
    monkeypatch.setattr("xenqemu.lab.run.boot_guest", lambda *given: guest)
    (tmp_path / "g.cfg").write_text("name='guest'\ntype='hvm'\nserial='pty'\n")
    said = xenqemu("boot", "g.cfg", "--dm", "dm").stdout
    assert "\ng:\n" in said
    assert "0.00% of 1,152,000" in said
    assert json.loads(xenqemu("boot", "g.cfg", "--dm", "dm", "--json").stdout)["guests"][0]["figures"] == [figure]


def test_lab_boot_shows_the_console(xenqemu: Callable[..., Any], host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "g.cfg").write_text("name='guest'\ntype='hvm'\nserial='pty'\n")
    assert "guest login: " in xenqemu("boot", "g.cfg", "--dm", "dm", "--show-console").stderr


def test_lab_cases(xenqemu: Callable[..., Any], host: FakeHost) -> None:
    listed = xenqemu("cases", "--list")
    assert "boot-sector\t" in listed.stdout
    names = {case["name"] for case in json.loads(xenqemu("cases", "--list", "--json").stdout)["cases"]}
    assert "boot-sector" in names
    host.later = {SERIAL: b"xenqemu-guest: pci=03.0 1013:00b8 VGA\npci=04.0 10ec:8139 NIC\n"}
    host.later[SERIAL] += b"xenqemu-guest: up xen=4.17 memory=56955 disk=ok pci=7\r\n"
    done = xenqemu("cases", "boot-sector", "boot-sector", "--dm", "dm")
    assert done.return_value == 0
    assert done.stdout.startswith("booted a guest")


def test_a_case_that_shall_fail(xenqemu: Callable[..., Any], host: FakeHost) -> None:
    case = next(case for case in load_cases() if case.fails and "not-a-kernel" in case.name)
    done = xenqemu("cases", case.name, "--dm", "dm")
    assert done.return_value == 0, done.stdout
    assert "fails as it should" in done.stdout


def test_cases_that_need_something_newer_are_left_out(
    xenqemu: Callable[..., Any], host: FakeHost, device_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = find_case("boot-sector")
    device_model.write_text("#!/bin/sh\necho QEMU emulator version 10.2.2\n")
    host.later = {SERIAL: b"up"}
    for newer, left_out in (
        (replace(case, xen=Version("4.99")), "it needs Xen 4.99"),
        (replace(case, qemu=Version("99")), "it needs QEMU 99"),
        (replace(case, expect="up", qemu=Version("10.0")), ""),
    ):
        monkeypatch.setattr("xenqemu.lab.cases.find_cases", lambda names, newer=newer: (newer,))
        host.files[SERIAL] = b""
        done = xenqemu("cases", "boot-sector", "--dm", "dm", "--json", "--xen", "4.17")
        assert [guest["name"] for guest in json.loads(done.stdout)["guests"]] == ([] if left_out else ["boot-sector"])
        assert left_out in done.stderr
