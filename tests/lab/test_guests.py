"""The lab's own guests, each really booted; and what is on the screen of one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

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

# Left to `xenqemu lab cases` and XENQEMU_TEST_ALL_CASES=1: what test_matrix.py and test_boot.py see as well, and two
# whose firmware or driver waits for minutes under emulation.
ELSEWHERE = {"boot-sector", "linux-emulated", "no-disk", "damaged-disk", "not-a-kernel", "ahci", "linux-e1000"}


def no_base() -> LabBase:
    raise AssertionError("a boot sector needs no base")


def test_every_guest_boots_or_fails_as_it_should(xenqemu: Run, device_model: Path) -> None:
    thorough = bool(os.environ.get("XENQEMU_TEST_ALL_CASES"))
    assert {case.name for case in load_cases()} >= ELSEWHERE
    cases = [case for case in load_cases() if thorough or case.name not in ELSEWHERE]
    names = [case.name for case in cases]
    done = xenqemu("lab", "cases", *names, "--dm", device_model, "--json", exit_code=None)
    report: dict[str, Any] = json.loads(done.stdout)
    guests = {guest["name"]: guest for guest in report["guests"]}
    assert list(guests) == names
    wrong = {}
    for case in cases:
        guest = guests[case.name]
        if guest["booted"] is not case.boots or not re.search(case.fails, guest["reason"]):
            wrong[case.name] = guest["reason"] or guest["sign"]
    assert not wrong, done.stderr
    assert done.returncode == 0
    said = (Path(report["logs"]) / "linux-pv.serial-port.log").read_text()
    assert re.search(r"xenqemu-guest: pci=\S+ 5853:0001 xen-platform-pci", said)
    assert re.search(r"xenqemu-guest: nic=eth0 vif 00:16:3e:58:51:02", said)


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
