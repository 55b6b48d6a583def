"""Where a compile's time went: ninja's own log, read, and kept beside the manifest in a form that others can read.

Ninja appends a line for each output of a command that has ended: start and end in milliseconds since that ninja
started, a time stamp, the output, a hash of the command (`BuildLog::WriteEntry` in ninja's src/build_log.cc). A build
runs ninja more than once, as it precompiles a header first and may have been interrupted, so that times begin anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STEPS = "steps.json"
_FORMAT = 1
_LOG = ".ninja_log"
_SIGNATURE = re.compile(r"^# ninja log v(\d+)$")
# Versions 5 (ninja 1.5) to 7 (1.12) differ in the time stamp's unit and in the hash only.
_VERSIONS = range(5, 8)
_FIELDS = 5
# Nobody interrupts a build this often. Ninja that tidies up its log (`BuildLog::Recompact`) writes it in the order of
# a hash table, and what was one run looks like hundreds.
_MOST_RUNS = 20


@dataclass(frozen=True)
class Step:
    """One command that ninja ran: milliseconds since the first ninja of the build started, and what it made first."""

    start: int
    end: int
    output: str

    @property
    def milliseconds(self) -> int:
        """How long it took."""
        return self.end - self.start


@dataclass(frozen=True)
class _Entry:
    start: int
    end: int
    output: str
    command: str


def parse_ninja_log(text: str) -> tuple[Step, ...]:
    """Return the commands of ninja's log in the order of their start, several runs of ninja one after the other.

    A command with several outputs is one step. A run begins where an end is earlier than the one before, because ninja
    writes a line when a command has ended. Lines that are cut short, as by a full disk, are left out; a log of a
    version that is not known gives nothing.
    """
    lines = text.split("\n")
    signature = _SIGNATURE.match(lines[0])
    if signature is None or int(signature[1]) not in _VERSIONS:
        return ()
    entries = [entry for entry in map(_entry, lines[1:]) if entry is not None]
    runs = _runs(entries)
    steps: list[Step] = []
    offset = 0
    for run in runs:
        commands: dict[tuple[int, int, str], str] = {}
        for entry in run:
            commands.setdefault((entry.start, entry.end, entry.command), entry.output)
        steps += [Step(offset + start, offset + end, output) for (start, end, _), output in commands.items()]
        offset = max((step.end for step in steps), default=0)
    return tuple(sorted(steps, key=lambda step: (step.start, step.end, step.output)))


def _entry(line: str) -> _Entry | None:
    fields = line.split("\t")
    if len(fields) != _FIELDS or not (_is_number(fields[0]) and _is_number(fields[1]) and fields[3] and fields[4]):
        return None
    start, end = int(fields[0]), int(fields[1])
    return _Entry(start, end, fields[3], fields[4]) if start <= end else None


def _is_number(text: str) -> bool:
    # Ninja's are 32 bits wide; int() would also take "1_0" and digits of other scripts.
    return text.isascii() and text.isdigit() and len(text) <= 10


def _runs(entries: Sequence[_Entry]) -> list[list[_Entry]]:
    runs: list[list[_Entry]] = []
    last = -1
    for entry in entries:
        if not runs or entry.end < last:
            runs.append([])
        runs[-1].append(entry)
        last = entry.end
    return runs if len(runs) <= _MOST_RUNS else [list(entries)]


def read_ninja_log(build: Path) -> tuple[Step, ...]:
    """Return what ninja did in the build folder; nothing where it left no log."""
    try:
        return parse_ninja_log((build / _LOG).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ()


def dump_steps(steps: Iterable[Step]) -> bytes:
    """Return `steps` as the file `steps.json` has them: one a line, so that the file is small and can be read."""
    rows = ",\n".join(json.dumps([step.start, step.end, step.output], separators=(",", ":")) for step in steps)
    return f'{{"format":{_FORMAT},"unit":"ms","steps":[\n{rows}\n]}}\n'.encode()


def load_steps(path: Path) -> tuple[Step, ...]:
    """Return what `dump_steps` wrote to the file `path`; nothing when there is none, or none that can be read."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return ()
    if not isinstance(data, Mapping) or data.get("format") != _FORMAT or not isinstance(data.get("steps"), list):
        return ()
    return tuple(Step(*row) for row in data["steps"] if _is_row(row))


def _is_row(row: object) -> bool:
    if not isinstance(row, list) or len(row) != 3 or not isinstance(row[2], str):
        return False
    start, end = row[:2]
    return type(start) is int and type(end) is int and 0 <= start <= end
