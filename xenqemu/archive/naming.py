"""How the user names what the package archive has: `distro`, or of one release `distro:4.17`."""

from __future__ import annotations

_PREFIX = "distro"


def names_packaged(name: str) -> bool:
    """Whether `name`, where a Xen or a device model is to be named, means the archive's."""
    return name.partition(":")[0] == _PREFIX


def packaged_series(name: str) -> str:
    """Return the release in a `name` for which `names_packaged` holds, empty for none in particular."""
    return name.partition(":")[2]
