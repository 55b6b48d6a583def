"""`patches export`: the series as files for distributions, which keep patches in quilt or apply them with git."""

from __future__ import annotations

from pathlib import Path

from xenqemu.errors import UsageError
from xenqemu.gitstore import GitStore
from xenqemu.state import StateDir, write_atomic

SERIES_FILE = "series"


def export_series(base: str, commit: str, folder: Path, state: StateDir) -> tuple[Path, ...]:
    """Write the commits after `base` up to `commit` to `folder` as numbered patches and return their paths.

    The files are what `git am` takes; `series` lists them in order, which is what quilt takes. Patches that an
    earlier export put there and that are no longer part of the series are removed. Raises `UsageError` when
    `folder` holds something that is no export.
    """
    listing = folder / SERIES_FILE
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not listing.is_file())):
        raise UsageError(
            f"{folder} holds something else than an exported series", "give a new or empty folder, or an earlier export"
        )
    earlier = listing.read_text().split() if listing.is_file() else []
    folder.mkdir(parents=True, exist_ok=True)
    with state.scratch("export") as scratch:
        GitStore.open(state).repo().git.format_patch(
            "--no-signature", "--zero-commit", "--quiet", "-o", str(scratch), f"{base}..{commit}"
        )
        names = sorted(path.name for path in scratch.iterdir())
        for name in names:
            write_atomic(folder / name, (scratch / name).read_bytes())
    write_atomic(listing, "".join(f"{name}\n" for name in names).encode())
    for name in set(earlier) - set(names):
        # Names come from a file in a folder of the user's: nothing outside that folder may be meant.
        if Path(name).name == name:
            (folder / name).unlink(missing_ok=True)
    return tuple(folder / name for name in names)
