"""What is known of the lab's own guests beforehand: some have to fail, some show a gap that the table has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from xenqemu.contract.outcome import Outcome, judge
from xenqemu.contract.table import load
from xenqemu.lab.cases import load_cases
from xenqemu.lab.result import GuestResult
from xenqemu.report.model import BAD, GOOD, NOTE
from xenqemu.report.words import items, text


def as_expected(entry: Mapping[str, Any], xen: str, qemu: str) -> tuple[str, str] | None:
    """Return a word and a mark for what came of a guest of the lab's own, `entry` of a run's results.

    None is for one of which nothing else is expected than of any guest: that it boots.
    """
    case = next((case for case in load_cases() if case.name == text(entry, "name")), None)
    if case is None or entry.get("tried") is False:
        return None
    booted = bool(entry.get("booted"))
    if case.fails:
        if booted:
            return "booted, and should not", BAD
        return ("fails as it should", GOOD) if re.search(case.fails, text(entry, "reason")) else None
    try:
        versions = Version(xen), Version(qemu)
    except InvalidVersion:
        return None
    log = tuple(map(str, items(entry, "log")))
    result = GuestResult(case.name, "", booted=booted, reason=text(entry, "reason"), log=log)
    outcome = judge(case, result, load(), *versions).outcome
    return ("known gap", NOTE) if outcome is Outcome.GAP else None
