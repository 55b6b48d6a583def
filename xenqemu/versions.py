"""QEMU's version numbers."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from xenqemu.errors import UsageError

# The third number of a development tree, and from 90 of a release candidate: docs/devel/release-process.rst of QEMU.
DEVELOPMENT = 50
# QEMU has had x.0, x.1 and x.2 in each year since 2.x.
_LAST_MINOR = 2


def release_of(version: Version) -> Version:
    """Return the release whose code a tree of `version` has, or will have.

    A development tree (10.1.50) and a release candidate (10.1.91) count as the release that they lead to (10.2).
    """
    if version.micro < DEVELOPMENT:
        return version
    if version.minor < _LAST_MINOR:
        return Version(f"{version.major}.{version.minor + 1}")
    return Version(f"{version.major + 1}.0")


def parse_version(text: str) -> Version:
    """Return the QEMU version that the user wrote as `text`. Raises `UsageError` for what is none."""
    try:
        return Version(text)
    except InvalidVersion:
        raise UsageError(f"'{text}' is no QEMU version", "write it like 10.2 or 10.0.13") from None
