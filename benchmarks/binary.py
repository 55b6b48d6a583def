"""What a finished device model is like."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Binary:
    """A device model: bytes when stripped, libraries that the loader maps, QOM types that `-device` offers."""

    stripped: int
    libraries: int
    devices: int


def count_devices(help_text: str) -> int:
    """Return the number of types in the output of `-device help`."""
    return sum(line.startswith('name "') for line in help_text.splitlines())


def examine(program: Path) -> Binary:
    """Examine a built `qemu-system-*`. Raises `subprocess.CalledProcessError` when it does not even start."""

    def said(*argv: str | Path) -> str:
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    with tempfile.TemporaryDirectory() as scratch:
        stripped = Path(scratch) / "stripped"
        said("strip", "-o", stripped, program)
        size = stripped.stat().st_size
    return Binary(size, len(said("ldd", program).splitlines()), count_devices(said(program, "-device", "help")))
