"""Pointing thousands of VM configs at a device model: `xenqemu vm use` beside `sed -i`, one process a file."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from xenqemu.bench.ours import command
from xenqemu.bench.rows import Row
from xenqemu.errors import BuildError

COUNT = 10_000
_CONFIG = """# HVM guest number {number}
type = "hvm"
name = "guest{number}"
memory = 1024
vcpus = 2
vif = [ 'bridge=xenbr0' ]
disk = [ '/dev/vg/guest{number},raw,xvda,rw' ]
sdl = 1
"""


def make(folder: Path, count: int) -> Path:
    """Make `folder` with `count` configs, on the disk before the clock is started, and return it."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.cfg").write_text(_CONFIG.format(number=number))
    subprocess.run(["sync", "--file-system", folder], check=True)
    return folder


def by_hand(folder: Path) -> float:
    """Return the seconds that `sed -i` takes for all configs in `folder`, called for each, and synced at the end.

    It keeps neither attributes nor an original, looks for nothing that contradicts, and is not safe against a crash.
    """
    lines = f'$a device_model_override = "{sys.executable}"\\ndevice_model_version = "qemu-xen"'
    names = b"\0".join(bytes(path) for path in folder.iterdir())
    started = time.monotonic()
    subprocess.run(["xargs", "-0", "-n", "1", "sed", "-i", "-e", lines], input=names, check=True)
    subprocess.run(["sync", "--file-system", folder], check=True)
    return time.monotonic() - started


def ours(folder: Path, state: Path) -> float:
    """Return the seconds that one `xenqemu vm use` takes for them, each synced and its original kept."""
    words: list[str | Path] = [
        command(),
        "--state-dir",
        state,
        "vm",
        "use",
        "--all-hvm",
        folder,
        "--dm",
        sys.executable,
    ]
    started = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def rows(work: Path, count: int = COUNT) -> tuple[Row, ...]:
    """Measure below `work` and return the rows; raises `BuildError` when a config was not changed."""
    manual = by_hand(make(work / "configs-sed", count))
    folder = make(work / "configs-xenqemu", count)
    seconds = ours(folder, work / "configs-state")
    if not all("device_model_override" in path.read_text() for path in folder.iterdir()):
        raise BuildError(f"`vm use` has left configs in {folder} as they were")
    return (
        Row(f"{count:,} VM configs, synced and kept", "s", seconds, limit=10),
        Row("the same beside `sed -i`", "s", seconds, manual),
    )
