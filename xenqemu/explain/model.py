"""What an explanation consists of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Line:
    """One line of a log, without control characters; `number` counts from 1, 0 where it is not known."""

    path: str
    number: int
    text: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.number}" if self.number else self.path
        return f"{place}: {self.text}" if place else self.text


@dataclass(frozen=True)
class Log:
    """What was read of one log: its `kind` (see the table; empty: of no known one), and its lines.

    `cut` says that only its end was read.
    """

    path: str
    kind: str
    lines: tuple[Line, ...]
    cut: bool = False


@dataclass(frozen=True)
class Condition:
    """What has to stand in a log of kind `on` (empty: in any) besides, for a cause to be the one."""

    on: str
    pattern: re.Pattern[str]
    example: str


@dataclass(frozen=True)
class Cause:
    """An entry of the table: what has to be read in which logs, what it means, and what to do about it.

    `on` are the kinds of logs in which `pattern` counts, line by line. One that `gives_way` is told only where nothing
    before it is; a `symptom` only says that something failed, and is told where there is no cause at all. `silent`
    names a kind of log that has to be there and to explain nothing, `talking` one that has to say something; its last
    words are `{log}`. `reason` is how the lab puts it in a few words, and `fatal` says that a guest that is watched
    will not boot any more. `late` says that a machine with too much to do can have caused it.
    """

    id: str
    on: tuple[str, ...]
    pattern: re.Pattern[str]
    cause: str
    remedy: str
    example: str
    source: str
    symptom: bool = False
    gives_way: bool = False
    silent: str = ""
    talking: str = ""
    needs: Condition | None = None
    reason: str = ""
    fatal: bool = False
    late: bool = False


@dataclass(frozen=True)
class Finding:
    """A cause that was found, in sentences, and the lines that say so."""

    id: str
    cause: str
    remedy: str
    source: str
    symptom: bool
    late: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Explanation:
    """What the logs of one guest, `subject`, say: `findings`, the most telling first, or else the `lines` that matter.

    Neither findings nor lines: nothing in them speaks of a failure.
    """

    subject: str
    findings: tuple[Finding, ...]
    lines: tuple[Line, ...]
    logs: tuple[Log, ...] = field(default=())

    @property
    def known(self) -> bool:
        """Whether the cause is in the table."""
        return any(not finding.symptom for finding in self.findings)

    @property
    def failed(self) -> bool:
        """Whether the logs speak of a failure at all."""
        return bool(self.findings or self.lines)

    @property
    def cause(self) -> Finding | None:
        """What is most likely to be the cause."""
        return self.findings[0] if self.findings else None

    def as_dict(self) -> Mapping[str, Any]:
        """Return it as JSON values."""
        return {
            "subject": self.subject,
            "failed": self.failed,
            "known": self.known,
            "causes": [
                {
                    "id": finding.id,
                    "cause": finding.cause,
                    "remedy": finding.remedy,
                    "source": finding.source,
                    "symptom": finding.symptom,
                    "lines": [_place(line) for line in finding.lines],
                }
                for finding in self.findings
            ],
            "lines": [_place(line) for line in self.lines],
            "logs": [{"path": log.path, "kind": log.kind, "cut": log.cut} for log in self.logs],
        }


def _place(line: Line) -> dict[str, Any]:
    return {"path": line.path, "line": line.number, "text": line.text}
