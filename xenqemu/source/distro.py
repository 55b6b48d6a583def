"""A QEMU from the machine's own package archive."""

from __future__ import annotations

from collections.abc import Sequence

from xenqemu.source.apt import fetch_source
from xenqemu.source.model import QemuSource, QemuTree
from xenqemu.source.tarball import import_tarball
from xenqemu.state import StateDir
from xenqemu.ui import Ui


def obtain_distro(source: QemuSource, state: StateDir, ui: Ui, supported_series: Sequence[str]) -> QemuTree:
    """Import the newest QEMU of the wanted series (none: of `supported_series`) that the archive has.

    Raises what `xenqemu.source.apt.fetch_source` and `xenqemu.source.store.import_once` raise.
    """
    fetched = fetch_source(
        "qemu", source.location, state, ui, supported_series=supported_series, refresh=source.refresh
    )
    imported = import_tarball(fetched.path, fetched.sha256, state, ui)
    origin = {
        "kind": source.kind.value,
        "location": f"distro:{source.location}".rstrip(":"),
        "suite": fetched.suite,
        "file": fetched.path.name,
        "sha256": fetched.sha256,
        "verified": "archive signature",
    }
    if fetched.aged:
        origin["index_age"] = "not checked"
    return QemuTree(state.git, imported.tree, imported.version, origin)
