"""The device model that a VM is to use."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.unit.vmconfigs import DOMAIN, artifact, config, program
from xenqemu.errors import MissingError, UsageError
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi, QuietUi
from xenqemu.vm.artifacts import artifacts_in_use, prune
from xenqemu.vm.binary import Binary, choose_binary
from xenqemu.vm.revert import revert
from xenqemu.vm.use import UseRequest, use


def test_a_named_binary(state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path / "qemu-system-xen")
    (tmp_path / "current").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert choose_binary(state, named=Path("current")).path == here / "current"
    (tmp_path / "folder").mkdir()
    assert choose_binary(state, named=Path("folder/../current")).path == here / "current"
    (tmp_path / "far").symlink_to("/usr/lib")
    with pytest.raises(UsageError, match="No such file"):
        choose_binary(state, named=Path("far/../nothing"))
    with pytest.raises(UsageError, match="no such home"):
        choose_binary(state, named=Path("~nobody-has-this-name/qemu"))


def test_dots_after_a_link_are_kept(state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "one/two/x")
    program(tmp_path / "one/qemu")
    (tmp_path / "link").symlink_to("one/two")
    named = tmp_path / "link" / ".." / "qemu"
    assert choose_binary(state, named=named).path == named


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\n", "a script and no ELF program"),
        (b"MZ" + bytes(30), "no ELF program"),
        (b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 1, 62), "no program"),
        (b"\x7fELF\x01\x02" + bytes(10) + struct.pack(">HH", 2, 8), "another kind of processor"),
    ],
)
def test_what_is_no_device_model(state: StateDir, tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        choose_binary(state, named=program(tmp_path / "qemu-system-xen", content))


def test_what_is_no_program_at_all(state: StateDir, tmp_path: Path) -> None:
    path = program(tmp_path / "qemu-system-xen")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="is not executable"):
        choose_binary(state, named=path)
    with pytest.raises(UsageError, match="is no file"):
        choose_binary(state, named=tmp_path)


def test_what_is_taken_without_being_named(state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match="no device model to use"):
        choose_binary(state)
    made = artifact(state, "a" * 64)
    chosen = choose_binary(state)
    assert (chosen.path, chosen.key, chosen.origin) == (made, "a" * 64, "the artifact used last")
    here = program(tmp_path.resolve() / "dist/bin/qemu-system-xen")
    assert choose_binary(state).path == here


def test_an_artifact_by_the_beginning_of_its_key(state: StateDir) -> None:
    made = artifact(state, "abcd" + "1" * 60)
    artifact(state, "abcd" + "2" * 60)
    assert choose_binary(state, key="abcd1").path == made
    for key, reason in (("abc", "too short"), ("abcd", "fits 2"), ("ffff", "fits no")):
        with pytest.raises(UsageError, match=reason):
            choose_binary(state, key=key)
    made.write_bytes(b"cut short")
    with pytest.raises(UsageError, match="damaged"):
        choose_binary(state, key="abcd1")


def test_pruning_leaves_what_configs_point_at(
    state: StateDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [letter * 64 for letter in "abcd"]
    models = {key: artifact(state, key) for key in keys}
    paths = [config(tmp_path), config(tmp_path, DOMAIN, "three.xml"), config(tmp_path, name="gone.cfg")]
    for path, key in zip(paths, keys, strict=False):
        use(UseRequest(Binary(models[key], "--dm"), (path,)), state, QuietUi())
    paths[2].unlink()
    assert artifacts_in_use(state) == {keys[0]: paths[0], keys[1]: paths[1]}
    prune(state, PlainUi(), keep=0, everything=False)
    assert [key for key in keys if models[key].exists()] == keys[:2]
    assert "2 artifacts stay" in capsys.readouterr().err
    revert((paths[1],), state, QuietUi())
    prune(state, QuietUi(), keep=0, everything=False)
    assert [key for key in keys if models[key].exists()] == keys[:1]
    prune(state, QuietUi(), keep=0, everything=True)
    assert not models[keys[0]].exists()
    assert f"warning: the artifact aaaaaaaaaaaa goes, and is the device model of {paths[0]}" in capsys.readouterr().err


def test_nothing_is_in_use_where_nothing_was_changed(state: StateDir) -> None:
    assert artifacts_in_use(state) == {}
    assert not state.vm.exists()
