"""An explanation as text."""

from __future__ import annotations

from collections.abc import Iterator

from xenqemu.explain.model import Explanation


def text(explanation: Explanation) -> str:
    """Return what `explanation` says, for people: causes with remedies and the lines that say so."""
    return "\n".join(_lines(explanation))


def _lines(one: Explanation) -> Iterator[str]:
    subject = one.subject or "the guest"
    if not one.failed:
        yield f"{subject}: nothing in its logs speaks of a failure"
    elif not one.findings:
        yield f"{subject}: the cause is not known; these lines matter:"
    for number, finding in enumerate(one.findings):
        yield f"{subject}: {'also: ' if number else ''}{finding.cause}"
        yield f"  {finding.remedy}"
        yield from (f"    {line}" for line in finding.lines)
    yield from (f"    {line}" for line in one.lines)
