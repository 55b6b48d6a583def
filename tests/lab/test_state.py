"""A distribution's own device model in the lab, who restores what it has saved, and whether anything is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from xenqemu.contract.machine import Machine
from xenqemu.lab.packaged import packaged_device_model
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi


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


# The machine that xl asks for is of a fixed version; this is the oldest that each supported QEMU has without Xen, with
# what Xen's accelerator sets: no section but those of devices (xen_accel_class_init() in QEMU's accel/xen/xen-all.c).
MACHINE = ["-machine", "pc-i440fx-5.0,accel=qtest,vmport=off,suppress-vmdesc=on", "-m", "16", "-S", "-nodefaults"]
GLOBALS = [f"migration.{name}=off" for name in ("send-configuration", "store-global-state", "send-section-footer")]
DEVICES = ["rtl8139,romfile=", "e1000,romfile=", "usb-tablet", "lsi53c895a", "ahci", "nec-usb-xhci"]


@pytest.mark.parametrize("xen", ["4.17", "4.20"])
def test_the_state_of_the_distributions_devices_is_taken(
    device_model: Path, shared_state: StateDir, tmp_path: Path, xen: str
) -> None:
    stock = packaged_device_model(xen, shared_state, QuietUi())
    words = [*MACHINE, "-display", "none", "-no-user-config", "-usb"]
    words += [word for name in GLOBALS for word in ("-global", name)]
    words += [word for name in DEVICES for word in ("-device", name)]
    saved = tmp_path / "state"
    save = {"execute": "xen-save-devices-state", "arguments": {"filename": str(saved), "live": False}}
    (tmp_path / "stock").mkdir()
    started = Machine(stock, tmp_path / "stock").run([*words, "-bios", str(tmp_path / "stock/bios.bin")], [save])
    assert saved.stat().st_size > 1000, started.complaint

    (tmp_path / "here").mkdir()
    with saved.open("rb") as state:
        load = {"execute": "migrate-incoming", "arguments": {"uri": f"fd:{state.fileno()}"}}
        words += ["-bios", str(tmp_path / "here/bios.bin"), "-incoming", "defer"]
        started = Machine(device_model, tmp_path / "here").run(
            words, [load, *[{"execute": "query-migrate"}] * 50], [state.fileno()]
        )
    assert started.complaint == ""
    assert started.answers[-2]["return"]["status"] == "completed"
