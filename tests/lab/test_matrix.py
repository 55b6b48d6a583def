"""Each supported QEMU, built here for each Xen of the lab, serves a guest under that Xen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from xenqemu.series.catalogue import load_series
from xenqemu.xen import of_release

SERIES = [str(series) for series in load_series().supported]
XENS = ["4.17", "4.20"]


@pytest.fixture(scope="module")
def build(xenqemu: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Build a device model for a Xen: the system's where it is that one, else the libraries of its source tree."""

    def build(series: str, xen: str) -> Path:
        out = tmp_path_factory.mktemp(f"{series}-{xen}") / "dist"
        xenqemu("build", "--qemu", f"distro:{series}", "--xen", of_release(xen), "--out", out)
        return out / "bin" / "qemu-system-xen"

    return build


@pytest.mark.parametrize("xen", XENS)
@pytest.mark.parametrize("series", SERIES)
def test_a_guest_boots(xenqemu: Run, build: Callable[[str, str], Path], series: str, xen: str) -> None:
    # The newest drives a Linux guest too, by its emulated card; its paravirtual drivers are for test_guests.py.
    cases = ["boot-sector", *(["linux-emulated"] if series == SERIES[-1] else [])]
    done = xenqemu("lab", "cases", *cases, "--dm", build(series, xen), "--json")
    report = json.loads(done.stdout)
    assert report["xen"].startswith(f"{xen}.")  # chosen by what the device model is linked against
    assert [guest["name"] for guest in report["guests"] if guest["booted"]] == cases
