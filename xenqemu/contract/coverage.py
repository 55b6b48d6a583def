"""Whether the table has everything that the libxl of a Xen tree can pass, and nothing that it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from xenqemu.contract.derive import Passed, Sent, derive
from xenqemu.contract.model import Contract, Entry, xen_version

_PLACEHOLDER = re.compile(r"\{\w*\}")


@dataclass(frozen=True)
class Coverage:
    """The comparison for one Xen: `lacking` is passed and not in the table, `unfounded` the other way round.

    Each is a line for a person: what it is and which function or entry has it.
    """

    version: str
    lacking: tuple[str, ...]
    unfounded: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the table and this libxl agree."""
        return not self.lacking and not self.unfounded


def compare(tree: Path, contract: Contract) -> Coverage:
    """Compare the Xen source tree at `tree` with `contract`; raises `UsageError` as `derive` does."""
    passed = derive(tree)
    # A tree between two releases (4.20.4-pre) has what the next one will pass.
    xen = Version(passed.version).release
    version = xen_version(".".join(map(str, xen)))
    entries = [entry for entry in contract.entries if entry.passed_by(version)]
    lacking = (*_lacking_words(passed, entries), *_lacking_qmp(passed, entries))
    unfounded = (*_unfounded_words(passed, entries), *_unfounded_qmp(passed, entries))
    return Coverage(passed.version, tuple(lacking), tuple(unfounded))


def atoms(words: Iterable[str]) -> frozenset[str]:
    """Return the parts of option arguments: what commas separate, with `{}` for all that varies."""
    parts = {part for word in words for part in _PLACEHOLDER.sub("{}", word).split(",")}
    return frozenset(parts - {"", "{}"})


def entry_atoms(entry: Entry) -> frozenset[str]:
    """Return the parts that `entry` says are passed, of a command line or of an environment."""
    environment = [part for word in entry.environment for part in word.split("=", 1)]
    return atoms((*entry.argv, *entry.values, *environment))


def qmp_atoms(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield `NAME:TYPE` for each argument of a QMP command, nested ones too, and `NAME=VALUE` for text."""
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            yield f"{name}:object"
            yield from qmp_atoms(value)
        elif isinstance(value, str):
            yield from (f"{name}:string", f"{name}={_PLACEHOLDER.sub('{}', value)}")
        else:
            yield f"{name}:{'bool' if isinstance(value, bool) else 'integer'}"


def _lacking_words(passed: Passed, entries: list[Entry]) -> Iterator[str]:
    known = [entry_atoms(entry) for entry in entries]
    for word in passed.words:
        # All parts in one entry: a property of one device says nothing about another's.
        if not any(atoms([word]) <= parts for parts in known):
            yield f"{word!r} on the command line"


def _unfounded_words(passed: Passed, entries: list[Entry]) -> Iterator[str]:
    possible = atoms(passed.words)
    for entry in entries:
        for part in sorted(entry_atoms(entry) - possible):
            yield f"{part!r} in {entry.group}.toml, entry {entry.id}"


def _known_arguments(sent: Sent, entries: list[Entry]) -> frozenset[str]:
    return frozenset(part for entry in entries if entry.execute in sent.commands for part in qmp_atoms(entry.arguments))


def _lacking_qmp(passed: Passed, entries: list[Entry]) -> Iterator[str]:
    executed = {entry.execute for entry in entries}
    for sent in passed.qmp:
        where = f"{sent.file}: {sent.function}"
        yield from (f"QMP command {name!r} ({where})" for name in sent.commands if name not in executed)
        unknown = set(sent.arguments) - _known_arguments(sent, entries)
        yield from (f"QMP argument {part!r} of {' or '.join(sent.commands)} ({where})" for part in sorted(unknown))


def _unfounded_qmp(passed: Passed, entries: list[Entry]) -> Iterator[str]:
    for entry in entries:
        if not entry.execute:
            continue
        senders = [sent for sent in passed.qmp if entry.execute in sent.commands]
        if not senders:
            yield f"QMP command {entry.execute!r} in {entry.group}.toml, entry {entry.id}"
            continue
        types = {part for sent in senders for part in sent.arguments if ":" in part and "=" not in part}
        wanted = {part for part in qmp_atoms(entry.arguments) if "=" not in part}
        yield from (f"QMP argument {part!r} in {entry.group}.toml, entry {entry.id}" for part in sorted(wanted - types))
