"""The lab's own guests, each really booted; and what is on the screen of one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from tests.integration.conftest import Run
from xenqemu.lab.case_files import build_case
from xenqemu.lab.cases import find_case, load_cases
from xenqemu.lab.model import LabBase

# The 16 colours of a VGA card in text mode.
PALETTE = {
    *((0, 0, 0), (0, 0, 168), (0, 168, 0), (0, 168, 168), (168, 0, 0), (168, 0, 168), (168, 87, 0), (168, 168, 168)),
    *((87, 87, 87), (87, 87, 255), (87, 255, 87), (87, 255, 255), (255, 87, 87), (255, 87, 255), (255, 255, 87)),
    (255, 255, 255),
}

# What a device model without a machine serves as well.
WITHOUT_MACHINE = ("pv-qdisk", "pv-consoles", "pvh-qdisk", "pv-screen", "pvh-machine")


def hosts_at_once() -> int:
    """Return how many hosts the processors are for, with as many others beside this test as there are pytest processes.

    With more of them a stub domain or a device model misses the time that libxl gives it.
    """
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def no_base() -> LabBase:
    raise AssertionError("a boot sector needs no base")


def test_what_xl_can_ask_for_works_or_is_a_known_gap(xenqemu: Run, device_model: Path, tmp_path: Path) -> None:
    thorough = bool(os.environ.get("XENQEMU_TEST_ALL_CASES"))
    # Those that need another host are seen in test_passthrough.py.
    cases = [case for case in load_cases() if not case.fails and not case.host]
    names = [case.name for case in cases if thorough or not (case.slow or case.name in WITHOUT_MACHINE)]
    junit = tmp_path / "junit.xml"
    words = ("--dm", device_model, "--jobs", str(hosts_at_once()), "--junit", junit, "--json")
    done = xenqemu("contract", "run", *names, *words, exit_code=None)
    report: dict[str, Any] = json.loads(done.stdout)
    surprises = {case["case"]: (case["detail"], case.get("log")) for case in report["cases"] if not case["expected"]}
    assert not surprises, done.stderr
    assert done.returncode == 0
    # What a run leaves out is what needs a newer Xen or QEMU than this, or what this libxl never passes.
    assert len(report["cases"]) > 0.9 * len(names)
    assert report["counts"]["works"] > 0.8 * len(names)
    assert ElementTree.parse(junit).getroot().get("failures") == "0"


def test_what_has_no_machine_is_served_by_profile_backend(xenqemu: Run, tmp_path: Path) -> None:
    thorough = bool(os.environ.get("XENQEMU_TEST_ALL_CASES"))
    found = map(find_case, WITHOUT_MACHINE)
    names = [case.name for case in found if thorough or not case.slow]
    xenqemu("build", "--profile", "backend", "--out", tmp_path / "dist")
    done = xenqemu("lab", "cases", *names, "--dm", tmp_path / "dist/bin/qemu-system-xen", "--json")
    guests = json.loads(done.stdout)["guests"]
    assert [guest["name"] for guest in guests] == names
    assert all(guest["booted"] for guest in guests)


def test_what_shall_not_boot_says_why(xenqemu: Run, device_model: Path) -> None:
    # The others of this group are seen in test_boot.py.
    names = ["no-boot-signature", "linux-panic"]
    done = xenqemu("lab", "cases", *names, "--dm", device_model, "--json")
    for guest in json.loads(done.stdout)["guests"]:
        assert not guest["booted"]
        assert re.search(find_case(guest["name"]).fails, guest["reason"])


def test_the_screen_shows_what_the_guest_has_drawn(xenqemu: Run, device_model: Path, tmp_path: Path) -> None:
    path = build_case(find_case("boot-sector"), no_base, tmp_path).config
    picture = tmp_path / "screen.png"
    xenqemu("lab", "boot", path, "--dm", device_model, "--expect", "guest: up ", "--screenshot", picture)
    with Image.open(picture) as image:
        assert image.size == (720, 400)
        colours = {colour for _, colour in image.convert("RGB").getcolors(256) or ()}
        assert colours == PALETTE
        assert image.getpixel((700, 4)) == (168, 168, 168)  # the title
        assert image.getpixel((700, 200)) == (0, 0, 168)
