"""What commands with results share: options that say where reports go, and reports of what failed on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xenqemu.errors import XenqemuError

if TYPE_CHECKING:
    from xenqemu.results import Results

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(dir_okay=False, path_type=Path)


def report_options(function: F) -> F:
    """Give a command the options that say where its results go; it gets them as `junit` and `summary`."""
    for decorate in (
        click.option("--summary", metavar="FILE", type=_FILE, help="Write a summary in Markdown."),
        click.option("--junit", metavar="FILE", type=_FILE, help="Write the results as JUnit XML too."),
    ):
        function = decorate(function)
    return function


@contextmanager
def reporting(title: str, junit: Path | None, summary: Path | None) -> Iterator[Callable[[Results], None]]:
    """Enter with a function that takes the results, and write them wherever they are wanted at once.

    What ends the context before there are any is reported too, as the error of a run called `title`: a CI service
    would otherwise show no test, and nothing amiss. Raises `MissingError` when a report cannot be written.
    """
    from xenqemu.results import Check, Outlets, Results, Status, error_annotations, write_results

    started = time.monotonic()
    outlets = Outlets(junit, summary)
    told = False

    def tell(results: Results) -> None:
        nonlocal told
        told = True
        write_results(results, outlets)
        for line in error_annotations(results, os.environ):
            click.echo(line, err=True)

    try:
        yield tell
    except BaseException as error:
        if not told and not isinstance(error, (GeneratorExit, click.ClickException)):
            known = isinstance(error, XenqemuError)
            message = str(error) if known else f"{type(error).__name__}: {error}".rstrip(": ")
            details = error.hint if isinstance(error, XenqemuError) else ""
            check = Check("xenqemu", title, Status.ERROR, message, details)
            with suppress(XenqemuError):  # the error itself is what counts
                write_results(Results(title, (check,), time.monotonic() - started), outlets)
        raise
