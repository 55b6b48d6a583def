"""Device profiles: TOML files that say what a device model is made of (docs/profiles.md is the format)."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from xenqemu.errors import UsageError
from xenqemu.resources import data_dir
from xenqemu.versions import release_of

TARGET = "xen-dm-softmmu"

_PROFILE_KEYS = ("name", "description", "extends", "abstract", "configure", "device", "left-out")
_CONFIGURE_KEYS = ("options", "enable", "disable", "optional")
_DEVICE_KEYS = ("kconfig", "types", "xl", "feature", "versions")
_LEFT_OUT_KEYS = ("types", "because")
_FEATURE = re.compile(r"[a-z0-9][a-z0-9-]*")
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_]*")
_NAME_HINTS = {"kconfig": "Kconfig symbols go without CONFIG_", "types": "Write it as `-device help` does"}
# What QEMU itself allows (type_name_is_valid() in qom/object.c); it gets into C.
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class State(Enum):
    """What a profile wants of one of configure's features."""

    ENABLE = "enable"
    DISABLE = "disable"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Feature:
    """A feature of configure (`--enable-NAME`), the state wanted, and the QEMU versions that have it."""

    name: str
    state: State
    versions: SpecifierSet = field(default_factory=SpecifierSet)


@dataclass(frozen=True)
class Option:
    """Another flag of configure, complete with its value, and the QEMU versions that have it."""

    flag: str
    versions: SpecifierSet = field(default_factory=SpecifierSet)


@dataclass(frozen=True)
class Device:
    """Kconfig symbols, the QOM types that they give, and what in xl.cfg makes libxl ask for those types.

    `feature` names the feature of configure that the types hang on, for types without a symbol of their own.
    """

    kconfig: tuple[str, ...]
    types: tuple[str, ...]
    xl: str
    feature: str | None = None
    versions: SpecifierSet = field(default_factory=SpecifierSet)


@dataclass(frozen=True)
class LeftOut:
    """QOM types that come along in the files of devices, which a build is not to have, and the reason."""

    types: tuple[str, ...]
    because: str


@dataclass(frozen=True)
class Profile:
    """A profile with all that it extends, in the order of definition, the base first: a later word counts."""

    name: str
    description: str
    options: tuple[Option, ...]
    features: tuple[Feature, ...]
    devices: tuple[Device, ...]
    left_out: tuple[LeftOut, ...] = ()
    abstract: bool = False

    def options_for(self, version: Version) -> tuple[str, ...]:
        """Return the flags for a QEMU of `version`; of flags that differ in their value only, the last one."""
        fitting = (option.flag for option in self.options if applies(option.versions, version))
        return tuple({flag.partition("=")[0]: flag for flag in fitting}.values())

    def features_for(self, version: Version) -> dict[str, State]:
        """Return the state wanted of each feature that a QEMU of `version` has; the last word on it counts."""
        return {feature.name: feature.state for feature in self.features if applies(feature.versions, version)}

    def devices_for(self, version: Version) -> tuple[Device, ...]:
        """Return the devices that a QEMU of `version` has."""
        return tuple(device for device in self.devices if applies(device.versions, version))

    def types_for(self, version: Version) -> dict[str, str]:
        """Return the device types for a QEMU of `version`, in order, and what asks for each; two reasons are one."""
        found: dict[str, str] = {}
        for device in self.devices_for(version):
            for name in device.types:
                found[name] = f"{found[name]}; {device.xl}" if name in found else device.xl
        return found

    def left_out_for(self, version: Version) -> dict[str, str]:
        """Return the types that a build from a QEMU of `version` is not to have, sorted, and why.

        A type that a device of the profile names is not left out: so a profile can take back what its base left out.
        """
        named = self.types_for(version)
        reasons = {name: entry.because for entry in self.left_out for name in entry.types if name not in named}
        return dict(sorted(reasons.items()))


def applies(versions: SpecifierSet, version: Version) -> bool:
    """Tell whether `version` is within `versions`; a release candidate counts as the release that it leads to."""
    return versions.contains(release_of(version), prereleases=True)


def list_profiles() -> tuple[str, ...]:
    """Return the names of the project's own profiles that can be built, sorted."""
    names = sorted(path.stem for path in _profile_dir().glob("*.toml"))
    return tuple(name for name in names if not load_profile(name, allow_abstract=True).abstract)


def load_profile(name: str, *, allow_abstract: bool = False) -> Profile:
    """Load the project's profile `name`, or the file that `name` is the path of (with a slash or `.toml`).

    A file may extend one of the project's profiles or another file beside it. Raises `UsageError` for a profile
    that does not exist, is malformed, extends itself, or (unless `allow_abstract`) only serves as a base.
    """
    profile = _load(_locate(name, None), ())
    if profile.abstract and not allow_abstract:
        raise UsageError(
            f"profile '{profile.name}' is only a base for other profiles", f"Choose one of: {_choices(list_profiles())}"
        )
    return profile


def _profile_dir() -> Path:
    return data_dir("targets") / TARGET / "profiles"


def _choices(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean ...?" with the names in `known` closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def _locate(name: str, extended_by: Path | None) -> Path:
    if "/" in name or name.endswith(".toml"):
        path = Path(name).expanduser()
        path = path if extended_by is None else extended_by.parent / path
        if not path.is_file():
            raise UsageError(f"there is no profile file {path}", "Give the path of a TOML file (docs/profiles.md)")
        return path
    path = _profile_dir() / f"{name}.toml"
    if not path.is_file():
        names = [entry.stem for entry in _profile_dir().glob("*.toml")]
        hint = f"{suggestion(name, names)} The profiles are: {_choices(names)}; or give the path of a TOML file".strip()
        raise UsageError(f"there is no profile '{name}'", hint)
    return path


def _load(path: Path, seen: tuple[Path, ...]) -> Profile:
    resolved = path.resolve()
    if resolved in seen:
        raise UsageError(f"profile {path} extends itself", "Remove one 'extends' of the circle")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"profile {path} is not TOML: {error}", "Correct the file (docs/profiles.md)") from error
    except OSError as error:
        raise UsageError(f"profile {path} cannot be read: {error.strerror}", "Give a readable file") from error
    reader = _Reader(path)
    reader.keys(data, _PROFILE_KEYS, "the profile")
    extends = reader.text(data, "extends", "the profile", "")
    base = _load(_locate(extends, path), (*seen, resolved)) if extends else None
    return _merge(
        base,
        Profile(
            name=reader.text(data, "name", "the profile"),
            description=reader.text(data, "description", "the profile"),
            options=tuple(reader.options(data)),
            features=tuple(reader.features(data)),
            devices=tuple(reader.devices(data)),
            left_out=tuple(reader.left_out(data)),
            abstract=reader.flag(data, "abstract", "the profile"),
        ),
    )


def _merge(base: Profile | None, profile: Profile) -> Profile:
    """Put `profile` on top of `base`."""
    if base is None:
        return profile
    return Profile(
        name=profile.name,
        description=profile.description,
        options=base.options + profile.options,
        features=base.features + profile.features,
        devices=base.devices + profile.devices,
        left_out=base.left_out + profile.left_out,
        abstract=profile.abstract,
    )


class _Reader:
    """Takes typed values out of a profile's tables; what is wrong is reported with the file and the place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fail(self, where: str, problem: str, hint: str = "") -> UsageError:
        return UsageError(f"profile {self._path}: {where}: {problem}", hint or "docs/profiles.md has the format")

    def keys(self, table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in known:
                raise self.fail(where, f"unknown key '{key}'", suggestion(key, known))

    def text(self, table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
        value = table.get(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.fail(where, f"'{key}' must be a text")
        if "\n" in value:
            raise self.fail(where, f"'{key}' must be a single line")
        return value

    def flag(self, table: Mapping[str, Any], key: str, where: str) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            raise self.fail(where, f"'{key}' must be true or false")
        return value

    def versions(self, table: Mapping[str, Any], where: str) -> SpecifierSet:
        text = self.text(table, "versions", where, "")
        try:
            return SpecifierSet(text)
        except InvalidSpecifier as error:
            raise self.fail(where, f"'{text}' is no version range", 'Write it like ">=8.1,<10"') from error

    def tables(self, value: object, where: str) -> list[Mapping[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fail(where, "must be a list of tables")
        return value

    def names(self, table: Mapping[str, Any], key: str, where: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail(where, f"'{key}' must be a list of texts")
        for item in value:
            if not pattern.fullmatch(item):
                raise self.fail(where, f"'{item}' is no name for '{key}'", _NAME_HINTS[key])
        return tuple(value)

    def _entries(self, data: Mapping[str, Any], key: str) -> list[tuple[str, SpecifierSet]]:
        configure = data.get("configure", {})
        if not isinstance(configure, dict):
            raise self.fail("configure", "must be a table")
        self.keys(configure, _CONFIGURE_KEYS, "configure")
        where = f"configure.{key}"
        entries = configure.get(key, [])
        if not isinstance(entries, list):
            raise self.fail(where, "must be a list")
        result = []
        for entry in entries:
            table = {"name": entry} if isinstance(entry, str) else entry
            if not isinstance(table, dict):
                raise self.fail(where, "each entry is a text or a table with name and versions")
            self.keys(table, ("name", "versions"), where)
            result.append((self.text(table, "name", where), self.versions(table, where)))
        return result

    def options(self, data: Mapping[str, Any]) -> Iterable[Option]:
        for flag, versions in self._entries(data, "options"):
            if not flag.startswith("-"):
                raise self.fail("configure.options", f"'{flag}' is no option", "Options start with a dash")
            yield Option(flag, versions)

    def features(self, data: Mapping[str, Any]) -> Iterable[Feature]:
        seen: set[str] = set()
        for state in State:
            for name, versions in self._entries(data, state.value):
                where = f"configure.{state.value}"
                if not _FEATURE.fullmatch(name):
                    raise self.fail(where, f"'{name}' is no feature", "Write it as configure does, without --enable-")
                if name in seen:
                    raise self.fail(where, f"'{name}' is there twice")
                seen.add(name)
                yield Feature(name, state, versions)

    def devices(self, data: Mapping[str, Any]) -> Iterable[Device]:
        for number, table in enumerate(self.tables(data.get("device", []), "device"), 1):
            where = f"device {number}"
            self.keys(table, _DEVICE_KEYS, where)
            device = Device(
                kconfig=self.names(table, "kconfig", where, _SYMBOL),
                types=self.names(table, "types", where, _TYPE),
                xl=self.text(table, "xl", where),
                feature=self.text(table, "feature", where, "") or None,
                versions=self.versions(table, where),
            )
            if not device.kconfig and not device.types:
                raise self.fail(where, "needs 'kconfig' or 'types'")
            yield device

    def left_out(self, data: Mapping[str, Any]) -> Iterable[LeftOut]:
        for number, table in enumerate(self.tables(data.get("left-out", []), "left-out"), 1):
            where = f"left-out {number}"
            self.keys(table, _LEFT_OUT_KEYS, where)
            entry = LeftOut(self.names(table, "types", where, _TYPE), self.text(table, "because", where))
            if not entry.types:
                raise self.fail(where, "needs 'types'")
            yield entry
