"""An imitation of an artifact, and of runs of the lab with it, for reports: this machine's true(1) as device model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from xenqemu.build.ninja_log import Step, dump_steps
from xenqemu.state import StateDir

KEY = "ab12" * 16
STEPS = (Step(0, 40, "qapi/a.c"), Step(10, 90, "libsystem.a.p/hw_net_a.c.o"), Step(90, 120, "qemu-system-xen"))


def program_sha256() -> str:
    return hashlib.sha256(Path("/bin/true").read_bytes()).hexdigest()


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "xenqemu": "0.1.0",
        "key": KEY,
        "program": "bin/qemu-system-xen",
        "qemu": {"version": "10.2.2", "commit": "c0ffee", "origin": {"location": "distro"}},
        "xen": {"version": "4.20", "kind": "system"},
        "profile": {"name": "hvm", "sha256": "another"},
        "patches": [{"topic": "010-xen-dm-target", "file": "010-xen-dm-target/10.0.patch", "sha256": "0"}],
        "cost": {"areas": {"hw/net": 1000}, "program": {"text": 5, "data": 0, "bss": 7}},
        "outputs": [
            {
                "path": "bin/qemu-system-xen",
                "sha256": program_sha256(),
                "size": Path("/bin/true").stat().st_size,
                "mode": "0755",
            }
        ],
        **more,
    }


def make_artifact(state: StateDir, **more: Any) -> Path:
    """Make an artifact in `state` and return its folder; `more` is what its manifest has otherwise."""
    folder = state.artifacts / KEY
    (folder / "tree/bin").mkdir(parents=True)
    shutil.copy("/bin/true", folder / "tree/bin/qemu-system-xen")
    (folder / "manifest.json").write_text(json.dumps(manifest(**more)))
    timings = {"configure": {"wall": 8, "cpu": 7}, "compile": {"wall": 4.5, "cpu": 8}, "install": {"wall": 1, "cpu": 1}}
    (folder / "timings.json").write_text(json.dumps(timings))
    (folder / "steps.json").write_bytes(dump_steps(STEPS))
    return folder


def guest(run: Path, model: Path, name: str = "boot-sector", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "config": str(run / name / f"{name}.cfg"),
        "device_model": str(model),
        "tried": True,
        "created": True,
        "create_seconds": 6.2,
        "booted": True,
        "sign": "'up xen=4.20' on the serial port",
        "boot_seconds": 11.3,
        "steps_seconds": None,
        "reason": "",
        "memory": {"rss": 13_389_824},
        "screenshot": "",
        "stem": name,
        "notes": ["VNC is switched on for the screenshot"],
        "log": [],
        **more,
    }


def make_run(state: StateDir, number: int, model: Path, *guests: dict[str, Any], **more: Any) -> Path:
    """Make the folder of a run that booted `guests` (one, unless given) with the device model in the file `model`."""
    run = state.lab / "runs" / str(number)
    run.mkdir(parents=True)
    said = {
        "xen": "4.20.3",
        "host_seconds": 6.1,
        "guests": list(guests) or [guest(run, model)],
        "device_models": {str(model): program_sha256()},
        **more,
    }
    (run / "boot-sector.serial-port.log").write_bytes(b"\x1b[2J\x1b[1;1Hxenqemu-guest: \x07up\r\n\xff")
    (run / "boot-sector.xl.log").write_text("libxl: much of it\n")
    (run / "result.json").write_text(json.dumps(said))
    os.utime(run / "result.json")
    return run


def make_picture(path: Path) -> Path:
    Image.new("RGB", (80, 50), "navy").save(path)
    return path
