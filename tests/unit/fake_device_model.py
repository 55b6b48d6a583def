"""A device model that refuses what it is told to, in QEMU's words; started without arguments it is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_SCRIPT = """#!/bin/sh
me=${0##*/}
echo "$*" >> "$0.log"
for word in "$@" "files:$(ulimit -f)"; do
    while IFS='|' read -r refused message; do
        [ "$word" = "$refused" ] && { echo "$me: $word: $message" >&2; exit 1; }
    done < "$0.refuses"
done
case "$1" in
-version) echo "QEMU emulator version 10.2.2 (an imitation)" ;;
-accel) printf 'Accelerators supported in QEMU binary:\\n@ACCELERATOR@\\n' ;;
esac
"""


def make_device_model(
    folder: Path, refuses: Mapping[str, str] | None = None, *, accelerator: str = "xen", topics: tuple[str, ...] = ()
) -> Path:
    """Write one into folder/bin and return its path; `refuses` is argument to complaint, `topics` its series."""
    binary = folder / "bin" / "qemu-system-xen"
    binary.parent.mkdir(parents=True)
    binary.write_text(_SCRIPT.replace("@ACCELERATOR@", accelerator))
    binary.chmod(0o755)
    lines = "".join(f"{word}|{message}\n" for word, message in (refuses or {}).items())
    Path(f"{binary}.refuses").write_text(lines)
    manifest = {
        "program": "bin/qemu-system-xen",
        "qemu": {"version": "10.2.2"},
        "profile": {"name": "hvm"},
        "xen": {"version": "4.17"},
        "patches": list(topics),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return binary


def starts(binary: Path) -> list[str]:
    """Return the command lines that `binary` was started with."""
    log = Path(f"{binary}.log")
    return log.read_text().splitlines() if log.exists() else []
