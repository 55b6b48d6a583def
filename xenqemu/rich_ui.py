"""The user interface on a terminal: steps as lines, progress as a bar with percentage and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from xenqemu.ui import PlainUi, Progress


def terminal(*, stderr: bool, colour: bool) -> Console:
    """Return the terminal that stdout, or stderr, is; without `colour` nothing changes how its text looks.

    What rich makes of NO_COLOR itself leaves bold and dim text.
    """
    return Console(stderr=stderr) if colour else Console(stderr=stderr, color_system=None)


class _BarProgress:
    def __init__(self, bar: Bar, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=None, what="")

    def update(self, done: int, total: int, what: str = "") -> None:
        self._bar.update(self._task, completed=done, total=total, what=what[-40:])


class RichUi(PlainUi):
    """Plain lines with colour, and bars that leave no trace when they end."""

    def __init__(self, console: Console | None = None, *, verbose: bool = False) -> None:
        self._console = console if console is not None else Console(stderr=True)
        super().__init__(verbose=verbose)

    def line(self, text: str) -> None:
        """Write one line at the depth of the current step; warnings stand out."""
        style = "yellow" if text.startswith("warning: ") else "dim" if text.endswith("...") else None
        self._console.print("  " * self._depth + text, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Enter a counted step with a bar."""
        with self.step(title):
            columns = (
                TextColumn("  {task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[what]}"),
            )
            with Bar(*columns, console=self._console, transient=True) as bar:
                yield _BarProgress(bar, title)
