"""Opening an ELF file of a build to look into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xenqemu.errors import BuildError


@contextmanager
def open_elf(path: Path) -> Iterator[Any]:
    """Enter with the `ELFFile` of `path`.

    Raises `BuildError` when it is none, also where that shows only as it is read: pyelftools trips over a damaged file
    in whatever it was reading.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as file:
            yield ELFFile(file)
    except (ELFError, OSError, ValueError, KeyError, AssertionError) as error:
        raise BuildError(f"{path} cannot be read as an ELF file: {error}") from error
