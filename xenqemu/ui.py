"""What the user sees while a stage works: nested steps with the time taken, and progress.

Stages receive a `Ui` and never print. `PlainUi` writes lines for logs and pipes, `RichUi` draws on a
terminal, `QuietUi` says nothing. All of them write to stderr only: stdout belongs to results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol, TextIO


class Progress(Protocol):
    """A running count towards a total."""

    def update(self, done: int, total: int, what: str = "") -> None:
        """Say that `done` of `total` units are done, `what` being the one at hand."""


class Ui(Protocol):
    """Where a stage reports what it does."""

    @property
    def verbose(self) -> bool:
        """Whether the user wants the details."""

    def step(self, title: str) -> AbstractContextManager[None]:
        """Enter a step called `title`; steps nest, and the time taken is shown when one ends."""

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        """Enter a step whose completion can be counted."""

    def note(self, text: str) -> None:
        """Tell the user something worth knowing that is no error."""

    def warn(self, text: str) -> None:
        """Tell the user something that may need action."""


def format_seconds(seconds: float) -> str:
    """Return a duration in seconds as people read it: `0.4 s`, `12 s`, `2 min 5 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


class _LineProgress:
    """Progress as log lines: one a tenth of the way, so that a log of a build stays readable."""

    def __init__(self, ui: PlainUi, title: str) -> None:
        self._ui = ui
        self._title = title
        self._tenth = 0

    def update(self, done: int, total: int, what: str = "") -> None:
        tenth = 10 * done // total if total else 0
        if tenth > self._tenth:
            self._tenth = tenth
            self._ui.line(f"{self._title}: {done}/{total} ({100 * done // total} %)")


class PlainUi:
    """Plain lines on `stream` (default: stderr), for logs, pipes and CI."""

    def __init__(self, stream: TextIO | None = None, *, verbose: bool = False) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._verbose = verbose
        self._depth = 0

    @property
    def verbose(self) -> bool:
        """Whether the user wants the details."""
        return self._verbose

    def line(self, text: str) -> None:
        """Write one line at the depth of the current step."""
        # Whoever reads stderr may go away; the work goes on without them.
        with suppress(BrokenPipeError):
            self._stream.write("  " * self._depth + text + "\n")
            self._stream.flush()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Enter a step; see `Ui.step`."""
        self.line(f"{title} ...")
        started = time.monotonic()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        self.line(f"{title}: {format_seconds(time.monotonic() - started)}")

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Enter a counted step; see `Ui.progress`."""
        with self.step(title):
            yield _LineProgress(self, title)

    def note(self, text: str) -> None:
        """See `Ui.note`."""
        self.line(text)

    def warn(self, text: str) -> None:
        """See `Ui.warn`."""
        self.line(f"warning: {text}")


class QuietUi(PlainUi):
    """Only warnings."""

    def line(self, text: str) -> None:
        """Say nothing but warnings."""
        if text.startswith("warning: "):
            super().line(text)
