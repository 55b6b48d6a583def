"""The build recipe: what `recipe.toml` says, typed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from packaging.version import Version


@dataclass(frozen=True)
class ToolArguments:
    """How configure is told about Python, meson and ninja, for QEMU versions from `since` and below `before`."""

    since: Version | None
    before: Version | None
    arguments: tuple[str, ...]

    def fits(self, version: Version) -> bool:
        """Whether these are the arguments for QEMU `version`; a release candidate is taken for its release."""
        release = Version(version.base_version)
        return (self.since is None or release >= self.since) and (self.before is None or release < self.before)


@dataclass(frozen=True)
class DataFolder:
    """Files that the program opens at run time.

    `built` tells the build directory from the source tree, `source` is the folder there, `files` a pattern of names
    and `exclude` names of that folder, `target` the folder in QEMU's data directory.
    """

    built: bool
    source: str
    files: str
    exclude: frozenset[str]
    target: str


@dataclass(frozen=True)
class ProbedFlags:
    """One way to get one feature of a program (hardening, small size): flags that not every toolchain takes.

    `undone_by` are words of LDFLAGS that take the feature away again; `runs` asks that what is linked so also runs.
    """

    feature: str
    compile: tuple[str, ...]
    link: tuple[str, ...]
    configure: tuple[str, ...]
    undone_by: tuple[str, ...] = ()
    runs: bool = False

    def as_list(self) -> list[object]:
        """Return what decides on a build, as JSON has it."""
        return [self.feature, list(self.compile), list(self.link), list(self.configure)]


@dataclass(frozen=True)
class Library:
    """A library as pkg-config knows it, the configure feature that uses it (None: always) and its Debian package.

    With a `header`, QEMU looks for that and for `-llibrary` (empty: the header is all) and does not ask pkg-config.
    `always` is for one that is used unless its feature is disabled, whatever becomes of the "auto" ones.
    """

    module: str
    feature: str | None
    package: str
    header: str = ""
    library: str = ""
    always: bool = False


@dataclass(frozen=True)
class Environment:
    """Which variables reach the build as part of the key, and which with fixed values."""

    honoured: tuple[str, ...]
    fixed: Mapping[str, str]


@dataclass(frozen=True)
class RemoteScheme:
    """A kind of remote storage: the pattern of what a launcher that has it says, the variables that make it use it."""

    feature: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Remote:
    """What a launcher has of remote storage: how it is asked, from which version on, and the kinds by URL scheme."""

    about: tuple[str, ...]
    since: Version
    schemes: Mapping[str, RemoteScheme]


@dataclass(frozen=True)
class Launcher:
    """A program that may stand before a compiler without a say in what it makes; see recipe.toml."""

    name: str
    package: str
    cache: bool
    engine: bool
    precompiled: bool
    prefix: str
    log: str
    lost: str
    local: Mapping[str, str]
    environment: Mapping[str, str]
    remote: Remote | None


@dataclass(frozen=True)
class Recipe:
    """The whole of `recipe.toml`."""

    revision: int
    pkgversion: str
    ninja_target: str
    precompiled: str
    precompiled_needs: tuple[str, ...]
    arguments: tuple[str, ...]
    tools: tuple[ToolArguments, ...]
    data: tuple[DataFolder, ...]
    environment: Environment
    launchers: Mapping[str, Launcher]
    hardening: tuple[ProbedFlags, ...]
    size: tuple[ProbedFlags, ...]
    libraries: tuple[Library, ...]
    programs: Mapping[str, str]

    def tool_arguments(self, version: Version) -> tuple[str, ...]:
        """Return the argument templates for the tools of QEMU `version`."""
        return tuple(word for entry in self.tools if entry.fits(version) for word in entry.arguments)

    def package_of(self, name: str) -> str | None:
        """Return the Debian package that brings the library or program which configure calls `name`, if known."""
        for library in self.libraries:
            if name in (library.module, library.library):
                return library.package
        return self.programs.get(name)


def _words(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    words: Sequence[str] = table.get(key, ())
    return tuple(str(word) for word in words)


def _version(table: Mapping[str, Any], key: str) -> Version | None:
    return Version(table[key]) if key in table else None


def _probed(entries: Sequence[Mapping[str, Any]]) -> tuple[ProbedFlags, ...]:
    return tuple(
        ProbedFlags(
            entry["feature"],
            _words(entry, "compile"),
            _words(entry, "link"),
            _words(entry, "configure"),
            _words(entry, "undone_by"),
            entry.get("runs", False),
        )
        for entry in entries
    )


def _launcher(name: str, table: Mapping[str, Any]) -> Launcher:
    remote = table.get("remote")
    return Launcher(
        name=name,
        package=table["package"],
        cache=table.get("cache", False),
        engine=table.get("engine", False),
        precompiled=table.get("precompiled", False),
        prefix=table.get("prefix", ""),
        log=table.get("log", ""),
        lost=table.get("lost", ""),
        local=table.get("local", {}),
        environment=table.get("environment", {}),
        remote=remote
        and Remote(
            _words(remote, "about"),
            Version(remote["since"]),
            {scheme: RemoteScheme(**entry) for scheme, entry in remote["schemes"].items()},
        ),
    )


@cache
def load_recipe() -> Recipe:
    """Read the recipe that is part of the package."""
    table = tomllib.loads((Path(__file__).parent / "recipe.toml").read_text(encoding="utf-8"))
    environment = table["environment"]
    return Recipe(
        revision=int(table["revision"]),
        pkgversion=str(table["pkgversion"]),
        ninja_target=str(table["ninja_target"]),
        precompiled=str(table["precompiled"]),
        precompiled_needs=_words(table, "precompiled_needs"),
        arguments=_words(table, "arguments"),
        tools=tuple(
            ToolArguments(_version(entry, "since"), _version(entry, "before"), _words(entry, "arguments"))
            for entry in table["tools"]
        ),
        data=tuple(
            DataFolder(
                entry["from"] == "build",
                entry["source"],
                entry["files"],
                frozenset(_words(entry, "exclude")),
                entry["target"],
            )
            for entry in table["data"]
        ),
        environment=Environment(
            _words(environment, "honoured"),
            {str(name): str(value) for name, value in environment["fixed"].items()},
        ),
        launchers={name: _launcher(name, entry) for name, entry in table["launchers"].items()},
        hardening=_probed(table["hardening"]),
        size=_probed(table["size"]),
        libraries=tuple(
            Library(
                module,
                entry.get("feature"),
                entry["package"],
                entry.get("header", ""),
                entry.get("library", ""),
                entry.get("always", False),
            )
            for module, entry in table["libraries"].items()
        ),
        programs={str(name): str(package) for name, package in table["programs"].items()},
    )
