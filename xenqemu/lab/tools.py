"""Programs of the lab's own that steps run in dom0, from guests/NAME.c."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from xenqemu.errors import MissingError
from xenqemu.proc import CommandFailedError, run


def compile_tool(name: str, folder: Path) -> Path:
    """Compile the program called `name` into the existing `folder` and return its path.

    It needs no library, as dom0 has no more of them than its own programs use. The same compiler gives the same bytes.
    Raises `MissingError` when there is no C compiler, or none with a static C library.
    """
    program = folder / name
    try:
        with resources.as_file(resources.files("xenqemu.lab") / "guests" / f"{name}.c") as source:
            run(("cc", "-O1", "-s", "-static", "-o", program, source))
    except CommandFailedError as error:
        said = [line for line in error.completed.stderr.splitlines() if "error:" in line or "cannot" in line]
        raise MissingError(
            f"the lab's program {name} could not be compiled: {(said or ['the compiler said nothing'])[0].strip()}",
            "it takes a C compiler with a static C library, which Debian has in gcc and libc6-dev",
        ) from error
    return program
