"""Errors as GitHub shows them beside the lines of a file: commands to its runner, one a line of output.

The runner reads them from stdout and stderr alike (src/Runner.Worker/Handlers/OutputManager.cs), so that they can stay
off stdout. It undoes the escapes of `unescape` in src/Runner.Common/ActionCommand.cs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xenqemu.results.model import Results
from xenqemu.text import decodable

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def on_github(environment: Mapping[str, str]) -> bool:
    """Whether a runner of GitHub Actions reads what is written."""
    return environment.get("GITHUB_ACTIONS") == "true"


def error_annotations(results: Results, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line for each check that failed; none where no runner reads them."""
    if not on_github(environment):
        return ()
    return tuple(
        annotation(
            "error",
            f"{results.title}: {check.name}",
            check.message or check.status.value,
            inside(check.file, environment),
            check.line,
        )
        for check in results.checks
        if not check.status.ok
    )


def annotation(level: str, title: str, message: str, file: str = "", line: int = 0) -> str:
    """Return the line that makes GitHub show `message`, an "error" or a "warning"; `file` is as of `inside`."""
    properties = {"file": file, "line": str(line) if line else "", "title": title}
    words = ",".join(f"{name}={_escaped(value, _PROPERTY)}" for name, value in properties.items() if value)
    return f"::{level} {words}::{_escaped(message, _DATA)}"


def inside(file: str, environment: Mapping[str, str]) -> str:
    """Return `file` relative to the repository, empty when it is outside: GitHub could show nothing there."""
    if not file:
        return ""
    root = Path(environment.get("GITHUB_WORKSPACE") or ".").resolve()
    try:
        return Path(file).resolve().relative_to(root).as_posix()
    except (OSError, RuntimeError, ValueError):  # a path that cannot be one
        return ""


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    return "".join(escapes.get(char, char) for char in decodable(text))
