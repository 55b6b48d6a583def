"""The remote storage of a compiler cache: a server that the machines of a fleet share."""

from __future__ import annotations

import re
import shutil
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.version import Version

from xenqemu.build.model import Compiler, Offload
from xenqemu.build.recipe import Launcher, load_recipe
from xenqemu.errors import MissingError, UsageError
from xenqemu.proc import run
from xenqemu.ui import Ui

_PORTS = {"redis": 6379, "http": 80}
_SECONDS = 3.0
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True)
class RemoteCache:
    """A server: the `url` as ccache takes it, and its parts; `server` is the URL without user and password."""

    url: str = field(repr=False)
    scheme: str
    host: str
    port: int
    server: str
    user: str = field(repr=False)
    password: str = field(repr=False)


def public_url(text: str) -> str:
    """Return what of a remote cache's URL may be shown: no user, no password, none of ccache's `|attribute=value`."""
    scheme, found, rest = re.split(r"[|\s?#]", text, maxsplit=1)[0].partition("://")
    if not found or not re.fullmatch(r"[a-z+]{1,12}", scheme):
        return "(no URL)"  # whatever it is, it may be the password
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def parse_remote(text: str) -> RemoteCache:
    """Return the server that `text` names: `redis://[[USER]:PASSWORD@]HOST[:PORT]`, `http://...[/PATH]`.

    Behind a `|` may follow what ccache takes there. A password without a user is `:PASSWORD` in the registration
    of the scheme, and without the colon by ccache, which sends none for the other (split_user_info in
    RedisStorageBackend.cpp): both are taken. Raises `UsageError`, without what may be secret.
    """
    try:
        parts = urllib.parse.urlsplit(re.split(r"[|\s]", text, maxsplit=1)[0])
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urllib.parse.urlsplit(""), "", None
    if parts.scheme not in _PORTS or not host:
        raise UsageError(
            f"{public_url(text)} is no server of a remote cache", "name one as redis://HOST:PORT or http://HOST/PATH"
        )
    user, password = urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or "")
    if parts.scheme == "redis" and parts.password is None:
        user, password = "", user
    return RemoteCache(
        url=re.sub("^redis://:", "redis://", text),
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        server=public_url(text),
        user=user,
        password=password,
    )


def remote_environment(compiler: Compiler, offload: Offload, environment: Mapping[str, str], ui: Ui) -> dict[str, str]:
    """Return the variables with which the cache before `compiler` uses the server of `offload`, if it answers.

    One that does not is told to `ui` and left out: each compile would wait for it. Raises `MissingError` for a cache
    that was built without this kind of storage.
    """
    if not offload.remote_cache:
        return {}
    remote = parse_remote(offload.remote_cache)
    launchers = (load_recipe().launchers[name] for name in compiler.launchers)
    launcher = next(launcher for launcher in launchers if launcher.remote)
    _check_support(launcher, remote, environment)
    try:
        with socket.create_connection((remote.host, remote.port), timeout=_SECONDS):
            pass
    except OSError as error:
        ui.warn(f"the remote cache {remote.server} does not answer ({error.strerror or error}); going on without it")
        return {}
    ui.note(f"remote compiler cache: {remote.server}")
    values = {"url": remote.url, "server": remote.server, "user": remote.user, "password": remote.password}
    templates = launcher.remote.schemes[remote.scheme].environment if launcher.remote else {}
    result = {variable: template.format(**values) for variable, template in templates.items()}
    return {variable: value for variable, value in result.items() if value}


def _check_support(launcher: Launcher, remote: RemoteCache, environment: Mapping[str, str]) -> None:
    """Raise `MissingError` when the installed `launcher` has no storage of the kind of `remote`."""
    if launcher.remote is None or shutil.which(launcher.name, path=environment.get("PATH")) is None:
        return  # a launcher that was named by its path is the user's own affair
    said = run((launcher.name, "--version"), env=environment, check=False).stdout
    version = _VERSION.search(said)
    about = run((launcher.name, *launcher.remote.about), env=environment, check=False).stdout
    old = version is not None and Version(version[0]) < launcher.remote.since
    if old or not re.search(launcher.remote.schemes[remote.scheme].feature, about):
        which = f"{launcher.name} {version[0] if version else ''}".strip()
        raise MissingError(
            f"{which} has no {remote.scheme} storage",
            f"it takes {launcher.name} {launcher.remote.since} or newer, built with it; Debian's ccache has it",
        )
