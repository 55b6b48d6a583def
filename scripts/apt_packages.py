"""Print the Debian packages of the named groups of xenqemu/doctor/requirements.toml, one a line.

usage: apt_packages.py FILE GROUP...

Only the standard library: this runs before there is a virtual environment.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every table below `value` that has a `group`."""
    if isinstance(value, dict):
        if "group" in value:
            yield value
        for below in value.values():
            yield from _entries(below)
    elif isinstance(value, list):
        for below in value:
            yield from _entries(below)


def packages(file: Path, groups: set[str]) -> list[str]:
    """Return the packages (`apt = [...]`) of all entries of `file` whose `group` is in `groups`, sorted.

    Raises `OSError` and `tomllib.TOMLDecodeError` for a file that cannot be read.
    """
    content = tomllib.loads(file.read_text())
    return sorted({package for entry in _entries(content) if entry["group"] in groups for package in entry["apt"]})


if __name__ == "__main__":
    print("\n".join(packages(Path(sys.argv[1]), set(sys.argv[2:]))))
