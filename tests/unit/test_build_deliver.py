"""Delivering artifacts, listing and pruning what is kept, and reading ELF files."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from xenqemu.build import Artifact, Layout, find_artifact, hold, install_into_xen, install_to, list_artifacts, prune
from xenqemu.build.hardening import inspect_elf
from xenqemu.build.manifest import dump_manifest, list_outputs, load_manifest
from xenqemu.build.stage import COMMIT, LAST_USED, lock_name
from xenqemu.errors import BuildError, MissingError, UsageError
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi

FILES = {"bin/qemu-system-xen": "program", "share/qemu/keymaps/de": "map"}


def keep(state: StateDir, key: str, files: dict[str, str], used: float = 0.0) -> Artifact:
    path = state.artifacts / key
    for name, content in files.items():
        file = path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755 if "bin" in name else 0o644)
    manifest = {
        "xenqemu": "0",
        "key": key,
        "program": "bin/qemu-system-xen",
        "qemu": {"version": "10.2.2"},
        "profile": {"name": "hvm"},
        "xen": {"version": "4.17"},
        "outputs": list_outputs(path / "tree"),
    }
    (path / "manifest.json").write_bytes(dump_manifest(manifest))
    (path / "build.log").write_text(f"log of {key}")
    (path / LAST_USED).touch()
    os.utime(path / LAST_USED, (used, used))
    return Artifact(key, path, manifest)


def files_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def inodes(folder: Path) -> dict[str, int]:
    return {path.as_posix(): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_what_is_delivered_is_the_tree_the_manifest_and_the_log(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi
) -> None:
    artifact = keep(state, "a", FILES)
    out = tmp_path / "deep/dist"
    program = install_to(artifact, out, quiet_ui)
    assert program == out / "bin/qemu-system-xen"
    assert os.access(program, os.X_OK)
    delivered = files_of(out)
    assert set(delivered) == {*FILES, "manifest.json", "build.log"}
    assert load_manifest(out / "manifest.json") == artifact.manifest


def test_delivering_again_touches_nothing(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    artifact = keep(state, "a", FILES)
    install_to(artifact, tmp_path / "out", quiet_ui)
    before = inodes(tmp_path / "out")
    install_to(artifact, tmp_path / "out", quiet_ui)
    assert inodes(tmp_path / "out") == before


def test_what_is_no_longer_made_goes_and_what_is_not_ours_stays(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi
) -> None:
    out = tmp_path / "out"
    install_to(keep(state, "a", {**FILES, "lib/old/libxenctrl.so.4.20": "old"}), out, quiet_ui)
    (out / "share/qemu/mine").write_text("mine")
    unchanged = (out / "share/qemu/keymaps/de").stat().st_ino
    new = {**FILES, "bin/qemu-system-xen": "newer program"}
    install_to(keep(state, "b", new), out, quiet_ui)
    delivered = files_of(out)
    assert delivered["bin/qemu-system-xen"] == "newer program"
    assert delivered["share/qemu/mine"] == "mine"
    assert delivered["build.log"] == "log of b"
    assert not (out / "lib").exists()
    assert (out / "share/qemu/keymaps/de").stat().st_ino == unchanged


def test_a_changed_mode_a_link_and_same_size_content_are_put_right(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    artifact = keep(state, "a", FILES)
    program = install_to(artifact, out, quiet_ui)
    program.write_text("PROGRAM")
    keymap = out / "share/qemu/keymaps/de"
    keymap.unlink()
    elsewhere.write_text("map")
    keymap.symlink_to(elsewhere)
    install_to(artifact, out, quiet_ui)
    assert program.read_text() == "program"
    assert not keymap.is_symlink()
    program.chmod(0o600)
    install_to(artifact, out, quiet_ui)
    assert program.stat().st_mode & 0o777 == 0o755


def test_an_earlier_manifest_cannot_lead_outside(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    outputs = [{"path": "../precious"}, {"path": str(precious)}, {"path": ""}, {"path": "share"}, {"path": "gone"}]
    (out / "manifest.json").write_text(json.dumps({"xenqemu": "0", "outputs": outputs}))
    install_to(keep(state, "a", FILES), out, quiet_ui)
    assert precious.read_text() == "x"
    assert (out / "share/qemu/keymaps/de").is_file()


def test_a_delivery_that_was_cut_off_is_finished_by_the_next(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, out = keep(state, "a", FILES), tmp_path / "out"
    with monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("os.fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            install_to(artifact, out, quiet_ui)
    assert files_of(out) == {}
    install_to(artifact, out, quiet_ui)
    assert (out / "manifest.json").is_file()


@contextmanager
def failing_fsync(patch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number), "/the/file")

    with patch.context() as context:
        context.setattr("os.fsync", fail)
        yield


def test_a_delivery_that_cannot_be_written_is_a_clear_error(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = keep(state, "a", FILES)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        install_to(artifact, tmp_path / "file", quiet_ui)
    with pytest.raises(UsageError, match="cannot be written"):
        install_to(artifact, tmp_path / "file/below", quiet_ui)
    with failing_fsync(monkeypatch, 13), pytest.raises(UsageError, match="/the/file: Permission denied"):
        install_to(artifact, tmp_path / "out", quiet_ui)
    with failing_fsync(monkeypatch, 28), pytest.raises(MissingError, match="no space is left"):
        install_to(artifact, tmp_path / "out", quiet_ui)


def test_a_manifest_of_something_else_is_not_overwritten(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "an extension for a browser"}')
    with pytest.raises(UsageError, match="is not xenqemu's"):
        install_to(keep(state, "a", FILES), tmp_path, quiet_ui)
    assert "browser" in (tmp_path / "manifest.json").read_text()
    assert not (tmp_path / "bin").exists()


def test_installing_as_part_of_xen(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    layout = Layout()
    artifact = keep(state, "a", FILES)
    program = install_into_xen(artifact, layout, tmp_path / "destdir", quiet_ui)
    assert program == tmp_path / "destdir/usr/bin/qemu-system-xen"
    assert files_of(tmp_path / "destdir") == {f"usr/{name}": content for name, content in FILES.items()}
    before = inodes(tmp_path / "destdir")
    install_into_xen(artifact, layout, tmp_path / "destdir", quiet_ui)
    assert inodes(tmp_path / "destdir") == before
    other = Layout.for_xen("/usr", None, None)
    assert other is not None
    with pytest.raises(BuildError, match="another layout"):
        install_into_xen(artifact, other, tmp_path / "destdir", quiet_ui)


def test_artifacts_are_listed_by_last_use(state: StateDir) -> None:
    keep(state, "old", FILES, used=1e9)
    keep(state, "new", FILES, used=1.6e9)
    (state.artifacts / "damaged").mkdir()
    first, second = list_artifacts(state)
    assert (first.key, second.key) == ("new", "old")
    assert (first.version, first.profile, first.xen) == ("10.2.2", "hvm", "4.17")
    assert first.size > 0
    assert first.last_used.startswith("2020-09-1")
    assert list_artifacts(StateDir(state.root / "nothing")) == ()


def test_using_an_artifact_makes_it_the_last_used(state: StateDir) -> None:
    keep(state, "old", FILES, used=1e9)
    keep(state, "new", FILES, used=1.6e9)
    assert find_artifact("old", state) is not None
    assert list_artifacts(state)[0].key == "old"
    manifest = state.artifacts / "new/manifest.json"
    manifest.write_text(manifest.read_text().replace('"key": "new"', '"key": "other"'))
    assert find_artifact("new", state) is None


def test_prune_keeps_the_most_recent(state: StateDir) -> None:
    for number in range(4):
        keep(state, f"a{number}", FILES, used=1e9 + number)
    assert prune(state, keep=2) > 0
    assert [entry.key for entry in list_artifacts(state)] == ["a3", "a2"]
    assert prune(state) == 0
    keep(state, "now", FILES, used=2e10)
    prune(state, older_than=timedelta(days=1))
    assert [entry.key for entry in list_artifacts(state)] == ["now"]


def _builds(state: StateDir) -> None:
    for key, commit in (("done", "c1"), ("running", "c2"), ("interrupted", "c3")):
        (state.builds / key).mkdir(parents=True)
        (state.builds / key / COMMIT).write_text(commit)
        (state.trees / commit).mkdir(parents=True)
        (state.trees / commit / "file").write_text("x" * 10000)
    (state.builds / "given-up").mkdir()
    os.utime(state.builds / "given-up", (1e9, 1e9))
    (state.trees / "c4").mkdir()
    keep(state, "done", FILES)


def test_prune_removes_what_nothing_refers_to(state: StateDir, quiet_ui: QuietUi) -> None:
    _builds(state)
    stale = state.root / "tmp/stale"
    stale.mkdir()
    os.utime(stale, (1e9, 1e9))
    (state.root / "tmp/file").touch()
    os.utime(state.root / "tmp/file", (1e9, 1e9))
    (state.root / "tmp/fresh").mkdir()
    state.downloads.mkdir()
    freed = prune(state, keep=10)
    assert freed >= 10000
    assert {path.name for path in state.builds.iterdir()} == {"running", "interrupted"}
    assert {path.name for path in state.trees.iterdir()} == {"c2", "c3"}
    assert {path.name for path in (state.root / "tmp").iterdir()} == {"fresh"}
    assert state.downloads.is_dir()
    with state.lock(lock_name("running"), quiet_ui):
        prune(state, older_than=timedelta(days=-1))
        assert {path.name for path in state.builds.iterdir()} == {"running"}
        prune(state, everything=True)
        assert {path.name for path in state.builds.iterdir()} == {"running"}
        assert state.downloads.is_dir()
    prune(state, everything=True)
    assert not list(state.builds.iterdir())
    assert not state.downloads.exists()


def test_prune_leaves_what_is_in_use(state: StateDir, quiet_ui: QuietUi) -> None:
    used, building = keep(state, "used", FILES), keep(state, "building", FILES)
    state.downloads.mkdir()
    with hold(used), state.lock(lock_name(building.key), quiet_ui), state.lock("import", quiet_ui):
        prune(state, everything=True)
        assert {entry.key for entry in list_artifacts(state)} == {"used", "building"}
        assert state.downloads.is_dir()
    prune(state, keep=0)
    assert list_artifacts(state) == ()
    with pytest.raises(BuildError, match="is gone"), hold(used):
        pass


def test_holding_is_shared(state: StateDir) -> None:
    artifact = keep(state, "a", FILES)
    with hold(artifact), hold(artifact):
        handle = os.open(artifact.path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)


SOURCE = r"""
#include <string.h>
#include <stdio.h>
int main(int argc, char **argv) { char b[9]; strcpy(b, argv[argc - 1]); return puts(b); }
"""


def compile_elf(path: Path, *flags: str) -> Path:
    argv = ["gcc", "-x", "c", "-", "-o", str(path), *flags]
    subprocess.run(argv, input=SOURCE.encode(), check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("-fPIE", "-pie"), {"pie": True}),
        (("-fno-pie", "-no-pie"), {"pie": False}),
        (("-Wl,-z,relro", "-Wl,-z,now"), {"relro": "full"}),
        (("-Wl,-z,relro", "-Wl,-z,lazy"), {"relro": "partial"}),
        (("-Wl,-z,norelro",), {"relro": "none"}),
        (("-Wl,-z,noexecstack",), {"nx_stack": True}),
        (("-Wl,-z,execstack",), {"nx_stack": False}),
        (("-fstack-protector-all",), {"stack_protector": True}),
        (("-fno-stack-protector",), {"stack_protector": False}),
        (("-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"), {"fortified": ("__strcpy_chk",)}),
        (("-O0", "-U_FORTIFY_SOURCE"), {"fortified": ()}),
        (("-fcf-protection=none",), {"control_flow": False}),
        (("-Wl,-z,ibt", "-Wl,-z,shstk"), {"ibt": True, "shstk": True}),
        (("-Wl,-rpath,/r", "-Wl,--disable-new-dtags"), {"rpath": "/r", "runpath": ""}),
        (("-Wl,-rpath,/r", "-Wl,--enable-new-dtags"), {"rpath": "", "runpath": "/r"}),
        (("-shared", "-fPIC", "-Wl,-soname,libx.so.1"), {"soname": "libx.so.1", "pie": False}),
        (("-Wl,--build-id=0xabcd",), {"build_id": "abcd", "needed": ("libc.so.6",)}),
    ],
)
def test_what_an_elf_file_says(tmp_path: Path, flags: tuple[str, ...], expected: dict[str, Any]) -> None:
    report = inspect_elf(compile_elf(tmp_path / "elf", *flags)).as_dict()
    wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in expected.items()}
    assert {name: report[name] for name in wanted} == wanted


def test_files_that_are_no_dynamic_elf(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(BuildError, match="cannot be read as an ELF file"):
        inspect_elf(tmp_path / "text")
    with pytest.raises(BuildError, match="cannot be read as an ELF file"):
        inspect_elf(tmp_path / "nothing")
    with pytest.raises(BuildError, match="no dynamically linked ELF file"):
        inspect_elf(compile_elf(tmp_path / "static", "-static", "-no-pie"))


def test_a_truncated_elf_file(tmp_path: Path) -> None:
    program = compile_elf(tmp_path / "elf")
    short = tmp_path / "short"
    short.write_bytes(program.read_bytes()[:40])
    with pytest.raises(BuildError):
        inspect_elf(short)
