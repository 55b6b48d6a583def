"""The environment of the programs that look for compilers and libraries: little of the user's own gets in.

Whoever looks for a library has to see what the build will see. pkg-config takes a dozen variables beside
`PKG_CONFIG_PATH` (`PKG_CONFIG_LIBDIR`, `PKG_CONFIG_SYSROOT_DIR`), compilers others (`CPATH`): a build that obeyed them
would depend on more than its key says, so all of them are dropped, here for every stage.
"""

from __future__ import annotations

from collections.abc import Mapping

# Tools do not run, or run slower, without these.
_INHERITED = frozenset({"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "ICECC"})
_PREFIXES = ("CCACHE_", "SCCACHE_", "DISTCC_", "ICECC_")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of `environ` that every program of a build gets: they do not decide what it makes."""
    return {name: value for name, value in environ.items() if name in _INHERITED or name.startswith(_PREFIXES)}


def probe_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that looks for what a build would find, in the language C."""
    result = {**inherited(environ), "LC_ALL": "C"}
    if environ.get("PKG_CONFIG_PATH"):
        result["PKG_CONFIG_PATH"] = environ["PKG_CONFIG_PATH"]
    return result
