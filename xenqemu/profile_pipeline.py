"""What a profile contains and what it costs: the profile, a build of it, and that build's answers, put together."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from xenqemu.errors import UsageError
from xenqemu.state import StateDir
from xenqemu.versions import parse_version

if TYPE_CHECKING:
    from xenqemu.build.cost import ProgramCost
    from xenqemu.target.profile import Profile

_LISTED = re.compile(r'^name "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Contents:
    """What a profile asks of a QEMU of `version`."""

    profile: Profile
    version: Version

    def as_dict(self) -> dict[str, object]:
        """Return the contents as JSON values."""
        profile, version = self.profile, self.version
        return {
            "name": profile.name,
            "description": profile.description,
            "qemu": str(version),
            "devices": [
                {"types": device.types, "kconfig": device.kconfig, "xl": device.xl, "feature": device.feature}
                for device in profile.devices_for(version)
            ],
            "left_out": profile.left_out_for(version),
            "features": {name: state.value for name, state in profile.features_for(version).items()},
            "options": list(profile.options_for(version)),
        }

    def device_rows(self) -> list[tuple[str, str, str]]:
        """Return each device's types, its symbols of Kconfig and what in xl.cfg asks for it."""
        devices = self.profile.devices_for(self.version)
        return [(" ".join(device.types), " ".join(device.kconfig), device.xl) for device in devices]

    def left_out_rows(self) -> list[tuple[str, str]]:
        """Return the types that are left out, those with one reason together."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.profile.left_out_for(self.version).items():
            by_reason.setdefault(reason, []).append(name)
        return [(" ".join(names), reason) for reason, names in by_reason.items()]

    def configure_rows(self) -> list[tuple[str, str]]:
        """Return the features in each state, and the options."""
        features = self.profile.features_for(self.version)
        states = dict.fromkeys(features.values())
        rows = [(state.value, " ".join(name for name, of in features.items() if of is state)) for state in states]
        return [*rows, ("options", " ".join(self.profile.options_for(self.version)))]


@dataclass(frozen=True)
class Cost:
    """What a build of a profile was measured to cost.

    `device_types` are those that `-device help` lists, `qom_types` all that the program registers; each is None where
    the program does not start here. `areas` are the bytes of code and data of each folder of QEMU's source, the largest
    first, for a build that says so.
    """

    binary: Path
    version: Version
    program: ProgramCost
    device_types: int | None
    qom_types: int | None
    areas: Mapping[str, int]

    def as_dict(self) -> dict[str, object]:
        """Return the cost as JSON values."""
        return {
            "binary": str(self.binary),
            "qemu": str(self.version),
            **self.program.as_dict(),
            "device_types": self.device_types,
            "qom_types": self.qom_types,
            "areas": dict(self.areas),
        }

    def rows(self) -> list[tuple[str, object]]:
        """Return what it costs as pairs of a name and a number, without the areas."""
        unknown = "? (does not start here)"
        numbers = {"device types": self.device_types, "QOM types": self.qom_types}
        return [
            ("QEMU", self.version),
            *(
                (name if name == "libraries" else f"{name}, bytes", size)
                for name, size in self.program.as_dict().items()
            ),
            *((name, unknown if number is None else number) for name, number in numbers.items()),
        ]


def contents_of(profile: Profile, version: Version | None) -> Contents:
    """Return what `profile` contains for `version`, None being the newest QEMU that is supported."""
    from xenqemu.series.catalogue import load_series

    return Contents(profile, version or parse_version(load_series().supported[-1]))


def cost_of(profile: Profile, version: Version | None, build: Path | None, state: StateDir) -> Cost | None:
    """Measure a build of `profile` and return what it costs; None when there is none.

    The build is the one that `build` leads to, a folder that `xenqemu build` delivered to or its manifest, else the
    artifact used last of what the profile says now, for the series of QEMU that `version` is of (None: any).
    Raises `UsageError` when `build` is no build of that profile.
    """
    from xenqemu.build import find_artifact, list_artifacts

    if build is not None:
        folder, manifest = _named(build, profile)
        return _measure(folder / str(manifest["program"]), manifest)
    for entry in list_artifacts(state):
        artifact = find_artifact(entry.key, state) if entry.profile == profile.name else None
        if artifact is not None and _is_of(artifact.manifest, profile, version):
            return _measure(artifact.binary, artifact.manifest)
    return None


def _named(build: Path, profile: Profile) -> tuple[Path, Mapping[str, Any]]:
    from xenqemu.build import MANIFEST, load_manifest

    path = build / MANIFEST if build.is_dir() else build
    manifest = load_manifest(path)
    if manifest is None or not isinstance(manifest.get("program"), str) or not _version_of(manifest):
        raise UsageError(f"{build} is no build of xenqemu", f"name a folder with a {MANIFEST}, or that file")
    built = manifest.get("profile", {}).get("name")
    if built != profile.name:
        raise UsageError(
            f"{build} is a build of profile '{built}'", f"`xenqemu profile show {built}` explains that one"
        )
    return path.parent, manifest


def _version_of(manifest: Mapping[str, Any]) -> Version | None:
    qemu = manifest.get("qemu")
    text = qemu.get("version") if isinstance(qemu, dict) else None
    return parse_version(text) if isinstance(text, str) else None


def _is_of(manifest: Mapping[str, Any], profile: Profile, version: Version | None) -> bool:
    from xenqemu.target.tree import profile_digest

    built = _version_of(manifest)
    if built is None or (version is not None and built.release[:2] != version.release[:2]):
        return False
    recorded: object = manifest.get("profile", {}).get("sha256")
    return recorded == profile_digest(profile, built)


def _measure(binary: Path, manifest: Mapping[str, Any]) -> Cost:
    from xenqemu.build import measure_program

    version = _version_of(manifest)
    assert version is not None  # noqa: S101 - both callers have looked
    if not binary.is_file():
        raise UsageError(f"{binary} is gone", "build it again with `xenqemu build`")
    device_types, qom_types = count_types(binary)
    cost = manifest.get("cost")
    areas = cost.get("areas") if isinstance(cost, dict) else None
    # a manifest has its keys in their order
    largest_first = dict(sorted((areas or {}).items(), key=lambda item: (-item[1], item[0])))
    return Cost(binary, version, measure_program(binary), device_types, qom_types, largest_first)


def device_help(binary: Path) -> str | None:
    """Return what the program `binary` says to `-device help`; None when it does not start here."""
    from xenqemu.proc import run
    from xenqemu.sysroot import qemu_words

    done = run((*qemu_words(binary), "-M", "none", "-device", "help"), check=False)
    return done.stdout if done.ok else None


def listed_types(binary: Path) -> tuple[str, ...] | None:
    """Return the device types that `-device help` of the program `binary` lists; None when it does not start here."""
    listing = device_help(binary)
    return None if listing is None else tuple(_LISTED.findall(listing))


def count_types(binary: Path) -> tuple[int | None, int | None]:
    """Return how many device types the program `binary` lists and how many QOM types it registers; None for unknown."""
    from xenqemu.contract.machine import Machine

    listed = listed_types(binary)
    if listed is None:
        return None, None
    argv = ("-M", "none", "-nodefaults", "-no-user-config", "-display", "none")
    # A build without TCG and KVM that is not ours has no accelerator to begin with, where it does not name one.
    for accelerator in ((), ("-accel", "qtest")):
        with tempfile.TemporaryDirectory() as scratch:
            started = Machine(binary, Path(scratch)).run((*argv, *accelerator), [{"execute": "qom-list-types"}])
        types = started.answer(0)
        if isinstance(types, list):
            return len(listed), len(types)
    return len(listed), None
