"""The boot sector guest: assembled from the project's own source into a disk that a BIOS starts."""

from __future__ import annotations

import enum
from importlib import resources
from pathlib import Path

from xenqemu.errors import MissingError
from xenqemu.lab.disk_image import pattern_disk
from xenqemu.proc import CommandFailedError, run
from xenqemu.state import write_atomic

# Where a PC BIOS loads a boot sector.
_ORIGIN = "0x7c00"
# The source of the boot sector guest below guests/.
BOOT_SECTOR = "boot-sector.S"


class BootSector(enum.Enum):
    """How the boot sector guest starts, or what it does in the end; the value is a symbol of its source, or empty."""

    STAYS = ""
    POWERS_OFF = "POWEROFF"
    UNSIGNED = "UNSIGNED"  # nothing at all: the BIOS does not start it
    FROM_CD = "FROM_CD"  # all of it is loaded at once, from a CD


def assemble(folder: Path, variant: BootSector = BootSector.STAYS, program: str = BOOT_SECTOR) -> bytes:
    """Return the machine code of the boot sector guest, the boot sector first; `folder` takes what lies between.

    `program` is the source below guests/ of it or of another one, which is started the same way.

    Raises `MissingError` when there are no binutils for x86.
    """
    source = resources.files("xenqemu.lab") / "guests" / program
    symbols = ["--defsym", f"{variant.value}=1"] if variant.value else []
    object_file, binary = folder / "boot-sector.o", folder / "boot-sector.bin"
    try:
        with resources.as_file(source) as path:
            run(["as", "--32", *symbols, "-o", object_file, path])
        # Without --build-id=none a linker whose default it is would put a note in front of the code.
        link = ["ld", "-m", "elf_i386", "--oformat", "binary", "--build-id=none", "-Ttext", _ORIGIN, "-e", "_start"]
        run([*link, "-o", binary, object_file])
    except CommandFailedError as error:
        said = error.completed.stderr.strip().splitlines() or ["it said nothing"]
        raise MissingError(
            f"the boot sector guest could not be assembled: {said[-1]}",
            "it takes GNU binutils for x86 as `as` and `ld`",
        ) from error
    code = binary.read_bytes()
    object_file.unlink()
    binary.unlink()
    return code


def build_boot_sector(folder: Path, variant: BootSector = BootSector.STAYS) -> Path:
    """Write the boot sector guest's disk (raw, 1 MiB) into the existing `folder` and return its path.

    The disk is the same for the same variant and binutils. Raises `MissingError` when there are no binutils for x86.
    """
    path = folder / "boot-sector.img"
    write_atomic(path, pattern_disk(assemble(folder, variant)))
    return path
