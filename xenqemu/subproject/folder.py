"""Writing and reading the two folders: what Xen's build takes for a QEMU source, and the one that it builds in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xenqemu.errors import MissingError, UsageError
from xenqemu.source.model import QemuSource, SourceKind
from xenqemu.state import write_atomic
from xenqemu.subproject.model import Asked, Configured, Subproject
from xenqemu.templates import text_environment

_FACTS = "xenqemu-subproject.json"
_CONFIGURED = "xenqemu-configured.json"
_PROFILE = "xenqemu-profile.toml"
_PATHS = ("signature", "keyring")
_LOCAL = (SourceKind.CHECKOUT, SourceKind.TARBALL, SourceKind.DIRECTORY)


def write_subproject(folder: Path, subproject: Subproject, backends: Sequence[str], command: Sequence[str]) -> None:
    """Make `folder` what Xen's build takes as QEMU_UPSTREAM_LOC, made if it is not there; see `Subproject`.

    `backends` are the trace back ends that its profile has, `command` the words that run xenqemu. Paths
    are made absolute, for Xen's build runs elsewhere. Raises `UsageError` for a folder with files of something else,
    or one that cannot be written.
    """
    facts = {
        "qemu": _source_facts(subproject.qemu),
        "profile": _profile_place(subproject.profile),
        "state-dir": None if subproject.state_dir is None else str(subproject.state_dir.absolute()),
    }
    words = shlex.join(command)
    place = shlex.quote(str(folder.absolute()))
    try:
        if folder.exists() and not (folder / _FACTS).is_file() and any(folder.iterdir()):
            raise UsageError(f"{folder} has files already, and not those of a subproject", "name another folder")
        (folder / "scripts").mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "configure", _rendered("configure", command=words, folder=place), 0o755)
        backend = _rendered("tracetool.py", profile=subproject.profile, backends=backends)
        write_atomic(folder / "scripts" / "tracetool.py", backend, 0o755)
        write_atomic(folder / _FACTS, _json(facts))  # the last one: with it the folder is whole
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", "name another folder") from error


def read_subproject(folder: Path) -> Subproject:
    """Return what `write_subproject` has put into `folder`; `MissingError` where it has not, or it is damaged."""
    facts = _read(folder / _FACTS, "run `xenqemu subproject` for it again")
    try:
        source = {**facts["qemu"], "kind": SourceKind(facts["qemu"]["kind"])}
        source |= {name: Path(source[name]) for name in _PATHS if source.get(name)}
        state = facts["state-dir"]
        return Subproject(QemuSource(**source), str(facts["profile"]), None if state is None else Path(state))
    except (KeyError, TypeError, ValueError) as error:
        raise MissingError(
            f"{folder / _FACTS} is not what xenqemu wrote: {error}", "run `xenqemu subproject` for it again"
        ) from error


def spoil_build(folder: Path) -> None:
    """Have `make` in `folder` end with an error until `write_build` has made it anew.

    Xen's recipe goes on with `make all` when configure has failed (`;` in subdir-all-qemu-xen-dir), and an earlier
    configure's Makefile would build as if nothing had been asked. Raises `UsageError` when it cannot be written.
    """
    try:
        (folder / _CONFIGURED).unlink(missing_ok=True)
        write_atomic(folder / "Makefile", _rendered("failed.mk"))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", "make it writable") from error


def write_build(folder: Path, source: Path, asked: Asked, xen: str, command: Sequence[str]) -> Configured:
    """Make `folder` what `make all` and `make install` of Xen's build run in, and return what it will build.

    `source` is the folder of `write_subproject`. Raises `UsageError` when the folder cannot be written.
    """
    words = shlex.join(command).replace("$", "$$")
    facts = {"source": str(source.absolute()), "asked": asdict(asked), "xen": xen}
    try:
        text = _profile(read_subproject(source).profile, asked)
        if text:
            write_atomic(folder / _PROFILE, text.encode())
        else:
            (folder / _PROFILE).unlink(missing_ok=True)
        write_atomic(folder / _CONFIGURED, _json(facts))
        write_atomic(folder / "Makefile", _rendered("Makefile", command=words))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", "make it writable") from error
    return read_build(folder)


def read_build(folder: Path) -> Configured:
    """Return what `write_build` has put into `folder`; raises `MissingError` where it has not, or it is damaged."""
    facts = _read(folder / _CONFIGURED, "run configure there again")
    try:
        subproject = read_subproject(Path(facts["source"]))
        asked = Asked(**{**facts["asked"], "remarks": tuple(facts["asked"]["remarks"])})
        profile = folder.absolute() / _PROFILE
        return Configured(
            subproject, asked, str(facts["xen"]), str(profile) if profile.exists() else subproject.profile
        )
    except (KeyError, TypeError) as error:
        raise MissingError(
            f"{folder / _CONFIGURED} is not what xenqemu wrote: {error}", "run configure there again"
        ) from error


def _profile(base: str, asked: Asked) -> str:
    """Return the profile that has what the flags ask for on top of `base`, nothing when they ask for nothing."""
    if not asked.features and asked.trace_backends is None:
        return ""
    wanted = sorted(name for name, on in asked.features.items() if on)
    unwanted = sorted(name for name, on in asked.features.items() if not on)
    name = Path(base).stem
    lines = [
        f"name = {json.dumps(name)}",
        f"description = {json.dumps(f'{name}, with what the flags of configure ask for')}",
        f"extends = {json.dumps(base)}",
        "[configure]",
        f"enable = {json.dumps(wanted)}",
        f"disable = {json.dumps(unwanted)}",
    ]
    if asked.trace_backends is not None:
        lines.append(f"options = {json.dumps([f'--enable-trace-backends={asked.trace_backends}'])}")
    return "".join(f"{line}\n" for line in lines)


def _source_facts(source: QemuSource) -> dict[str, Any]:
    facts = {**asdict(source), "kind": source.kind.value, "refresh": False}
    if source.kind in _LOCAL:
        facts["location"] = str(Path(source.location).expanduser().absolute())
    return facts | {name: str(Path(facts[name]).absolute()) for name in _PATHS if facts[name]}


def _profile_place(profile: str) -> str:
    is_file = "/" in profile or profile.endswith(".toml")
    return str(Path(profile).expanduser().absolute()) if is_file else profile


def _read(path: Path, hint: str) -> Mapping[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingError(f"there is no {path}", hint) from error
    except (OSError, ValueError) as error:
        raise MissingError(f"{path} cannot be read: {error}", hint) from error
    if not isinstance(facts, dict):
        raise MissingError(f"{path} is not what xenqemu wrote", hint)
    return facts


def _json(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, indent=1).encode() + b"\n"


def _rendered(name: str, **values: object) -> bytes:
    return text_environment("xenqemu.subproject").get_template(f"{name}.j2").render(**values).encode()
