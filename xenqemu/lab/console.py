"""What the console of a virtual host says about its end: for explanations, never for control."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

# A console can grow without bound; reasons are near its end.
_TAIL = 64 << 10


@cache
def _reasons() -> tuple[tuple[re.Pattern[str], str], ...]:
    data = tomllib.loads(Path(__file__).with_name("lab.toml").read_text())
    return tuple((re.compile(entry["pattern"], re.MULTILINE), entry["means"]) for entry in data["console"])


def tail(path: Path, lines: int = 5) -> str:
    """Return the last `lines` lines of a log that say something, empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            text = file.read().decode("utf-8", "backslashreplace")
    except OSError:
        return ""
    said = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return "\n".join(said[-lines:])


def reason(path: Path) -> str:
    """Return in a line why the host whose console log is at `path` ended; empty when the log does not say it."""
    text = tail(path, lines=_TAIL)
    for pattern, means in _reasons():
        match = pattern.search(text)
        if match is not None:
            return means.format(*match.groups())
    return ""
