"""What a Linux stub domain is made of, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModuleFile:
    """A kernel module: `when` it is loaded (see stubdom.toml), its file's `name`, its `content`, its `parameters`."""

    when: str
    name: str
    content: Path
    parameters: str


@dataclass(frozen=True)
class Parts:
    """What a stub domain has from the package archive, without a device model.

    `kernel` is a bzImage that Xen boots as a PV guest, of release `kernel_release`, `modules` are in the order to load
    them. `programs` are files by their name in /bin, `libraries` what these need by soname, the dynamic loader among
    them, `libc` all files of the C library by name, `firmware` the device model's data by file name. `packages` says
    which version of each package it came from.
    """

    series: str
    kernel: Path
    kernel_release: str
    modules: tuple[ModuleFile, ...]
    programs: Mapping[str, Path]
    libraries: Mapping[str, Path]
    libc: Mapping[str, Path]
    firmware: Mapping[str, Path]
    packages: Mapping[str, str]


@dataclass(frozen=True)
class StubDomain:
    """A stub domain in a folder: `kernel` and `initramfs`, absolute, and how many MiB of `memory` it takes."""

    kernel: Path
    initramfs: Path
    memory: int
