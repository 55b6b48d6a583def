"""`patches export`: the series as files for distributions, which keep patches in quilt or apply them with git."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from xenqemu.errors import UsageError, is_disk_full
from xenqemu.gitstore import GitStore
from xenqemu.state import StateDir, write_atomic

SERIES_FILE = "series"
# Marks a folder as an export and lists what is in it. A distribution's debian/patches has a `series` file too.
MARKER = ".xenqemu-export"


def export_series(base: str, commit: str, folder: Path, state: StateDir) -> tuple[Path, ...]:
    """Write the commits after `base` up to `commit` to `folder` as numbered patches and return their paths.

    The files are what `git am` takes; `series` lists them in order, which is what quilt takes. Patches that an
    earlier export put there and that are no longer part of the series are removed, nothing else is. Raises
    `UsageError` when `folder` holds something that is no export, or cannot be written.
    """
    try:
        return _export(base, commit, folder, state)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(f"{folder} cannot be written: {error.strerror}", "give another folder") from error


def _export(base: str, commit: str, folder: Path, state: StateDir) -> tuple[Path, ...]:
    marker = folder / MARKER
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not marker.is_file())):
        raise UsageError(
            f"{folder} holds something else than an exported series", "give a new or empty folder, or an earlier export"
        )
    earlier = marker.read_text("utf-8").split() if marker.is_file() else []
    folder.mkdir(parents=True, exist_ok=True)
    with state.scratch("export") as scratch:
        GitStore.open(state).repo().git.format_patch(
            "--no-signature", "--zero-commit", "--quiet", "-o", str(scratch), f"{base}..{commit}"
        )
        names = sorted(path.name for path in scratch.iterdir())
        # Everything that may be there is listed before it is: a killed export is one that the next can clean up.
        write_atomic(marker, _lines(dict.fromkeys((*earlier, *names))))
        for name in names:
            write_atomic(folder / name, (scratch / name).read_bytes())
    write_atomic(folder / SERIES_FILE, _lines(names))
    for name in set(earlier) - set(names):
        # Names come from a file in a folder of the user's: nothing outside that folder may be meant.
        if Path(name).name == name:
            (folder / name).unlink(missing_ok=True)
    write_atomic(marker, _lines(names))
    return tuple(folder / name for name in names)


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()
