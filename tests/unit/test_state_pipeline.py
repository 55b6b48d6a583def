"""The way to a soak and to a table of restores: guests made and staged, and a host with room for a saved one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.unit.fake_host import FakeHost
from xenqemu.lab.cases import find_case
from xenqemu.lab.model import HostOptions, LabBase
from xenqemu.lab.restores import Restored
from xenqemu.lab.soak import SoakPlan
from xenqemu.state import StateDir
from xenqemu.state_pipeline import SoakRequest, run_restores, run_soak
from xenqemu.ui import QuietUi


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state").create()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A device model that the lab takes as it is: a script."""
    path = tmp_path / "qemu-system-xen"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[HostOptions]:
    """The options of the hosts that were started; none is, and the base is a folder with what the guests need."""
    options: list[HostOptions] = []
    guest = tmp_path / "guest"
    (guest / "modules").mkdir(parents=True)
    names = sorted({name for case in ("migrate", "migrate-pv") for name in find_case(case).guest["modules"]})
    (guest / "modules/modules.dep").write_text("".join(f"{name}:\n" for name in names))
    (guest / "busybox").write_bytes(b"\x7fELF")
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"\x7fELF" + bytes(2048))
    base = LabBase("key", "4.17.7", "4.17", kernel, kernel, "6.1.0", kernel, guest, MappingProxyType({}))

    @contextmanager
    def start(_: object, __: object, ___: object, given: HostOptions, *____: object) -> Iterator[FakeHost]:
        options.append(given)
        yield FakeHost(tmp_path)

    monkeypatch.setattr("xenqemu.lab.host.start_host", start)
    monkeypatch.setattr("xenqemu.lab.base.prepare", lambda *_: base)
    monkeypatch.setattr("xenqemu.lab.emulator.find_emulator", str)
    monkeypatch.setattr("xenqemu.lab.run.default_series", lambda: "4.17")
    return options


def test_a_soak_has_three_guests_and_room_for_one_that_is_saved(
    started: list[HostOptions], state: StateDir, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests: list[tuple[str, int]] = []

    def soak(_: object, pair: Any, saved: Any, plan: SoakPlan, folder: Path, __: object) -> None:
        assert plan == SoakPlan(7, 3)
        guests.extend((guest.view.name, len(guest.view.bridges)) for guest in (*pair, saved))
        for name in ("before.json", "after.json"):
            (folder / name).write_text('{"files": ["/a"]}')

    monkeypatch.setattr("xenqemu.lab.soak.soak", soak)
    report = run_soak(SoakRequest(model, None, 7, 3), state, QuietUi())
    assert guests == [("soak", 0), ("soak-card", 1), ("soak-saved", 0)]
    assert report.leaks == ()
    assert (report.xen, report.device_model) == ("4.17.7", str(model))
    assert json.loads((report.run / "soak.json").read_bytes())["cycles"] == 7
    assert started[0].dom0_memory_mib >= HostOptions().dom0_memory_mib + 128


def test_a_guest_is_staged_for_each_device_model_with_one_disk(
    started: list[HostOptions], state: StateDir, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_bytes(model.read_bytes())
    other.chmod(0o755)
    told: list[Restored] = []

    def restores(_: object, xen: str, guests: Any, savers: Any, files: Any, *rest: Any) -> None:
        assert list(guests) == ["old", "new"]
        assert savers == ["old"]
        assert "address" in files
        configs = [next(file for file in guest.files if file.path == guest.path) for guest in guests.values()]
        assert len({guest.path for guest in guests.values()}) == 2
        assert {guest.view.name for guest in guests.values()} == {"restored"}
        assert all(str(path).encode() in config.content for path, config in zip((model, other), configs, strict=True))
        assert len({disk.disk.path for guest in guests.values() for disk in guest.disks}) == 1
        rest[-1](Restored(xen, "old", "new", 1.0))

    monkeypatch.setattr("xenqemu.lab.restores.try_restores", restores)
    run_restores({"old": model, "new": other}, ["old"], "4.17", state, QuietUi(), told.append)
    assert told == [Restored("4.17.7", "old", "new", 1.0)]
    assert len(started) == 1
