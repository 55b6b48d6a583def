"""What vm lint says of device models that are really built, and of the settings that real Xens read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from xenqemu.series.catalogue import load_series

SERIES = load_series().supported
SCRIPT = Path(__file__).parents[2] / "scripts" / "xl-keys"
HVM = 'name = "a"\ntype = "hvm"\nmemory = 128\ndevice_model_version = "qemu-xen"\n'
FINE = """\
vncpasswd = "x"
keymap = "de"
usbdevice = ["tablet", "mouse", "keyboard"]
vif = ["model=rtl8139", "model=e1000", "model=virtio-net"]
usbctrl = ["version=1", "version=2", "version=3"]
hdtype = "ahci"
vga = "stdvga"
disk = ["vdev=sda,target=disk.img", "vdev=hda,target=disk.img", "vdev=hdc,cdrom,target=disk.img"]
"""


@pytest.fixture(scope="module", params=SERIES)
def binary(request: pytest.FixtureRequest, xenqemu: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The device model of one release."""
    out = tmp_path_factory.mktemp(f"qemu-{request.param}") / "dist"
    xenqemu("build", "--qemu", f"distro:{request.param}", "--out", out)
    return out / "bin" / "qemu-system-xen"


def found(xenqemu: Run, folder: Path, text: str, *options: str | Path) -> dict[str, str]:
    (folder / "a.cfg").write_text(HVM + text)
    (folder / "disk.img").write_bytes(bytes(1 << 20))
    done = xenqemu("vm", "lint", "a.cfg", "--json", *options, cwd=folder, exit_code=None)
    (config,) = json.loads(done.stdout)["configs"]
    assert done.returncode == (7 if config["failed"] else 0)
    return {finding["rule"]: finding["message"] for finding in config["findings"]}


def test_what_every_device_model_of_the_project_takes(xenqemu: Run, tmp_path: Path, binary: Path) -> None:
    assert found(xenqemu, tmp_path, FINE, "--dm", binary) == {}


def test_the_silent_audio_driver_is_the_way_out_that_the_hint_says(xenqemu: Run, tmp_path: Path, binary: Path) -> None:
    sound = found(xenqemu, tmp_path, 'soundhw = "hda"\n', "--dm", binary)
    if sound:
        assert sound.keys() == {"sound-hda"}
        way_out = 'soundhw = "hda"\ndevice_model_args = ["-audio", "none"]\n'
        assert found(xenqemu, tmp_path, way_out, "--dm", binary) == {}


def test_what_no_device_model_of_the_project_knows(xenqemu: Run, tmp_path: Path, binary: Path) -> None:
    rules = found(xenqemu, tmp_path, 'sdl = 1\nvga = "qxl"\nkeymap = "xx"\nvif = ["model=vmxnet3"]\n', "--dm", binary)
    assert rules.keys() == {"sdl", "qxl", "keymap", "vif-model"}
    assert "vmxnet3" in rules["vif-model"]


def test_the_settings_are_those_of_the_sources(xen_sources: Mapping[str, Path], tmp_path: Path) -> None:
    trees = []
    for version, archive in xen_sources.items():
        folder = tmp_path / version
        folder.mkdir()
        wanted = ("--wildcards", "*/xen/Makefile", "*/tools/xl/xl_parse.c")
        subprocess.run(["tar", "--no-same-owner", "-xf", archive, "-C", folder, *wanted], check=True)
        trees.append(next(folder.iterdir()))
    done = subprocess.run([sys.executable, SCRIPT, "--check", *trees], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

    # A setting more, or one less, is noticed.
    parser = trees[-1] / "tools/xl/xl_parse.c"
    text = parser.read_text()
    for changed in (
        text + '\nxlu_cfg_get_long (config, "frobs", &l, 0)\n',
        text.replace('"nestedhvm"', '"nested_hvm"'),
    ):
        parser.write_text(changed)
        done = subprocess.run([sys.executable, SCRIPT, "--check", *trees], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout
