"""Programs that lie in a system of their own below some folder: started with its loader and its libraries.

A distribution's device model that was unpacked and not installed, or the one of a chroot, was linked against another
C library than this machine's, and asks for its dynamic loader by a path that leads to this machine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The program interpreter of the x86-64 psABI, as it is on every distribution.
_LOADER = "lib64/ld-linux-x86-64.so.2"
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib", "lib/x86_64-linux-gnu", "lib64", "lib")
_DATA = "usr/share/qemu"


@dataclass(frozen=True)
class Sysroot:
    """A system below the folder `root`."""

    root: Path

    @property
    def loader(self) -> Path:
        """Its dynamic loader."""
        return self.root / _LOADER

    @property
    def libraries(self) -> str:
        """Where its libraries are, as the loader's `--library-path` takes it."""
        return ":".join(str(self.root / place) for place in _LIBRARIES if (self.root / place).is_dir())

    @property
    def data(self) -> Path | None:
        """QEMU's data directory, None when it has none."""
        return self.root / _DATA if (self.root / _DATA).is_dir() else None

    def load(self, *options: str) -> tuple[str, ...]:
        """Return the command that its loader is, with `options`; the program follows.

        The machine's cache of libraries, and its LD_LIBRARY_PATH, do not count (ld.so(8)).
        """
        return (str(self.loader), "--inhibit-cache", "--library-path", self.libraries, *options)


def sysroot_of(program: Path) -> Sysroot | None:
    """Return the system that `program` lies in, the nearest one; None when that is this machine's own."""
    for folder in program.absolute().parents[:-1]:
        # With /usr merged, a system's usr/ looks like one.
        if folder.name != "usr" and (folder / _LOADER).exists():
            return Sysroot(folder)
    return None


def qemu_words(program: Path) -> tuple[str, ...]:
    """Return the command that starts the QEMU `program` on this machine: itself, unless it lies in a system of its own.

    There it looks for its data relative to /proc/self/exe, which is the loader (`qemu_init_exec_dir` in util/cutils.c).
    """
    sysroot = sysroot_of(program)
    if sysroot is None:
        return (str(program),)
    data = ("-L", str(sysroot.data)) if sysroot.data else ()
    return (*sysroot.load("--argv0", program.name), str(program), *data)
