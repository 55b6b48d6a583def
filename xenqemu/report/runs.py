"""The lab's last runs, as far as they are kept: what came of the guests that had one device model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from xenqemu.build.manifest import file_sha256
from xenqemu.lab.runs import RESULT, last_runs
from xenqemu.report.expected import as_expected
from xenqemu.report.model import BAD, GOOD, NOTE, Fact, Guest, LabRun, Log, Picture
from xenqemu.report.pictures import load_picture
from xenqemu.report.words import format_time, number, table, tables, text
from xenqemu.state import StateDir
from xenqemu.text import plain

# What a guest wrote last is what tells; a whole log of xl's has a hundred times that.
_LOG_END = 4000
_TITLES = {"device-model": "device model's log", "firmware": "firmware's log", "xl": "what xl said"}
# Of a guest that has booted nobody reads these.
_OF_FAILURES = ("xl", "firmware", "device-model")
_KIND = re.compile(r"[a-z0-9-]+")


def lab_runs(state: StateDir, sha256: str, qemu: str) -> tuple[LabRun, ...]:
    """Return the runs that are kept, the newest first, with those guests whose device model has that hash.

    It is one of QEMU `qemu`.
    """
    found = []
    for folder in last_runs(state):
        result, written = _result(folder / RESULT)
        guests = tuple(sorted(_guests(folder, result, written, sha256, qemu), key=_place))
        if guests:
            when = datetime.fromtimestamp(written).astimezone().isoformat(" ", "minutes")
            found.append(LabRun(folder.name, text(result, "xen"), when, guests))
    return tuple(found)


def _place(guest: Guest) -> tuple[bool, bool]:
    """Return where a guest belongs: failures first, then those that can be seen, then as they were booted."""
    return guest.state == GOOD, guest.screen is None


def _result(path: Path) -> tuple[Mapping[str, Any], float]:
    try:
        data, written = json.loads(path.read_bytes()), path.stat().st_mtime
    except (OSError, ValueError):  # a run that goes on, or whose host failed
        return {}, 0.0
    return (data, written) if isinstance(data, dict) else ({}, 0.0)


def _guests(folder: Path, result: Mapping[str, Any], written: float, sha256: str, qemu: str) -> Iterator[Guest]:
    known = table(result, "device_models")

    def is_ours(model: str) -> bool:
        return known[model] == sha256 if model in known else _was(Path(model), written, sha256)

    for entry in tables(result, "guests"):
        model = text(entry, "device_model")
        if model and is_ours(model):
            # Of a user's config that has the name of a case nothing is known.
            own = Path(text(entry, "config")).is_relative_to(folder)
            word, state = (own and as_expected(entry, text(result, "xen"), qemu)) or _outcome(entry)
            yield _guest(folder, entry, written, word, state)


def _was(path: Path, written: float, sha256: str) -> bool:
    """Whether the file at `path` has that hash, and had it when a run of before hashes were kept ended."""
    try:
        return path.stat().st_mtime <= written and file_sha256(path) == sha256
    except OSError:
        return False


def _guest(folder: Path, entry: Mapping[str, Any], written: float, word: str, state: str) -> Guest:
    name = text(entry, "name")
    # As a run called its logs before it said how.
    stem = text(entry, "stem") or re.sub(r"[^\w.-]", "_", name)
    return Guest(
        name=name or text(entry, "config"),
        word=word,
        state=state,
        detail=text(entry, "sign") if entry.get("booted") else text(entry, "reason"),
        facts=tuple(_facts(entry)),
        screen=_screen(folder / f"{stem}.png", Path(text(entry, "screenshot")), written),
        logs=tuple(_logs(folder, stem, lambda kind: kind in _OF_FAILURES and bool(entry.get("booted")))),
    )


def _outcome(entry: Mapping[str, Any]) -> tuple[str, str]:
    if entry.get("booted"):
        return "booted", GOOD
    if entry.get("tried") is False:
        return "not tried", NOTE
    return ("did not boot", BAD) if entry.get("created") else ("was not created", BAD)


def _facts(entry: Mapping[str, Any]) -> Iterator[Fact]:
    for name, title in (
        ("create_seconds", "created in"),
        ("boot_seconds", "booted in"),
        ("steps_seconds", "what it was asked to do took"),
    ):
        seconds = number(entry, name)
        if seconds is not None:
            yield Fact(title, format_time(1000 * seconds))
    memory = number(entry, "memory", "rss")
    if memory is not None:
        yield Fact("device model's memory", f"{memory / 1e6:.1f} MB")
    for note in entry.get("notes") or ():
        yield Fact("changed for the lab", str(note))


def _screen(kept: Path, named: Path, written: float) -> Picture | None:
    """Return the copy that the run keeps, else what the user named if no later run has written it."""
    if kept.is_file():
        return load_picture(kept)
    return load_picture(named) if named.is_file() and named.stat().st_mtime <= written else None


def _logs(folder: Path, stem: str, left_out: Callable[[str], bool]) -> Iterator[Log]:
    for path in sorted(folder.iterdir()):
        kind = path.name.removeprefix(f"{stem}.").removesuffix(".log")
        if path.name != f"{stem}.{kind}.log" or not _KIND.fullmatch(kind) or left_out(kind):
            continue
        try:
            said = readable(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
        if said:
            yield Log(_TITLES.get(kind, f"what it wrote on the {kind.replace('-', ' ')}"), said)


def readable(raw: str) -> str:
    """Return the end of what was written for a terminal, without what moves cursors and colours text."""
    said = plain(raw).strip()
    if len(said) <= _LOG_END:
        return said
    return "…\n" + said[-_LOG_END:].partition("\n")[2]
