"""`lab.toml`: what the virtual Xen host is made of."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from xenqemu.errors import UsageError

_FOLDER = Path(__file__).parent
DOM0_FOLDER = _FOLDER / "dom0"
_PREFIX = "distro:"
_DECIDING = ("lab.toml", "base.py", "bzimage.py", "cpio.py", "kmod.py", "recipe.py", "tree.py")


@dataclass(frozen=True)
class Toolstack:
    """Where dom0's toolstack comes from and goes to: see lab.toml.

    `packages` has the hypervisor's as the first one, or nothing for a Xen tree. `files` are patterns, of paths in
    dom0 without the leading slash; the other paths are absolute.
    """

    packages: tuple[str, ...]
    files: tuple[str, ...]
    links: Mapping[str, str]
    path: tuple[str, ...]
    device_model: str


@dataclass(frozen=True)
class Recipe:
    """What a host with Xen of one series is made of; see lab.toml. `digest` covers all that decides on the result."""

    series: str
    suites: Mapping[str, str]
    kernel_package: str
    packages: tuple[str, ...]
    files: Mapping[str, str]
    toolstack: Toolstack
    dom0_files: tuple[str, ...]
    dom0_links: Mapping[str, str]
    dom0_accounts: Mapping[str, tuple[str, ...]]
    xen_arguments: tuple[str, ...]
    dom0_arguments: tuple[str, ...]
    dom0_modules: tuple[str, ...]
    more_modules: tuple[str, ...]
    firmware: tuple[str, ...]
    guest_modules: tuple[str, ...]
    device_model: Mapping[str, Any]
    digest: str

    def place(self, path: str) -> str:
        """Return where a file called `path` really goes in dom0, relative to `/`: links of folders are followed."""
        relative = path.lstrip("/")
        for link, target in {**self.dom0_links, **self.toolstack.links}.items():
            if relative.startswith(f"{link}/") and not Path(link).suffix:
                folder = target if not target.startswith("../") else target[len("../") :]
                return f"{folder}/{relative[len(link) + 1 :]}"
        return relative


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((_FOLDER / "lab.toml").read_text())


def known_series() -> tuple[str, ...]:
    """Return the Xen series that a host can have."""
    return tuple(_data()["xen"])


def default_series() -> str:
    """Return the Xen series of this machine's own Xen libraries if a host can have that one, else the newest."""
    from xenqemu.xen import inspect

    version = inspect("system").version
    series = "" if version is None else f"{version.major}.{version.minor}"
    return series if series in known_series() else known_series()[-1]


def load_recipe(xen: str) -> Recipe:
    """Return the recipe for `xen`: `4.17`, or `distro:4.17`. Raises `UsageError` for one that is not in lab.toml."""
    series = xen.removeprefix(_PREFIX)
    data = _data()
    if series not in data["xen"]:
        raise UsageError(
            f"the lab has no Xen '{xen}'", f"name one of {', '.join(_PREFIX + name for name in known_series())}"
        )

    packages, dom0 = data["packages"], data["dom0"]
    digest = hashlib.sha256()
    for path in (*(_FOLDER / name for name in _DECIDING), *sorted(DOM0_FOLDER.iterdir())):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return Recipe(
        series=series,
        suites=data["xen"][series],
        kernel_package=packages["kernel"],
        packages=tuple(packages["others"]),
        files={name: path.format(series=series) for name, path in data["files"].items()},
        toolstack=_toolstack(
            data["toolstack"]["packaged"],
            {"series": series},
            tuple(name.format(series=series) for name in (packages["hypervisor"], *packages["toolstack"])),
        ),
        dom0_files=tuple(dom0["files"]),
        dom0_links=dict(dom0["links"]),
        dom0_accounts={name: tuple(lines) for name, lines in dom0["accounts"].items()},
        xen_arguments=tuple(data["hypervisor"]["arguments"]),
        dom0_arguments=tuple(dom0["arguments"]),
        dom0_modules=tuple(dom0["modules"]),
        more_modules=tuple(dom0["more_modules"]),
        firmware=tuple(data["firmware"]["files"]),
        guest_modules=tuple(data["guest"]["modules"]),
        device_model=data["device_model"],
        digest=digest.hexdigest(),
    )


def _toolstack(data: Mapping[str, Any], places: Mapping[str, str], packages: tuple[str, ...]) -> Toolstack:
    def fill(words: Iterable[str]) -> tuple[str, ...]:
        return tuple(word.format(**places) for word in words)

    return Toolstack(
        packages=packages,
        files=fill(data["files"]),
        links=dict(zip(fill(data["links"]), fill(data["links"].values()), strict=True)),
        path=fill(data["path"]),
        device_model=data["device_model"].format(**places),
    )


def tree_toolstack(places: Mapping[str, str], has: Callable[[str], bool]) -> Toolstack:
    """Return the toolstack of a Xen tree whose folders are `places` (the names that lab.toml uses, without slashes).

    Files that not every Xen has are left out unless `has` says that the path is there.
    """
    data = _data()["toolstack"]["tree"]
    more = [path.format(**places) for path in data["more_files"]]
    toolstack = _toolstack(data, places, ())
    return replace(toolstack, files=(*toolstack.files, *filter(has, more)))


def with_toolstack(recipe: Recipe, toolstack: Toolstack) -> Recipe:
    """Return `recipe` with another toolstack; its digest is then that of both."""
    digest = hashlib.sha256(f"{recipe.digest} {toolstack}".encode()).hexdigest()
    return replace(recipe, toolstack=toolstack, digest=digest)


def nearest_recipe(series: str) -> Recipe:
    """Return the recipe of the Xen `series`, or of the newest one where that is not in lab.toml."""
    return load_recipe(series if series in known_series() else known_series()[-1])
