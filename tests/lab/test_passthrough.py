"""PCI devices of the virtual host's in its guests."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.integration.conftest import Run
from xenqemu.lab.cases import load_cases


def test_a_guest_drives_a_device_of_the_hosts(xenqemu: Run, device_model: Path) -> None:
    thorough = bool(os.environ.get("XENQEMU_TEST_ALL_CASES"))
    names = [case.name for case in load_cases() if case.host == "passthrough" and (thorough or not case.slow)]
    assert "pci-passthrough" in names
    # Those that shall not start are right when they fail for their reason.
    done = xenqemu("lab", "cases", *names, "--dm", device_model, "--json", exit_code=None)
    guests = {guest["name"]: guest for guest in json.loads(done.stdout)["guests"]}
    assert list(guests) == names
    assert guests["pci-passthrough"]["booted"], guests["pci-passthrough"]["reason"]
    assert done.returncode == 0, done.stderr
