"""Guests saved under one device model and restored under another: what is tried, what is told, the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_host import FakeHost
from xenqemu.errors import LabError
from xenqemu.lab import restores
from xenqemu.lab.model import HostError
from xenqemu.lab.restores import Restored, markdown, try_restores
from xenqemu.lab.result import GuestResult


class View:
    name = "restored"
    serial = ()


class Guest:
    def __init__(self, model: str) -> None:
        self.path = f"/run/{model}.cfg"
        self.view = View()


GUESTS: Any = {"old": Guest("old"), "new": Guest("new")}


class Lab:
    """Stands in for what boots and takes steps; `refuses` are the configs that cannot be restored."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host: Any = FakeHost(tmp_path)
        self.folder = tmp_path
        self.refuses: dict[str, str] = {}
        self.saves = True
        self.told: list[Restored] = []
        monkeypatch.setattr(restores, "boot_guest", self._boot)
        monkeypatch.setattr("xenqemu.lab.steps.take", self._take)

    def _boot(self, _: object, guest: Guest, wish: Any, __: Path) -> GuestResult:
        assert wish.steps[-1].argv[:2] == ("xl", "save")
        return GuestResult(guest.path, "", booted=self.saves, reason="" if self.saves else "step 2: it failed")

    def _take(self, _: object, __: object, steps: Any) -> None:
        assert steps[0].argv[:2] == ("xl", "restore")
        if steps[0].argv[2] in self.refuses:
            raise LabError(self.refuses[steps[0].argv[2]], "")

    def run(self, *savers: str) -> list[tuple[str, str, str]]:
        try_restores(self.host, "4.17.5", GUESTS, savers, {}, self.folder, self.told.append)
        return [(one.saver, one.restorer, one.reason) for one in self.told]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def test_every_pair_is_tried(lab: Lab) -> None:
    assert lab.run("old", "new") == [("old", "old", ""), ("old", "new", ""), ("new", "old", ""), ("new", "new", "")]
    assert [argv for argv in lab.host.commands if argv[0] == "rm"] == [("rm", "-f", "/root/saved")] * 2
    assert [argv[:2] for argv in lab.host.commands].count(("xl", "destroy")) == 6


def test_the_device_model_says_why_it_does_not_restore(lab: Lab) -> None:
    lab.refuses = {"/run/new.cfg": "step 1, in dom0 `xl restore`: it ended with 3"}
    lab.host.files["/var/log/xen/qemu-dm-restored.log"] = (
        b"qemu: warning: deprecated\nqemu: Unknown savevm section 'x'\nqemu: warning: y\n"
    )
    assert lab.run("old") == [("old", "old", ""), ("old", "new", "qemu: Unknown savevm section 'x'")]


def test_without_its_word_the_step_says_why(lab: Lab) -> None:
    lab.refuses = {"/run/new.cfg": "step 3, the guest is to say /alive/: nothing came within 180 s"}
    lab.host.files["/var/log/xen/qemu-dm-restored.log"] = b"qemu: terminating on signal 1 from pid 7 (xl)\n"
    assert lab.run("old")[1][2] == "step 3, the guest is to say /alive/: nothing came within 180 s"


def test_a_guest_that_is_not_saved_is_not_restored(lab: Lab) -> None:
    lab.saves = False
    assert lab.run("old") == [("old", name, "not saved: step 2: it failed") for name in ("old", "new")]


def test_a_host_that_fails_is_not_the_device_models_fault(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise HostError("dom0 has not answered for 60 s")

    monkeypatch.setattr("xenqemu.lab.steps.take", fail)
    with pytest.raises(HostError):
        lab.run("old")
    assert lab.told == []


def test_the_table_has_a_row_for_each_saver_and_numbers_the_reasons() -> None:
    results = [
        Restored("4.17.5", "a", "a", 1.0),
        Restored("4.17.5", "a", "b", 1.0, "no such section"),
        Restored("4.17.5", "b", "b", 1.0, "no such section"),
        Restored("4.20.4", "b", "b", 1.0),
    ]
    assert markdown(results) == (
        "Xen 4.17.5:\n\n| saved under | a | b |\n| --- | --- | --- |\n"
        "| a | yes | no (1) |\n| b | not tried | no (1) |\n\n"
        "1. no such section\n\nXen 4.20.4:\n\n| saved under | b |\n| --- | --- |\n| b | yes |\n"
    )
