"""QEMU's version numbers."""

from __future__ import annotations

import pytest
from packaging.version import Version

from xenqemu.versions import release_of


@pytest.mark.parametrize(
    ("version", "release"),
    [("10.2.2", "10.2.2"), ("10.1.50", "10.2"), ("10.1.91", "10.2"), ("10.2.50", "11.0"), ("7.2.0", "7.2.0")],
)
def test_a_tree_counts_as_the_release_that_it_leads_to(version: str, release: str) -> None:
    assert release_of(Version(version)) == Version(release)
