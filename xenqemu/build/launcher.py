"""Launchers: the compiler cache and the engine that stand before a compiler, and what they are told.

None of them has a say in what is compiled, so none is part of a key. What there is to know of each is in recipe.toml.
"""

from __future__ import annotations

import shlex
import shutil
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from xenqemu.build.model import Compiler, Offload
from xenqemu.build.recipe import Launcher, load_recipe
from xenqemu.build.remote import parse_remote
from xenqemu.errors import MissingError, UsageError
from xenqemu.proc import run
from xenqemu.ui import Ui

AUTO, NONE = "auto", "none"
_AUTOMATIC = "ccache"
_STATISTICS = "CCACHE_STATSLOG"
_SERVED, _PORT = "sccache", "SCCACHE_SERVER_PORT"


def caches() -> tuple[str, ...]:
    """Return the names that `--launcher` takes for a compiler cache."""
    return tuple(name for name, launcher in load_recipe().launchers.items() if launcher.cache)


def engines() -> tuple[str, ...]:
    """Return the names that `--distribute` takes."""
    return tuple(name for name, launcher in load_recipe().launchers.items() if launcher.engine)


def engine_of(offload: Offload) -> str | None:
    """Return the engine that hands compiles to other machines, None for none: hosts without an engine are distcc's.

    Raises `UsageError` for a name that is none.
    """
    engine = offload.engine or (engines()[0] if offload.hosts else None)
    if engine in (None, NONE):
        if offload.hosts and offload.engine == NONE:
            raise UsageError("--hosts and --distribute none contradict each other", "leave one of the two out")
        return None
    if engine not in engines():
        raise UsageError(f"'{engine}' hands no compiles to other machines", f"there is: {', '.join(engines())}, none")
    return engine


def launched(command: tuple[str, ...], offload: Offload, path: str | None) -> tuple[str, ...]:
    """Return the compiler's `command` with the launchers that `offload` asks for before it.

    Launchers that the command names itself stay, and then `auto` adds none. `path` is where programs are looked for.
    Raises `UsageError` for a name that is none and for what contradicts itself, `MissingError` for a launcher that was
    asked for and is not installed.
    """
    named = Compiler(command, {})
    argv = _cached(command, offload.launcher, path)
    launchers = Compiler(argv, {}).launchers
    if offload.remote_cache:
        parse_remote(offload.remote_cache)
    if offload.remote_cache and not any(load_recipe().launchers[name].remote for name in launchers):
        if offload.launcher == AUTO and not named.launchers:
            raise _not_installed(load_recipe().launchers[_AUTOMATIC], "a remote cache takes a compiler cache here: ")
        raise UsageError(
            f"there is nothing that uses a remote cache in '{shlex.join(argv)}'", "name one as --launcher ccache"
        )
    engine = engine_of(offload)
    if engine is None or engine in launchers:
        return argv
    if shutil.which(engine, path=path) is None:
        raise _not_installed(load_recipe().launchers[engine])
    used = [load_recipe().launchers[name] for name in launchers]
    if any(launcher.prefix for launcher in used):
        return argv  # the cache starts it, for what it has not kept
    if used:
        raise UsageError(f"{used[-1].name} hands no compiles to {engine}", "take --launcher ccache, or none")
    return (engine, *argv)


def _cached(command: tuple[str, ...], wanted: str | None, path: str | None) -> tuple[str, ...]:
    named = Compiler(command, {}).launchers
    if wanted is None:
        return command
    if wanted not in (AUTO, NONE, *caches()):
        raise UsageError(f"there is no launcher '{wanted}'", f"there is: {', '.join((AUTO, NONE, *caches()))}")
    if named:
        contradicts = set(named) & set(caches()) if wanted == NONE else wanted != AUTO and wanted not in named
        if contradicts:
            raise UsageError(
                f"--launcher {wanted} contradicts the compiler command '{shlex.join(command)}'",
                "leave one of the two out",
            )
        return command
    if wanted == NONE or (wanted == AUTO and shutil.which(_AUTOMATIC, path=path) is None):
        return command
    name = _AUTOMATIC if wanted == AUTO else wanted
    if shutil.which(name, path=path) is None:
        raise _not_installed(load_recipe().launchers[name])
    return (name, *command)


def _not_installed(launcher: Launcher, why: str = "") -> MissingError:
    return MissingError(f"{why}{launcher.name} is not installed", f"apt install {launcher.package}")


def launcher_environment(compiler: Compiler, work: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the launchers of `compiler` get for a build in the folder `work`.

    Those that `environment` has, in their negative form too (`CCACHE_NODEPEND`), are left as they are.
    """
    result = {}
    for name in compiler.launchers:
        for variable, value in load_recipe().launchers[name].environment.items():
            if not {variable, _negative(variable)} & set(environment):
                result[variable] = value.format(work=work)
    return result


def _negative(variable: str) -> str:
    """Return the variable of ccache's that switches off what `variable` switches on."""
    family, _, rest = variable.partition("_")
    return f"{family}_{rest.removeprefix('NO') if rest.startswith('NO') else 'NO' + rest}"


@contextmanager
def server(compiler: Compiler, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Have sccache's server run, where sccache is before `compiler`; enter with the environment for its clients.

    A server that a compile started would hold the lock of the build directory (`stage`) as long as it lives. One that
    runs already keeps the settings that it was started with, so for a remote storage there is one with its own port.
    """
    if _SERVED not in compiler.launchers:
        yield environment
        return
    own = any(name.startswith(("SCCACHE_REDIS", "SCCACHE_WEBDAV")) for name in environment)
    if own and _PORT not in environment:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            environment = {**environment, _PORT: str(probe.getsockname()[1])}
    run((_SERVED, "--start-server"), env=environment, check=False)
    try:
        yield environment
    finally:
        if own:
            run((_SERVED, "--stop-server"), env=environment, check=False)


class Statistics:
    """What ccache says of each compile, by `CCACHE_STATSLOG`, from now on."""

    def __init__(self, compiler: Compiler, environment: Mapping[str, str]) -> None:
        name = environment.get(_STATISTICS, "") if _AUTOMATIC in compiler.launchers else ""
        self._file = Path(name) if name else None
        self._start = len(self._read())

    def _read(self) -> bytes:
        try:
            return self._file.read_bytes() if self._file else b""
        except OSError:
            return b""

    def tell(self, ui: Ui) -> None:
        """Tell `ui` how much was kept, and that the remote storage failed where it did."""
        count = Counter(self._read()[self._start :].decode("utf-8", "replace").splitlines())
        hits = count["direct_cache_hit"] + count["preprocessed_cache_hit"]
        total = hits + count["cache_miss"]
        if not total:
            return
        remote = count["remote_storage_hit"]
        ui.note(f"compiler cache: {hits} of {total} compiles" + (f", {remote} from the remote one" if remote else ""))
        failed = count["remote_storage_error"] + count["remote_storage_timeout"]
        if failed:
            ui.warn(f"the remote cache failed {failed} times; the build went on without it")
