"""Programs of the lab's own that steps run in dom0, from guests/NAME.c, and libraries."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from xenqemu.errors import MissingError
from xenqemu.proc import CommandFailedError, run


def compile_tool(name: str, folder: Path) -> Path:
    """Compile the program called `name` into the existing `folder` and return its path.

    A name may begin with a folder below guests/. One that ends in .so is a library, for a process with this machine's C
    library, such as a device model is in the lab; all others are programs. These need no library, as dom0 has no more
    of them than its own programs use. The same compiler gives the same bytes.
    Raises `MissingError` when there is no C compiler, or none with a static C library.
    """
    program = folder / Path(name).name
    kind = ("-shared", "-fPIC") if program.suffix == ".so" else ("-static",)
    try:
        with resources.as_file(resources.files("xenqemu.lab") / "guests" / f"{name.removesuffix('.so')}.c") as source:
            run(("cc", "-O1", "-s", *kind, "-o", program, source))
    except CommandFailedError as error:
        said = [line for line in error.completed.stderr.splitlines() if "error:" in line or "cannot" in line]
        raise MissingError(
            f"the lab's program {name} could not be compiled: {(said or ['the compiler said nothing'])[0].strip()}",
            "it takes a C compiler with a static C library, which Debian has in gcc and libc6-dev",
        ) from error
    return program
