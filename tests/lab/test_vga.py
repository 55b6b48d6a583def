"""What a VNC client is sent of a guest's screen, and whether it sees what the guest has drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.integration.conftest import Run

# Of a whole frame, for one character of two thousand.
_LITTLE = 0.02


def test_a_client_is_sent_what_has_changed_and_nothing_else(xenqemu: Run, device_model: Path) -> None:
    done = xenqemu("lab", "cases", "vga-stdvga", "vga-mode-13h-cirrus", "--dm", device_model, "--json", exit_code=None)
    guests: dict[str, Any] = {guest["name"]: guest for guest in json.loads(done.stdout)["guests"]}
    assert {guest["name"]: guest["reason"] for guest in guests.values() if not guest["booted"]} == {}, done.stderr
    figures = guests["vga-stdvga"]["figures"]
    assert {one["screen"] for one in figures} == {"text 80x25", "640x480x32"}
    for one in figures:
        if one["situation"] == "idle":
            assert one["bytes"] == 0
        elif one["situation"] == "one character" and one["tracking"] != "blind":
            assert 0 < one["bytes"] < _LITTLE * one["frame"]
    # What Xen says is what the device model looks at: the 16 lines of a character are ten pages of 300.
    tracked, untracked = (
        next(one for one in figures if (one["situation"], one["tracking"], one["of"]) == ("one character", how, 300))
        for how in ("on", "off")
    )
    assert 0 < tracked["pages"] < untracked["pages"] / 10


if os.environ.get("XENQEMU_TEST_ALL_CASES"):

    def test_the_screen_is_as_the_memory_whatever_was_done_to_it(xenqemu: Run, device_model: Path) -> None:
        done = xenqemu("contract", "run", "vga", "--dm", device_model, "--json", exit_code=None)
        report: dict[str, Any] = json.loads(done.stdout)
        surprises = {case["case"]: case["detail"] for case in report["cases"] if not case["expected"]}
        assert not surprises, done.stderr
        assert report["counts"]["works"] >= 8
