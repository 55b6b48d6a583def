"""Measuring a real build, by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Run

# Other tests build this one too.
SERIES = "10.2"


@pytest.fixture(scope="module")
def built(xenqemu: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "dist"
    done = xenqemu("build", "--qemu", f"distro:{SERIES}", "--out", out)
    return Path(done.stdout.strip())


def test_sizes_of_a_build(xenqemu: Run, built: Path, tmp_path: Path) -> None:
    done = xenqemu("bench", "--only", "size", "--dm", built, "--work", tmp_path / "work", "--json")
    values = json.loads(done.stdout)
    assert values["missing"] == []
    figures = {name: one["median"]["qemu-system-xen"] for name, one in values["figures"].items()}
    manifest = json.loads((built.parents[1] / "manifest.json").read_text())
    # nothing is there to be stripped, or all of it is counted as if it were
    assert figures["stripped"] <= built.stat().st_size
    assert figures["text"] == manifest["cost"]["program"]["text"]
    assert figures["text"] + figures["data"] < figures["stripped"] * 1.1
    assert figures["relocations"] > 0
    # packed: a place takes less than its 24 bytes
    assert figures["relocation-count"] > figures["relocations"] / 24
    assert 5 < figures["needed"] < figures["libraries"]
    assert 20 < figures["device-types"] <= 80
    assert figures["device-types"] < figures["qom-types"]
