"""Where results go: files that were asked for, and the page of a CI job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.errors import MissingError
from xenqemu.results.junit import junit
from xenqemu.results.model import Results
from xenqemu.results.summary import summary
from xenqemu.state import write_atomic

_GITHUB_SUMMARY = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True)
class Outlets:
    """The files for JUnit XML and for a summary (None: not wanted), and the environment that may name more."""

    junit: Path | None = None
    summary: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def write_results(results: Results, outlets: Outlets) -> None:
    """Write `results` wherever they are wanted: files are replaced whole, a CI service's own page is added to.

    Raises `MissingError` when a file cannot be written.
    """
    if outlets.junit is not None:
        _write(outlets.junit, junit(results), "--junit")
    page = outlets.environment.get(_GITHUB_SUMMARY)
    if outlets.summary is None and not page:
        return
    text = summary(results).encode()
    if outlets.summary is not None:
        _write(outlets.summary, text, "--summary")
    if page:
        # Every step of a job adds to it ("Adding a job summary" in GitHub's manual of workflow commands).
        try:
            with Path(page).open("ab") as file:
                file.write(text)
        except OSError as error:
            raise MissingError(f"{page} cannot be written: {error.strerror}", f"unset {_GITHUB_SUMMARY}") from error


def _write(path: Path, content: bytes, option: str) -> None:
    try:
        write_atomic(path, content)
    except OSError as error:
        raise MissingError(f"{path} cannot be written: {error.strerror}", f"name another file with {option}") from error
