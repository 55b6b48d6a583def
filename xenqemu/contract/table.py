"""The contract's data, `contract/*.toml`: one file a group of entries, and `contract.toml` about all of them."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from xenqemu.contract.model import Case, Change, Contract, Entry, Gap, Probe, xen_version
from xenqemu.errors import UsageError
from xenqemu.resources import data_dir

_ABOUT = "contract.toml"
_LISTS = ("argv", "values", "environment", "setup", "check")


@functools.cache
def load(folder: Path | None = None) -> Contract:
    """Return the contract below `folder` (the project's own unless given).

    Raises `UsageError` when the data is malformed: an unknown key, an id twice, a reference to no entry.
    """
    folder = folder or data_dir("contract")
    path = folder / _ABOUT
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
        entries = []
        for group in about["groups"]:
            path = folder / f"{group}.toml"
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            entries += [_entry(group, {"source": about["source"], **item}) for item in data["entry"]]
        path = folder / _ABOUT
        contract = Contract(tuple(map(xen_version, about["xens"])), about["samples"], tuple(entries))
        _consistent(contract.entries)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is malformed: {error}", "docs/contract.md says what an entry has") from error
    return contract


def load_contract() -> tuple[Entry, ...]:
    """Return all entries of the project's own contract; raises as `load` does."""
    return load().entries


def _entry(group: str, data: Mapping[str, Any]) -> Entry:
    fields: dict[str, Any] = {**data, **{name: tuple(data.get(name, ())) for name in _LISTS}}
    probe = fields.pop("probe", "schema" if "execute" in data else "start")
    return Entry(
        group=group,
        probe=Probe(probe),
        xen=SpecifierSet(fields.pop("xen", "")),
        qemu=SpecifierSet(fields.pop("qemu", "")),
        changes=tuple(Change(Version(item["qemu"]), item["what"]) for item in fields.pop("changes", ())),
        gaps=tuple(_gap(item) for item in fields.pop("gaps", ())),
        **fields,
    )


def _gap(data: Mapping[str, str]) -> Gap:
    fields = dict(data)
    return Gap(xen=SpecifierSet(fields.pop("xen", "")), qemu=SpecifierSet(fields.pop("qemu", "")), **fields)


def _consistent(entries: Sequence[Entry]) -> None:
    ids = [entry.id for entry in entries]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise ValueError(f"twice: {', '.join(sorted(twice))}")
    for entry in entries:
        if entry.unless and entry.unless not in ids:
            raise ValueError(f"{entry.id}: there is no entry {entry.unless}")
        if sum(map(bool, (entry.argv, entry.execute, entry.environment))) != 1:
            raise ValueError(f"{entry.id}: one of argv, execute and environment is needed")


def cases(entries: Sequence[Entry]) -> tuple[Case, ...]:
    """Return the guests that show `entries` working, in their order: each with what its entries ask for."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.case, []).append(entry)
    return tuple(
        Case(
            name,
            tuple(dict.fromkeys(entry.xl for entry in group if entry.xl)),
            tuple(dict.fromkeys(entry.command for entry in group if entry.command)),
            tuple(group),
        )
        for name, group in found.items()
    )


def xen_named(contract: Contract, text: str | None) -> Version:
    """Return the Xen that a user calls `text`; the newest that the contract knows unless given.

    Raises `UsageError` for what is no version, or older than the oldest whose libxl was read.
    """
    if text is None:
        return contract.xens[-1]
    try:
        version = xen_version(text)
    except InvalidVersion as error:
        raise UsageError(f"'{text}' is no version of Xen", "name one like 4.17 or 4.20.1") from error
    if version.release[:2] < contract.xens[0].release[:2]:
        raise UsageError(f"the contract of Xen {text} is not known", f"it begins with {contract.xens[0]}")
    return version


def entries_of(contract: Contract, xen: str | None) -> tuple[Entry, ...]:
    """Return the entries that libxl of `xen` can pass, all entries when it is None; raises as `xen_named` does."""
    if xen is None:
        return contract.entries
    version = xen_named(contract, xen)
    return tuple(entry for entry in contract.entries if entry.passed_by(version))
