"""Logs held against the table."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from xenqemu.explain.model import Cause, Condition, Explanation, Finding, Line, Log
from xenqemu.explain.table import causes, is_noise, is_telling

# Of what nobody has an explanation for, so many lines of each log are shown.
_MOST_LINES = 8
_MOST_EVIDENCE = 3


def explain(logs: Sequence[Log], subject: str = "") -> Explanation:
    """Return what `logs`, which are all of one guest, say together.

    An entry of the table counts once, whatever the number of its lines. What only says that something failed is told
    where nothing says why; else it is kept as a line of the finding that does.
    """
    words = _last_line(logs, "device-model")
    real: list[Finding] = []
    symptoms: list[Finding] = []
    for cause in causes():
        # What an entry before has explained is not explained again, by a more general one.
        explained = {line for finding in real for line in finding.lines}
        match = _first(cause, logs, explained) if not (cause.gives_way and real) else None
        if match:
            (symptoms if cause.symptom else real).append(_finding(cause, *match, words))
    if real:
        # The most telling one, with what the device model said last and what libxl made of it.
        extra = [words] if words else []
        extra += [line for finding in symptoms for line in finding.lines]
        lines = tuple(dict.fromkeys((*real[0].lines, *extra)))[:_MOST_EVIDENCE]
        return Explanation(subject, (replace(real[0], lines=lines), *real[1:]), (), tuple(logs))
    lines = tuple(line for log in logs for line in _telling(log))
    return Explanation(subject, tuple(symptoms[:1]), lines, tuple(logs))


def last_words(log: Log) -> str:
    """Return the last line of a device model's log that can be why it ended, empty when there is none."""
    line = _last_line((log,), log.kind)
    return line.text.strip() if line else ""


def _last_line(logs: Sequence[Log], kind: str) -> Line | None:
    own = [line for log in logs if log.kind == kind for line in log.lines]
    return next((line for line in reversed(own) if not is_noise(line.text, kind)), None)


def _first(cause: Cause, logs: Sequence[Log], explained: Container[Line]) -> tuple[Line, re.Match[str]] | None:
    """Return where `cause` is first found in any of `logs`, in a line that is not `explained`; None if it is not."""
    if cause.silent and (_last_line(logs, cause.silent) or not any(log.kind == cause.silent for log in logs)):
        return None
    if cause.talking and not _last_line(logs, cause.talking):
        return None
    if cause.needs is not None and not _holds(cause.needs, logs):
        return None
    for log in logs:
        for line in log.lines if not log.kind or log.kind in cause.on else ():
            match = cause.pattern.search(line.text)
            # libxl's messages for debugging tell of what it tries, and of failures that it expects.
            if match and line not in explained and not is_noise(line.text, "libxl"):
                return line, match
    return None


def _holds(condition: Condition, logs: Iterable[Log]) -> bool:
    lines = (line for log in logs if log.kind in ("", condition.on) for line in log.lines)
    return any(condition.pattern.search(line.text) for line in lines)


def _finding(cause: Cause, line: Line, match: re.Match[str], words: Line | None) -> Finding:
    groups = {name: (value or "").strip() for name, value in match.groupdict().items()}
    groups["log"] = words.text if words else ""
    return Finding(
        id=cause.id,
        cause=_sentence(cause.cause.format(**groups)),
        remedy=_sentence(cause.remedy.format(**groups)),
        source=cause.source,
        symptom=cause.symptom,
        late=cause.late,
        lines=(line,),
    )


def _sentence(text: str) -> str:
    """Return `text` as a sentence, without what empty groups leave behind."""
    words = " ".join(text.split()).replace(" ()", "").replace(" ().", ".").rstrip(" .:,")
    return f"{words}." if words else ""


def _telling(log: Log) -> tuple[Line, ...]:
    """Return the lines of `log` that speak of a failure: of libxl's the first, which are nearest to the cause."""
    lines = [line for line in log.lines if is_telling(line.text, log.kind)]
    return tuple(lines[:_MOST_LINES] if log.kind == "libxl" else lines[-_MOST_LINES:])
