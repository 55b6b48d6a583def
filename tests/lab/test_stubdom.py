"""A guest's device model in a Linux stub domain."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.integration.conftest import Run


def test_a_guest_has_its_device_model_in_a_domain_of_its_own(xenqemu: Run, device_model: Path) -> None:
    """The case looks for the second domain, and for what runs in dom0."""
    done = xenqemu("lab", "cases", "stubdomain", "--dm", device_model, "--json", exit_code=None)
    (guest,) = json.loads(done.stdout)["guests"]
    assert guest["booted"], (guest["reason"], guest["log"])


if os.environ.get("XENQEMU_TEST_ALL_CASES"):

    def test_all_that_a_stub_domain_can_do_works_or_is_a_known_gap(xenqemu: Run, device_model: Path) -> None:
        done = xenqemu("contract", "run", "stubdom", "--dm", device_model, "--json", exit_code=None)
        report: dict[str, Any] = json.loads(done.stdout)
        surprises = {case["case"]: case["detail"] for case in report["cases"] if not case["expected"]}
        assert not surprises, done.stderr
