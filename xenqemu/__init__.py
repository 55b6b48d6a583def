"""xenqemu: an upstream QEMU goes in, a Xen device model comes out.

`Workspace` is the way in for Python programs; docs/python.md has an example. The other names are what its methods take
and return, and what they raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xenqemu.api import Workspace
    from xenqemu.build.model import Artifact, BuildOptions, Layout, Offload
    from xenqemu.errors import (
        BuildError,
        LabError,
        MissingError,
        PatchError,
        SourceError,
        UsageError,
        VmConfigError,
        XenqemuError,
    )
    from xenqemu.lab.result import GuestResult, Report
    from xenqemu.series.model import PatchedTree
    from xenqemu.source.model import QemuSource, QemuTree, SourceKind
    from xenqemu.target.tree import TargetTree
    from xenqemu.ui import PlainUi, QuietUi, Ui
    from xenqemu.vm.result import FileResult
    from xenqemu.xen.model import XenSdk

# Where each name is; its module is imported when the name is used, so that the command line starts quickly.
_HOMES = {
    "Workspace": "api",
    **dict.fromkeys(("Artifact", "BuildOptions", "Layout", "Offload"), "build.model"),
    **dict.fromkeys(
        (
            "BuildError",
            "LabError",
            "MissingError",
            "PatchError",
            "SourceError",
            "UsageError",
            "VmConfigError",
            "XenqemuError",
        ),
        "errors",
    ),
    **dict.fromkeys(("GuestResult", "Report"), "lab.result"),
    "PatchedTree": "series.model",
    **dict.fromkeys(("QemuSource", "QemuTree", "SourceKind"), "source.model"),
    "TargetTree": "target.tree",
    **dict.fromkeys(("PlainUi", "QuietUi", "Ui"), "ui"),
    "FileResult": "vm.result",
    "XenSdk": "xen.model",
}

__all__ = [
    "Artifact",
    "BuildError",
    "BuildOptions",
    "FileResult",
    "GuestResult",
    "LabError",
    "Layout",
    "MissingError",
    "Offload",
    "PatchError",
    "PatchedTree",
    "PlainUi",
    "QemuSource",
    "QemuTree",
    "QuietUi",
    "Report",
    "SourceError",
    "SourceKind",
    "TargetTree",
    "Ui",
    "UsageError",
    "VmConfigError",
    "Workspace",
    "XenSdk",
    "XenqemuError",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'xenqemu' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"xenqemu.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
