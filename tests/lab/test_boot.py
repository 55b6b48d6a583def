"""`xenqemu lab boot` as a user calls it: configs of one's own, in a real virtual host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Run
from xenqemu.lab.assemble import BootSector, assemble
from xenqemu.lab.disk_image import pattern_disk, to_qcow2
from xenqemu.state import StateDir

CONFIG = """\
# A guest of one's own.
name = "{name}"
type = "hvm"
memory = 64; vcpus = 1
serial = "pty"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a disk that boots, called disk.img."""
    disk = pattern_disk(assemble(tmp_path, BootSector.STAYS))
    (tmp_path / "disk.img").write_bytes(disk)
    return tmp_path


def config(folder: Path, name: str, *lines: str) -> str:
    path = folder / f"{name}.cfg"
    path.write_text(CONFIG.format(name=name) + "".join(f"{line}\n" for line in lines))
    return path.name


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_what_is_broken_is_told(xenqemu: Run, device_model: Path, folder: Path) -> None:
    disk = "disk = [ 'format=raw,vdev=hda,target=disk.img' ]"
    works = f'device_model_override = "{device_model}"'
    content = device_model.read_bytes()
    broken = folder / "truncated"
    broken.write_bytes(content[: len(content) // 2])
    broken.chmod(0o755)
    lacking = folder / "lacking"
    lacking.write_bytes(content.replace(b"libpixman-1.so.0", b"libpixmax-1.so.0"))
    lacking.chmod(0o755)
    silent = script(folder / "silent", "exit 1")
    speaking = script(folder / "speaking", "echo this device model is broken >&2; exit 3")
    (folder / "empty.img").write_bytes(bytes(1 << 20))
    (folder / "short.qcow2").write_bytes(to_qcow2((folder / "disk.img").read_bytes())[:100_000])
    (folder / "text").write_text("This is no kernel.\n" * 100)

    configs = {
        "dm-silent": ([disk, f'device_model_override = "{silent}"'], "the device model exited and said nothing"),
        "dm-speaking": (
            [disk, f'device_model_override = "{speaking}"'],
            "the device model exited: this device model is broken",
        ),
        "dm-truncated": ([disk, f'device_model_override = "{broken}"'], "is truncated"),
        "dm-lacking": ([disk, f'device_model_override = "{lacking}"'], "libpixmax-1.so.0: cannot open"),
        "option": ([disk, works, 'device_model_args = [ "-no-such-option" ]'], "-no-such-option: invalid option"),
        "disk-missing": (["disk = [ 'vdev=hda,target=/nowhere.img' ]", works], "disk hda: /nowhere.img: No such file"),
        "disk-unknown": (["disk = [ 'vdev=hda,format=floppy,target=disk.img' ]", works], "format 'floppy' is none of"),
        "disk-empty": (
            ["disk = [ 'vdev=hda,target=empty.img' ]", works],
            "no bootable disk: Hard Disk: not a bootable disk",
        ),
        "disk-short": (["disk = [ 'vdev=hda,format=qcow2,target=short.qcow2' ]", works], "short.qcow2 is truncated"),
        "disk-not-qcow2": (["disk = [ 'vdev=hda,format=qcow2,target=text' ]", works], "Image is not in qcow2 format"),
        "kernel": (["kernel = 'text'", works], "text is not a kernel"),
        "works": ([disk, works, "vif = [ 'bridge=br-mine' ]"], ""),
    }
    names = [config(folder, name, *lines) for name, (lines, _) in configs.items()]
    done = xenqemu("lab", "boot", *names, "--json", "--timeout", "150", cwd=folder, exit_code=8)
    report: dict[str, Any] = json.loads(done.stdout)
    results = {guest["name"]: guest for guest in report["guests"]}
    assert list(results) == list(configs)
    for name, (_, reason) in configs.items():
        assert reason in results[name]["reason"], results[name]
        assert results[name]["booted"] is (name == "works")
    works_result = results["works"]
    assert works_result["sign"] == "text on the serial port"
    assert 5_000_000 < works_result["memory"]["rss"] < 100_000_000
    assert results["dm-speaking"]["log"] == ["this device model is broken"]
    logs = Path(report["logs"])
    assert b"xenqemu-guest: up" in (logs / "works.serial-port.log").read_bytes()


def test_the_whole_path_of_a_user(xenqemu: Run, device_model: Path, folder: Path) -> None:
    """A config that names no device model, no display and no serial port, and whose disk is somewhere else."""
    (folder / "elsewhere").mkdir()
    path = folder / "elsewhere" / "guest.cfg"
    path.write_text(
        "name = 'guest'\ntype = 'hvm'\nmemory = 64\nvnc = 0\nvif = [ '' ]\n"
        f"disk = [ '{folder}/disk.img,raw,xvda,rw' ]\n"
    )
    original = path.read_bytes()
    xenqemu("vm", "use", path, "--dm", device_model)
    used = path.read_bytes()
    before = (folder / "disk.img").read_bytes()
    done = xenqemu("lab", "boot", "elsewhere/guest.cfg", "--screenshot", "screen.png", cwd=folder)
    assert done.stdout.startswith("booted a guest under Xen 4.")
    assert "SeaBIOS started Hard Disk" in done.stdout
    assert "VNC is switched on for the screenshot" in done.stderr
    assert (folder / "screen.png").read_bytes().startswith(b"\x89PNG")
    assert path.read_bytes() == used
    assert (folder / "disk.img").read_bytes() == before
    xenqemu("vm", "revert", path)
    assert path.read_bytes() == original


def test_ctrl_c_leaves_nothing_behind(
    xenqemu_command: Path,
    shared_state: StateDir,
    device_model: Path,
    folder: Path,
) -> None:
    name = config(folder, "never", "disk = [ 'vdev=hda,target=disk.img' ]", f'device_model_override = "{device_model}"')
    process = subprocess.Popen(
        [xenqemu_command, "--state-dir", shared_state.root, "lab", "boot", name, "--expect", "what it never says"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("booting never"):
            break
    emulators = children(process.pid)
    assert emulators
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in emulators):
        assert time.monotonic() < deadline, "the emulator is still there"
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    assert os.getpid() not in found
    return found
