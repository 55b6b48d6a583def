"""Results as Markdown, for the page of a CI job."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from xenqemu.results.model import Check, Results, Status
from xenqemu.templates import text_environment
from xenqemu.text import printable
from xenqemu.ui import format_seconds

if TYPE_CHECKING:
    from jinja2 import Template

# GitHub refuses a summary of more than 1 MiB, whole; a row is at most some 600 bytes.
_ROWS = 500
_MESSAGE = 500
# What CommonMark, GitHub's tables and HTML would read as something else than text.
_SPECIAL = re.compile(r"[\\`*_\[\]<>&~$]")


def summary(results: Results) -> str:
    """Return a section with the facts, what is not as it should be, and, folded, what passed."""
    told = sorted((one for one in results.checks if one.status is not Status.PASSED), key=_worst_first)
    passed = [one for one in results.checks if one.status is Status.PASSED]
    return _template().render(
        results=results,
        counts=[(results.count(status), status.value) for status in Status if results.count(status)],
        told=told[:_ROWS],
        passed=passed[:_ROWS],
        left_out=len(told[_ROWS:]) + len(passed[_ROWS:]),
    )


@cache
def _template() -> Template:
    environment = text_environment("xenqemu.results")
    environment.filters |= {"cell": cell, "seconds": format_seconds}
    return environment.get_template("summary.md.j2")


def cell(value: object) -> str:
    """Return `value` as Markdown that shows it as it is, in a line and in a cell of a table."""
    text = " ".join(printable(value, keep="\n\t").split())
    if len(text) > _MESSAGE:
        text = text[:_MESSAGE] + "..."
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", text).replace("|", "&#124;")


def _worst_first(check: Check) -> int:
    return (Status.ERROR, Status.FAILED, Status.SKIPPED).index(check.status)
