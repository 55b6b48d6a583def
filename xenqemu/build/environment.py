"""The environment that a build runs in: little is inherited, and what decides the result is part of the key."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from xenqemu.build.recipe import load_recipe
from xenqemu.environment import inherited
from xenqemu.errors import UsageError


def honoured(environ: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of `environ` that a build honours and that are not empty."""
    return {name: environ[name] for name in load_recipe().environment.honoured if environ.get(name)}


def flag_words(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return the words of a variable of flags (`CFLAGS`); raises `UsageError` when its quotes do not match."""
    try:
        return tuple(shlex.split(environment.get(name, "")))
    except ValueError as error:
        raise UsageError(f"the environment variable {name} cannot be split into words: {error}") from error


def build_environment(
    environment: Mapping[str, str],
    pkg_config_dirs: tuple[Path, ...] = (),
    inherit: Mapping[str, str] | None = None,
    library_dirs: tuple[Path, ...] = (),
) -> dict[str, str]:
    """Return the whole environment for configure and the compile.

    `environment` are the honoured variables; of them only `PKG_CONFIG_PATH` is passed as a variable, after
    `pkg_config_dirs`, because the flags are handed to configure as arguments, in an order that is decided here.
    `inherit` is what the rest is picked from (default: this process's environment).

    `library_dirs` are where the Xen's libraries are. They are told to the compiler as its own, which for meson are the
    folders that need no RPATH (`rpaths_for_non_system_absolute_shared_libraries` of its build.py): it would write those
    of the build machine into the program, and takes them out only when its own `install` is used.
    """
    result = inherited(os.environ if inherit is None else inherit)
    result.update(load_recipe().environment.fixed)
    search = [str(path) for path in pkg_config_dirs]
    search += [part for part in environment.get("PKG_CONFIG_PATH", "").split(":") if part]
    if search:
        result["PKG_CONFIG_PATH"] = ":".join(search)
    if library_dirs:
        result["LIBRARY_PATH"] = ":".join(map(str, library_dirs))
    return result
