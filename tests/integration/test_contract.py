"""The table of the contract has what the libxl of both supported Xens can pass, no less and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xenqemu.source.apt import fetch_source
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/contract"


@pytest.mark.parametrize("series", ["4.17", "4.20"])
def test_the_table_and_libxl_agree(shared_state: StateDir, tmp_path: Path, series: str) -> None:
    fetched = fetch_source("xen", series, shared_state, PlainUi())
    wanted = ("--wildcards", "*/tools/libs/light/*", "*/xen/Makefile")
    subprocess.run(["tar", "--no-same-owner", "-xf", fetched.path, "-C", tmp_path, *wanted], check=True)
    tree = next(tmp_path.glob("**/tools/libs/light")).parents[2]
    done = subprocess.run([sys.executable, SCRIPT, tree], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "all of it is in the table" in done.stdout

    # A libxl that passes one thing more, or one less, is noticed.
    source = tree / "tools/libs/light/libxl_dm.c"
    text = source.read_text()
    source.write_text(text.replace('"-no-shutdown"', '"-new-option"', 1))
    done = subprocess.run([sys.executable, SCRIPT, tree], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not in the table: '-new-option'" in done.stdout
    assert "not in this Xen: '-no-shutdown'" in done.stdout
