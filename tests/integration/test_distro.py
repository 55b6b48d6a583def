"""The machine's real package archive."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NoReturn

import pytest

from xenqemu.source import obtain, parse_source
from xenqemu.source.apt import fetch_source
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi

SERIES = ("7.2", "10.0", "10.2")


def system_state() -> dict[str, int]:
    """Return when anything last changed in the folders of the system's own apt."""
    folders = ("/etc/apt", "/var/lib/apt", "/var/cache/apt")
    paths = (Path(top, name) for start in folders for top, _, names in os.walk(start) for name in ("", *names))
    return {str(path): path.lstat().st_mtime_ns for path in paths}


def refuse(*argv: object, **_: object) -> NoReturn:
    raise AssertionError(f"asked again: {argv}")


@pytest.mark.parametrize("series", [*SERIES, ""])
def test_a_series_from_the_archive(series: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = system_state()
    state = StateDir(tmp_path / "state").create()
    source = parse_source(f"distro:{series}".rstrip(":"))
    tree = obtain(source, state, PlainUi(), supported_series=SERIES)
    assert str(tree.version).startswith(f"{series or SERIES[-1]}.")
    assert tree.origin["verified"] == "archive signature"
    # Neither apt nor the archive is asked for what was found before.
    monkeypatch.setattr("xenqemu.archive.apt.run", refuse)
    monkeypatch.setattr("xenqemu.source.apt.machine_archive", refuse)
    assert obtain(source, state, PlainUi(), supported_series=SERIES) == tree
    assert system_state() == before


def test_the_source_of_xen(newest_xen: str, shared_state: StateDir) -> None:
    found = fetch_source("xen", newest_xen, shared_state, PlainUi())
    assert found.version.startswith(newest_xen)
    with found.path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == found.sha256
