"""A pkg-config that finds the files of one folder and nothing of the machine's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def confine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a pkg-config that knows only the .pc files in `folder` first on PATH, by what no variable can change."""
    real = shutil.which("pkg-config")
    assert real
    programs = folder / "confined"
    programs.mkdir()
    script = programs / "pkg-config"
    script.write_text(f'#!/bin/sh\nPKG_CONFIG_LIBDIR={folder}\nexport PKG_CONFIG_LIBDIR\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), os.environ["PATH"]]))
    monkeypatch.delenv("PKG_CONFIG_PATH", raising=False)
