"""`profile show`: what a profile contains, and what a build of it was measured to cost."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from xenqemu.cli.main import _run as run_cli
from xenqemu.profile_pipeline import contents_of, cost_of, listed_types
from xenqemu.series.catalogue import load_series
from xenqemu.state import StateDir
from xenqemu.target.profile import list_profiles, load_profile
from xenqemu.target.tree import profile_digest

# A program that is an ELF file, as a script around it cannot be measured: it lists types and answers QMP.
ANSWERING = r"""
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    if (BROKEN) return 1;
    if (argc == 5 && !strcmp(argv[4], "help"))
        return puts("Network devices:\nname \"rtl8139\", bus PCI\nname \"VGA\", bus PCI") < 0;
    puts("{\"QMP\": {}}\n{\"return\": {}}\n{\"return\": [{\"name\": \"a\"}, {\"name\": \"b\"}, {\"name\": \"c\"}]}");
    puts("{\"return\": {}}");
    return 0;
}
"""


def compile_program(path: Path, *, broken: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    argv: list[str | Path] = ["gcc", f"-DBROKEN={int(broken)}", "-x", "c", "-", "-o", path]
    subprocess.run(argv, input=ANSWERING.encode(), check=True)


def make_build(folder: Path, name: str, version: str, key: str = "", **changes: object) -> Path:
    """Put a build of a profile into `folder`, as it is delivered; with a `key`, as an artifact."""
    tree = folder / "tree" if key else folder
    compile_program(tree / "bin/qemu-system-xen")
    manifest: dict[str, Any] = {
        "xenqemu": "0.1.0",
        "key": key,
        "program": "bin/qemu-system-xen",
        "qemu": {"version": version},
        "profile": {"name": name, "sha256": profile_digest(load_profile(name), Version(version))},
        "xen": {"version": "4.17"},
        "cost": {"areas": {"block": 5, "hw/net": 1234, "qapi (generated)": 99}},
        "outputs": [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder


def make_artifact(state: StateDir, name: str, version: str, key: str, **changes: object) -> Path:
    return make_build(state.artifacts / key, name, version, key, **changes)


@pytest.mark.parametrize("series", load_series().supported)
@pytest.mark.parametrize("name", list_profiles())
def test_the_contents_are_the_profiles(name: str, series: str) -> None:
    profile, version = load_profile(name), Version(series)
    contents = contents_of(profile, version)
    shown = contents.as_dict()
    assert json.loads(json.dumps(shown)) == shown | {"devices": json.loads(json.dumps(shown["devices"]))}
    types = " ".join(row[0] for row in contents.device_rows()).split()
    assert set(types) == set(profile.types_for(version))
    left_out = " ".join(row[0] for row in contents.left_out_rows()).split()
    assert sorted(left_out) == list(profile.left_out_for(version))
    assert not set(left_out) & set(types)
    configure = dict(contents.configure_rows())
    assert "xen" in configure["enable"].split()
    assert "tcg" in configure["disable"].split()
    assert "--without-default-devices" in configure["options"].split()


def test_the_newest_supported_one_is_the_default() -> None:
    assert str(contents_of(load_profile("hvm"), None).version) == load_series().supported[-1]


def test_the_cost_is_that_of_the_build_used_last(state: StateDir) -> None:
    hvm = load_profile("hvm")
    assert cost_of(hvm, None, None, state) is None
    make_artifact(state, "full", "10.2.2", "f" * 64)
    make_artifact(state, "hvm", "7.2.0", "a" * 64)
    make_artifact(state, "hvm", "10.2.2", "b" * 64, profile={"name": "hvm", "sha256": "of an older profile"})
    make_artifact(state, "hvm", "10.0.13", "c" * 64, qemu="damaged")
    cost = cost_of(hvm, None, None, state)
    assert cost is not None
    assert cost.binary == state.artifacts / ("a" * 64) / "tree/bin/qemu-system-xen"
    assert (cost.version, cost.device_types, cost.qom_types) == (Version("7.2.0"), 2, 3)
    assert list(cost.areas.items()) == [("hw/net", 1234), ("qapi (generated)", 99), ("block", 5)]
    assert cost.program.stripped > 1000
    assert cost_of(hvm, Version("10.2"), None, state) is None
    assert cost_of(hvm, Version("7.2"), None, state) == cost


def test_a_build_that_is_named(state: StateDir, tmp_path: Path) -> None:
    folder = make_build(tmp_path / "dist", "hvm", "10.2.2", cost=None)
    hvm = load_profile("hvm")
    cost = cost_of(hvm, None, folder, state)
    assert cost is not None
    assert cost.areas == {}
    assert cost == cost_of(hvm, None, folder / "manifest.json", state)
    compile_program(folder / "bin/qemu-system-xen", broken=True)
    cost = cost_of(hvm, None, folder, state)
    assert cost is not None
    assert (cost.device_types, cost.qom_types) == (None, None)
    assert ("QOM types", "? (does not start here)") in cost.rows()
    assert listed_types(folder / "bin/qemu-system-xen") is None


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    state = StateDir(tmp_path / "state")
    monkeypatch.setenv("XENQEMU_STATE_DIR", str(state.root))
    assert run_cli(["profile", "show", "backend"]) == 0
    captured = capsys.readouterr()
    assert "no build of it is there to measure" in captured.err
    assert "\ncost\t" not in captured.out
    assert not state.root.exists()
    make_artifact(state.create(), "backend", "10.0.13", "a" * 64)
    assert run_cli(["profile", "show", "backend"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["device types", "Kconfig", "asked for by"]
    assert ["configure", "for QEMU 10.0.13"] in rows
    assert ["device types", "2"] in rows
    assert ["hw/net", "1234"] in rows
    assert run_cli(["profile", "show", "backend", "--for", "10.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cost"] is None
    assert run_cli(["profile", "show", "backend", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["qemu"], shown["cost"]["qemu"], shown["cost"]["qom_types"]) == ("10.0.13", "10.0.13", 3)
    assert shown["features"]["xen"] == "enable"


def test_a_build_that_is_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XENQEMU_STATE_DIR", str(tmp_path / "state"))
    folder = make_build(tmp_path / "dist", "full", "10.2.2")
    show = ["profile", "show", "hvm", "--build"]
    assert run_cli([*show, str(folder)]) == 2
    assert "is a build of profile 'full'" in capsys.readouterr().err
    assert run_cli([*show, str(tmp_path)]) == 2
    assert "is no build of xenqemu" in capsys.readouterr().err
    assert run_cli([*show, str(tmp_path / "absent")]) == 2
    shutil.rmtree(folder / "bin")
    assert run_cli(["profile", "show", "full", "--build", str(folder)]) == 2
    assert "is gone" in capsys.readouterr().err
