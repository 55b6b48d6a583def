"""Which Kconfig symbols a QEMU tree has, so that an unknown device is named before configure stumbles over it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from packaging.version import Version

from xenqemu.errors import UsageError
from xenqemu.target.profile import Profile, suggestion

_CONFIG = re.compile(r"^config[ \t]+([A-Za-z0-9_]+)", re.MULTILINE)
_SOURCE = re.compile(r"^[ \t]*source[ \t]+(\S+)", re.MULTILINE)


def read_kconfig(tree: Path) -> tuple[str, ...]:
    """Return the texts of all Kconfig files of the QEMU tree at `tree`, following `source` from the top one.

    The rule is that of scripts/minikconf.py: a name is relative to the file that sources it. A file that is not
    there is passed over; configure is the one to complain about it.
    """
    texts: list[str] = []
    waiting = [tree / "Kconfig"]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop(0).resolve()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        text = path.read_text(encoding="utf-8", errors="replace")
        texts.append(text)
        waiting.extend(path.parent / name for name in _SOURCE.findall(text))
    return tuple(texts)


def check_symbols(profile: Profile, version: Version, kconfig: Iterable[str]) -> None:
    """Check the symbols of `profile` for `version` against the Kconfig texts of a tree.

    Raises `UsageError` that names the first symbol which this QEMU does not have, and the closest that it has.
    """
    known = {symbol for text in kconfig for symbol in _CONFIG.findall(text)}
    for device in profile.devices_for(version):
        for symbol in device.kconfig:
            if symbol not in known:
                hint = suggestion(symbol, known) or "Remove the device from the profile, or give it a 'versions' range"
                raise UsageError(f"profile '{profile.name}': QEMU {version} has no device symbol {symbol}", hint)
