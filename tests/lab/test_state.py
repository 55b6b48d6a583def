"""A distribution's own device model in the lab, who restores what it has saved, and whether anything is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import Run
from xenqemu.state import StateDir


def test_the_distributions_own_device_model_boots_a_guest(xenqemu: Run) -> None:
    report = json.loads(xenqemu("lab", "cases", "boot-sector", "--dm", "distro:4.20", "--xen", "4.20", "--json").stdout)
    (guest,) = report["guests"]
    assert guest["booted"], guest["reason"]
    assert "packaged-4.20-" in guest["device_model"]


def test_what_it_saved_is_restored_here(device_model: Path, shared_state: StateDir, tmp_path: Path) -> None:
    words = ["--xen", "4.17", "--savers", "distro", "--json", str(tmp_path / "table.json")]
    script = Path(__file__).parents[2] / "scripts/state-table"
    subprocess.run(
        [sys.executable, script, *words, "distro=distro:4.17", f"here={device_model}"],
        check=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XENQEMU_STATE_DIR": str(shared_state.root)},
    )
    table = json.loads((tmp_path / "table.json").read_bytes())
    assert [(row["restorer"], row["reason"]) for row in table] == [("distro", ""), ("here", "")]


def test_guests_leave_nothing_behind(xenqemu: Run, device_model: Path) -> None:
    done = xenqemu("lab", "soak", "--cycles", "4", "--saves", "1", "--dm", device_model, "--json", exit_code=None)
    assert json.loads(done.stdout)["leaks"] == [], done.stderr
    assert done.returncode == 0
