"""The device types of a program, each with what in xl.cfg asks for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from xenqemu.report.model import Cell, Column, Table

if TYPE_CHECKING:
    from packaging.version import Version

    from xenqemu.target.profile import Profile

_KIND = re.compile(r"^(?P<kind>\S.*) devices:$")
# As qdev_print_devinfo() of QEMU's system/qdev-monitor.c writes it.
_DEVICE = re.compile(
    r'^name "(?P<name>[^"]+)"(?:, bus (?P<bus>[^,]+))?(?:, alias "(?P<alias>[^"]*)")?(?:, desc "(?P<desc>.*)")?'
)


def device_table(listing: str, asked: Mapping[str, str]) -> Table:
    """Return what `-device help` of a program says, `listing`, with what asks for each type, from `asked`."""
    rows: list[tuple[Cell, ...]] = []
    kind = ""
    for line in listing.splitlines():
        if heading := _KIND.match(line):
            kind = heading["kind"]
        elif device := _DEVICE.match(line):
            name, alias = device["name"], device["alias"]
            said = f"{device['desc'] or ''}{f' (also {alias})' if alias else ''}".strip()
            rows.append(tuple(map(Cell, (name, kind, device["bus"] or "", said, asked.get(name, "")))))
    columns = (Column("type", code=True), Column("kind"), Column("bus", code=True), Column("what it is"))
    return Table("devices", "Device types", (*columns, Column("xl.cfg asks for it by", code=True)), tuple(rows))


def profile_table(profile: Profile, version: Version) -> Table:
    """Return the devices of a profile, for a program that cannot be asked on this machine."""
    rows = tuple(
        tuple(map(Cell, (" ".join(device.types), " ".join(device.kconfig), device.xl)))
        for device in profile.devices_for(version)
    )
    columns = (Column("types", code=True), Column("Kconfig", code=True), Column("xl.cfg asks for it by", code=True))
    return Table("devices", f"Devices of profile {profile.name}", columns, rows)


def left_out_table(profile: Profile, version: Version) -> Table:
    """Return the types that QEMU has in the same files, and that the profile leaves out, with the reason."""
    rows = tuple((Cell(name), Cell(reason)) for name, reason in profile.left_out_for(version).items())
    return Table("left-out", "Types that are left out", (Column("type", code=True), Column("because")), rows)


def asked_by(profile: Profile, version: Version) -> dict[str, str]:
    """Return what in xl.cfg asks for each type of the profile."""
    asked: dict[str, list[str]] = {}
    for device in profile.devices_for(version):
        for name in device.types:
            asked.setdefault(name, []).append(device.xl)
    return {name: "; ".join(dict.fromkeys(filter(None, ways))) for name, ways in asked.items()}


def kinds_sentence(devices: Table) -> str:
    """Return how many types of each kind there are in what `device_table` has made."""
    counted = Counter(row[1].text for row in devices.rows)
    return ", ".join(f"{kind} {number}" for kind, number in counted.most_common() if kind)
