"""Results as every report has them: checks, each with what came of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Status(enum.Enum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"  # it could not be made
    SKIPPED = "skipped"

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done about it."""
        return self in (Status.PASSED, Status.SKIPPED)


@dataclass(frozen=True)
class Check:
    """One thing that was tried: `group` are words with dots between them, `message` is one line, `details` are more.

    `file` and `line` (0: none in particular) say what of the user's it is about.
    """

    group: str
    name: str
    status: Status = Status.PASSED
    message: str = ""
    details: str = ""
    seconds: float = 0.0
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Results:
    """What came of a run called `title`, which took so many seconds; `facts` are worth knowing beside it."""

    title: str
    checks: tuple[Check, ...]
    seconds: float
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(check.status.ok for check in self.checks)

    def count(self, status: Status) -> int:
        """Return how many checks came to `status`."""
        return sum(check.status is status for check in self.checks)
