"""`profile diff`: what one profile has and another has not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.version import Version

from xenqemu.cli.main import _run as run_cli
from xenqemu.series.catalogue import load_series
from xenqemu.target.compare import Difference, compare
from xenqemu.target.profile import list_profiles, load_profile

MINE = """
name = "mine"
description = "hvm with a TPM, without gcrypt"
extends = "hvm"

[configure]
options = ["--enable-trace-backends=log", "--enable-lto"]
enable = ["tpm"]
disable = ["gcrypt", { name = "libusb", versions = "<10" }]

[[device]]
kconfig = ["TPM_CRB"]
types = ["tpm-crb"]
xl = "device_model_args_hvm"
versions = ">=8"
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def test_each_kind_of_difference(mine: Path) -> None:
    assert compare(load_profile("hvm"), load_profile(str(mine)), Version("10.2")) == (
        Difference("device", "tpm-crb", "", "yes", "device_model_args_hvm"),
        Difference("feature", "gcrypt", "optional", "disable"),
        Difference("feature", "tpm", "disable", "enable"),
        Difference("option", "--enable-lto", "", "yes"),
        Difference("option", "--enable-trace-backends", "nop", "log"),
    )


def test_it_is_for_one_version(mine: Path) -> None:
    names = {found.name for found in compare(load_profile("hvm"), load_profile(str(mine)), Version("7.2"))}
    assert names == {"gcrypt", "libusb", "tpm", "--enable-lto", "--enable-trace-backends", "usb-host"}


@pytest.mark.parametrize("series", load_series().supported)
def test_the_same_the_other_way_round(series: str) -> None:
    for one in map(load_profile, list_profiles()):
        assert not compare(one, one, Version(series))
        for other in map(load_profile, list_profiles()):
            turned = [(found.name, found.other, found.one) for found in compare(other, one, Version(series))]
            assert [(found.name, found.one, found.other) for found in compare(one, other, Version(series))] == turned


def test_the_command(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["profile", "diff", "hvm", "full"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["kind", "name", "hvm", "full", "asked for by"]
    assert ["device", "qxl-vga", "-", "optional", 'vga = "qxl"'] in rows
    assert ["feature", "spice", "disable", "optional", ""] in rows
    assert run_cli(["profile", "diff", "hvm", str(mine), "--for", "7.2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["qemu"] == "7.2"
    assert {"kind": "feature", "name": "tpm", "one": "disable", "other": "enable", "xl": ""} in report["differences"]
    assert run_cli(["profile", "diff", "hvm", "full", "--for", "ten"]) == 2
    assert "'ten' is no QEMU version" in capsys.readouterr().err
