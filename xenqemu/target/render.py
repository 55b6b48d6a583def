"""From a profile to the target's files in a QEMU tree, and to the device types that a build must have."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xenqemu.resources import data_dir
from xenqemu.target.profile import TARGET, Profile, State, applies
from xenqemu.templates import text_environment


@dataclass(frozen=True)
class RenderedFile:
    """A file of the target: its place in a QEMU tree (relative, with slashes) and its bytes."""

    path: str
    content: bytes
    executable: bool = False


def render_target(profile: Profile, version: Version) -> tuple[RenderedFile, ...]:
    """Render the target for `profile` and a QEMU of `version`, sorted by path.

    The same arguments always give the same bytes. What goes where is `target.toml`; the places are those that
    QEMU's `configure` (configs/targets/*.mak) and `meson.build` (configs/devices/TARGET/default.mak) look at.
    """
    folder = data_dir("targets") / TARGET
    environment = text_environment(folder / "templates")
    context = {
        "target": TARGET,
        "profile": profile,
        "version": version,
        "devices": profile.devices_for(version),
        "symbols": {symbol for device in profile.devices_for(version) for symbol in device.kconfig},
        "left_out": profile.left_out_for(version),
    }
    files = []
    for entry in _entries(folder):
        if applies(SpecifierSet(entry.get("versions", "")), version):
            text = environment.get_template(entry["template"]).render(context)
            files.append(RenderedFile(entry["path"], text.encode(), entry.get("executable", False)))
    return tuple(sorted(files, key=lambda file: file.path))


def _entries(folder: Path) -> list[dict[str, Any]]:
    data = tomllib.loads((folder / "target.toml").read_text(encoding="utf-8"))
    entries: list[dict[str, Any]] = data["file"]
    return entries


def expected_devices(profile: Profile, version: Version) -> tuple[str, ...]:
    """Return the types that `-device help` must list in a build of `profile` from a QEMU of `version`, sorted.

    Types that hang on an optional library are left out, as they may rightly be missing.
    """
    features = profile.features_for(version)
    types: set[str] = set()
    for device in profile.devices_for(version):
        if device.feature is None or features.get(device.feature) is State.ENABLE:
            types.update(device.types)
    return tuple(sorted(types))
