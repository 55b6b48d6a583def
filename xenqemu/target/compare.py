"""What one profile has and another has not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.version import Version

from xenqemu.target.profile import Profile


@dataclass(frozen=True)
class Difference:
    """One thing in which two profiles differ: its kind (`device`, `feature`, `option`), its name, and what each says.

    Of a device each says `yes` or nothing, of a feature `enable`, `disable`, `optional` or nothing, of an option its
    value; `xl` is what in an xl.cfg asks for the device.
    """

    kind: str
    name: str
    one: str
    other: str
    xl: str = ""


def compare(one: Profile, other: Profile, version: Version) -> tuple[Difference, ...]:
    """Return how two profiles differ for a QEMU of `version`: devices first, each kind in order of name."""
    return (
        *_differences("device", _types(one, version), _types(other, version), _asked_for(one, other, version)),
        *_differences("feature", _features(one, version), _features(other, version)),
        *_differences("option", _options(one, version), _options(other, version)),
    )


def _differences(
    kind: str, one: Mapping[str, str], other: Mapping[str, str], xl: Mapping[str, str] | None = None
) -> Iterator[Difference]:
    for name in sorted({**one, **other}):
        values = one.get(name, ""), other.get(name, "")
        if values[0] != values[1]:
            yield Difference(kind, name, *values, (xl or {}).get(name, ""))


def _types(profile: Profile, version: Version) -> dict[str, str]:
    # A type that hangs on a feature has its state, as it may not be found.
    features = profile.features_for(version)
    return {
        name: features[device.feature].value if device.feature in features else "yes"
        for device in profile.devices_for(version)
        for name in device.types
    }


def _asked_for(one: Profile, other: Profile, version: Version) -> dict[str, str]:
    devices = (*one.devices_for(version), *other.devices_for(version))
    return {name: device.xl for device in devices for name in device.types}


def _features(profile: Profile, version: Version) -> dict[str, str]:
    return {name: state.value for name, state in profile.features_for(version).items()}


def _options(profile: Profile, version: Version) -> dict[str, str]:
    parts = (flag.partition("=") for flag in profile.options_for(version))
    return {name: value or "yes" for name, _, value in parts}
