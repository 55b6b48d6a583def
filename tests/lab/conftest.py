"""The state directory and the command of the integration tests, and a device model to boot guests with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.conftest import (
    Run,
    dist,
    newest_xen,
    page,
    shared_state,
    xen_sources,
    xen_trees,
    xenqemu,
    xenqemu_command,
)

__all__ = ["dist", "newest_xen", "page", "shared_state", "xen_sources", "xen_trees", "xenqemu", "xenqemu_command"]


# What takes longest, so that nothing waits for it at the end when files run side by side.
_FIRST = ("test_xen_unstable.py", "test_guests.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others, and the tests of a file, stay in their order."""
    items.sort(key=lambda item: _FIRST.index(item.path.name) if item.path.name in _FIRST else len(_FIRST))


@pytest.fixture(scope="session")
def device_model(xenqemu: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The device model that `XENQEMU_TEST_DEVICE_MODEL` names, else the default one, built unless it was before."""
    given = os.environ.get("XENQEMU_TEST_DEVICE_MODEL")
    if given:
        return Path(given).absolute()
    out = tmp_path_factory.mktemp("default") / "dist"
    xenqemu("build", "--out", out)
    return out / "bin" / "qemu-system-xen"
