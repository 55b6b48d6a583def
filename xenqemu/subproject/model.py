"""What the folder knows of what is to be built, and what Xen's build has asked of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.source.model import QemuSource

# libxl starts it for a guest whose config names no device model (libxl__domain_device_model() in libxl_dm.c).
ALIAS = "qemu-system-i386"


@dataclass(frozen=True)
class Subproject:
    """A QEMU and a profile (a name, or the absolute path of a file), with the state directory where one was named."""

    qemu: QemuSource
    profile: str
    state_dir: Path | None = None


@dataclass(frozen=True)
class Asked:
    """What the flags of a configure run say.

    The folders are absolute and final, without DESTDIR. `features` has True for `--enable-NAME`. `remarks` are about
    flags that are met in another way than their name says.
    """

    prefix: str
    bindir: str | None = None
    datadir: str | None = None
    cflags: str = ""
    ldflags: str = ""
    debug_info: bool = False
    trace_backends: str | None = None
    features: dict[str, bool] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configured:
    """A build folder: what was asked, the Xen to build against as `--xen` has it, and the profile that results."""

    subproject: Subproject
    asked: Asked
    xen: str
    profile: str
