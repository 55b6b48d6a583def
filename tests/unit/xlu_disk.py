"""libxlutil's own parser of disk specifications, called through ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass


class _DeviceDisk(ctypes.Structure):
    """The structure of libxl 4.17 (_libxl_types.h), as far as it is looked at, and room behind it for later ones."""

    _fields_ = (
        ("backend_domid", ctypes.c_uint32),
        ("backend_domname", ctypes.c_char_p),
        ("pdev_path", ctypes.c_char_p),
        ("vdev", ctypes.c_char_p),
        ("backend", ctypes.c_int),
        ("format", ctypes.c_int),
        ("script", ctypes.c_char_p),
        ("removable", ctypes.c_int),
        ("readwrite", ctypes.c_int),
        ("is_cdrom", ctypes.c_int),
        ("room", ctypes.c_uint64 * 64),
    )


@dataclass(frozen=True)
class Parsed:
    """What libxlutil made of a specification."""

    target: bytes
    format: int
    vdev: bytes
    writable: bool
    cdrom: bool
    backend: int
    script: bytes
    domain: bytes


class DiskOracle:
    """The loaded library."""

    def __init__(self) -> None:
        self._util = ctypes.CDLL("libxlutil.so")
        libc = ctypes.CDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        self._util.xlu_cfg_init.restype = ctypes.c_void_p
        self._util.xlu_cfg_init.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
        self._util.xlu_disk_parse.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._config = self._util.xlu_cfg_init(libc.fopen(b"/dev/null", b"w"), b"test")
        self._init = ctypes.CDLL("libxenlight.so").libxl_device_disk_init
        self._init.argtypes = (ctypes.c_void_p,)

    def parse(self, spec: bytes) -> Parsed | None:
        """Return what it makes of `spec`, None when it refuses it."""
        disk = _DeviceDisk()
        self._init(ctypes.byref(disk))
        specs = (ctypes.c_char_p * 1)(spec)
        if self._util.xlu_disk_parse(self._config, 1, specs, ctypes.byref(disk)):
            return None
        return Parsed(
            disk.pdev_path or b"",
            disk.format,
            disk.vdev or b"",
            bool(disk.readwrite),
            bool(disk.is_cdrom),
            disk.backend,
            disk.script or b"",
            disk.backend_domname or b"",
        )
