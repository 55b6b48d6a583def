"""`stubdom.toml`: what a Linux stub domain is made of."""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from xenqemu.lab.recipe import Recipe as HostRecipe

_FOLDER = Path(__file__).parent
FILES = _FOLDER / "files"
_DECIDING = ("stubdom.toml", "parts.py", "recipe.py")


@dataclass(frozen=True)
class Recipe:
    """What to take for a Xen of one series, see stubdom.toml; `host` has the suites, and where a kernel's files are.

    `modules` are kernel modules by when they are loaded, in order, `parameters` those of some. `digest` covers all that
    decides on what is taken from packages.
    """

    host: HostRecipe
    kernel_package: str
    packages: tuple[str, ...]
    programs: Mapping[str, str]
    libc: tuple[str, ...]
    modules: Mapping[str, tuple[str, ...]]
    parameters: Mapping[str, str]
    firmware: tuple[str, ...]
    without_firmware: tuple[str, ...]
    digest: str


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((_FOLDER / "stubdom.toml").read_text(encoding="utf-8"))


def stub_memory(unpacked: int) -> int:
    """Return how many MiB a stub domain takes whose file system has so many bytes, beside what libxl adds."""
    data = _data()["memory"]
    return int(data["enough"] + math.ceil(max(0, unpacked / (1 << 20) - data["fits"]) * data["more"]))


def libc_files() -> tuple[str, ...]:
    """Return the names of the C library's files."""
    return tuple(_data()["libc"]["files"])


def load_recipe(host: HostRecipe) -> Recipe:
    """Return the recipe of a stub domain that runs under the same Xen as `host`."""
    data = _data()
    digest = hashlib.sha256(host.digest.encode())
    for name in _DECIDING:
        digest.update((_FOLDER / name).read_bytes())

    def fill(text: str) -> str:
        return str(text).format(series=host.series)

    return Recipe(
        host=host,
        kernel_package=data["packages"]["kernel"],
        packages=tuple(map(fill, data["packages"]["names"])),
        programs={name: fill(path) for name, path in data["programs"].items()},
        libc=libc_files(),
        modules={when: tuple(names) for when, names in data["modules"].items() if when != "parameters"},
        parameters=data["modules"]["parameters"],
        firmware=tuple(data["firmware"]["files"]),
        without_firmware=tuple(data["firmware"]["without"]),
        digest=digest.hexdigest(),
    )
