"""PCI devices of the virtual host's in its guests."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from tests.integration.conftest import Run
from xenqemu.lab.cases import find_case


def test_a_guest_drives_a_device_and_gets_none_that_is_not_free(xenqemu: Run, device_model: Path) -> None:
    refused = ("pci-missing", "pci-not-assignable", "pci-taken")
    done = xenqemu("lab", "cases", "pci-passthrough", *refused, "--dm", device_model, "--json", exit_code=None)
    guests: dict[str, Any] = {guest["name"]: guest for guest in json.loads(done.stdout)["guests"]}
    assert guests["pci-passthrough"]["booted"], guests["pci-passthrough"]["reason"]
    for name in refused:
        assert not guests[name]["created"]
        assert re.search(find_case(name).fails, guests[name]["reason"])
        assert guests[name]["cause"]
    assert done.returncode == 0, done.stderr


if os.environ.get("XENQEMU_TEST_ALL_CASES"):

    def test_all_that_passthrough_can_do_works_or_is_a_known_gap(xenqemu: Run, device_model: Path) -> None:
        done = xenqemu("contract", "run", "passthrough", "--dm", device_model, "--json", exit_code=None)
        report: dict[str, Any] = json.loads(done.stdout)
        surprises = {case["case"]: case["detail"] for case in report["cases"] if not case["expected"]}
        assert not surprises, done.stderr
        assert report["counts"]["works"] >= 8
