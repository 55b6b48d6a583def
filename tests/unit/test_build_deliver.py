"""Delivering artifacts, listing and pruning what is kept, and reading ELF files."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fakeqemu import OPTIONS, fake_input
from xenqemu.build import (
    Artifact,
    Layout,
    find_artifact,
    hold,
    install_into_xen,
    install_to,
    list_artifacts,
    prune,
    with_origin,
)
from xenqemu.build.hardening import inspect_elf
from xenqemu.build.manifest import dump_manifest, list_outputs, load_manifest
from xenqemu.build.stage import COMMIT, FAMILY_LOCK, LAST_USED, lock_name
from xenqemu.errors import BuildError, MissingError, UsageError
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi, QuietUi

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "xenqemu", "x"]), inner),
    max_leaves=8,
)
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


class Killed(BaseException):
    """Stands for SIGKILL: nothing that would clean up after it gets anything done."""


@contextmanager
def killed_at(step: int, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let everything that changes the file system fail from the `step`th time on; yield what was done until then."""
    done: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if len(done) >= step:
                raise Killed
            done.append(f"{name} {args[0]}")
            return real(*args, **kwargs)

        context.setattr(owner, name, call)

    with patch.context() as context:
        for name in ("unlink", "replace", "rmdir", "mkdir", "chmod"):
            wrap(Path, name)
        wrap(os, "fsync")
        yield done


LOG_AND_MANIFEST = {"manifest.json", "build.log"}


@pytest.mark.parametrize("next_one", ["old", "new", "other"])
def test_killed_at_any_step_the_next_delivery_ends_with_exactly_its_files(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch, next_one: str
) -> None:
    sets = {
        "old": {**FILES, "lib/libxenctrl.so.4.17": "old"},
        "new": {**FILES, "bin/qemu-system-xen": "new", "lib/deep/libxenctrl.so.4.20": "new", "share/qemu/rom": "rom"},
        "other": {"bin/qemu-system-xen": "other"},
    }
    artifacts = {name: keep(state, name, files) for name, files in sets.items()}
    step, finished = 0, False
    while not finished:
        out = tmp_path / f"out{step}"
        install_to(artifacts["old"], out, quiet_ui)
        (out / "mine").write_text("mine")
        with killed_at(step, monkeypatch) as done:
            try:
                install_to(artifacts["new"], out, quiet_ui)
                finished = True
            except Killed:
                manifest = load_manifest(out / "manifest.json")
                # A manifest never claims what is not there, at no step.
                for output in manifest["outputs"] if manifest else ():
                    assert sha256((out / output["path"]).read_bytes()).hexdigest() == output["sha256"], done
        install_to(artifacts[next_one], out, quiet_ui)
        delivered = files_of(out)
        assert delivered.pop("mine") == "mine"
        assert {name: text for name, text in delivered.items() if name not in LOG_AND_MANIFEST} == sets[next_one], done
        assert set(delivered) == {*sets[next_one], *LOG_AND_MANIFEST}, done
        assert delivered["build.log"] == f"log of {next_one}"
        assert not [path for path in out.rglob("*") if path.is_dir() and not list(path.iterdir())], done
        step += 1
    assert step > 20


def test_two_deliveries_into_one_folder_wait_for_each_other(
    state: StateDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, artifact = tmp_path / "out", keep(state, "a", FILES)
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    for deliver in (install_to, lambda *args: install_into_xen(args[0], Layout("/", "/bin", "/share"), *args[1:])):
        thread = threading.Thread(target=deliver, args=(artifact, out, PlainUi()))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert files_of(out) == {}
        fcntl.flock(handle, fcntl.LOCK_UN)
        thread.join(20)
        assert set(FILES) <= set(files_of(out))
        shutil.rmtree(out)
        out.mkdir()
        os.close(handle)
        handle = os.open(out, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)
    assert capsys.readouterr().err.count("waiting for another xenqemu that writes to") == 2


def test_a_folder_that_cannot_be_locked_is_written(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = fcntl.flock, [errno.EBADF, errno.EIO]

    def flock(handle: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            raise OSError(refused[0], os.strerror(refused[0]))
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    artifact = keep(state, "a", FILES)
    assert install_to(artifact, tmp_path / "out", quiet_ui).is_file()
    refused.pop(0)
    with pytest.raises(UsageError, match="Input/output error"):
        install_to(artifact, tmp_path / "other", quiet_ui)


@pytest.mark.parametrize("damage", ["PROGRAM", None])
def test_a_damaged_artifact_is_noticed_and_removed(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, damage: str | None
) -> None:
    for name, deliver in (("a", install_to), ("b", lambda *args: install_into_xen(args[0], Layout(), *args[1:]))):
        artifact = keep(state, name, FILES)
        if damage is None:
            artifact.binary.unlink()
        else:
            artifact.binary.write_text(damage)  # of the same size: only its hash tells
            assert find_artifact(name, state) is not None
        with pytest.raises(BuildError, match="is damaged") as caught:
            deliver(artifact, tmp_path / name, quiet_ui)
        assert caught.value.hint == "run again: it is built anew"
        assert find_artifact(name, state) is None
        assert not artifact.path.exists()
        assert not list(tmp_path.joinpath(name).rglob("*qemu-system-xen*"))


def test_an_artifact_without_its_log_is_damaged(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    artifact = keep(state, "a", FILES)
    artifact.log.unlink()
    with pytest.raises(BuildError, match=r"build\.log cannot be read"):
        install_to(artifact, tmp_path / "out", quiet_ui)


def test_a_damaged_artifact_in_a_cache_that_is_only_read_is_to_be_removed_by_hand(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = keep(state, "a", FILES)
    artifact.binary.write_text("PROGRAM")
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
    with pytest.raises(BuildError) as caught:
        install_to(artifact, tmp_path / "out", quiet_ui)
    assert caught.value.hint.startswith(f"remove {artifact.path} and run again")


def test_what_is_delivered_tells_of_this_build(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    first = keep(state, "a", FILES)
    inputs = replace(fake_input(state), origin={"kind": "tarball", "sha256": "6" * 64}, profile="twin")
    artifact = with_origin(first, inputs, replace(OPTIONS, environment={"CC": "ccache gcc"}))
    install_to(artifact, tmp_path / "out", quiet_ui)
    manifest = load_manifest(tmp_path / "out/manifest.json")
    assert manifest is not None
    assert manifest["qemu"] == {"version": "10.2.2", "origin": {"kind": "tarball", "sha256": "6" * 64}}
    assert manifest["profile"] == {"name": "twin"}
    assert manifest["xen"] == {"version": "4.17", "kind": "system"}
    assert manifest["environment"] == {"CC": "ccache gcc"}
    assert manifest["outputs"] == first.manifest["outputs"]
    assert load_manifest(first.path / "manifest.json") == first.manifest


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


@pytest.mark.parametrize(
    "content",
    [
        '{"name": "an extension for a browser"}',
        '{"xenqemu": "x", "outputs": [1]}',
        '{"xenqemu": "x", "outputs": [{"path": 1}]}',
        '{"xenqemu": "x", "outputs": {}}',
        '{"xenqemu": 1, "outputs": []}',
        "[]",
        "",
    ],
)
def test_a_manifest_of_something_else_is_not_overwritten(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, content: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(content)
    with pytest.raises(UsageError, match="is not xenqemu's"):
        install_to(keep(state, "a", FILES), out, quiet_ui)
    assert files_of(out) == {"manifest.json": content}


@given(JSON)
def test_any_json_is_a_manifest_with_files_or_none(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    for content in (document, {"xenqemu": "0", "outputs": document}, {"xenqemu": "0", "outputs": [document]}):
        path.write_text(json.dumps(content))
        manifest = load_manifest(path)
        assert manifest is None or all(isinstance(output["path"], str) for output in manifest["outputs"])


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


@pytest.mark.parametrize("everything", [False, True])
def test_prune_waits_for_a_run_and_removes_nothing_under_it(
    state: StateDir, capsys: pytest.CaptureFixture[str], everything: bool
) -> None:
    places = [state.trees / "c9", state.git, state.xen / "key", state.downloads, state.root / "clones"]
    thread = threading.Thread(target=lambda: prune(state, everything=everything, ui=PlainUi()))
    with state.using(PlainUi()):
        for place in places:  # as a run makes them, before anything refers to them
            place.mkdir(parents=True)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert all(place.is_dir() for place in places)
    thread.join(20)
    assert "waiting for other runs of xenqemu to end" in capsys.readouterr().err
    assert not places[0].exists()
    assert [place.exists() for place in places[1:]] == [not everything] * 4


def test_prune_leaves_a_build_that_a_killed_runs_compilers_write_to(state: StateDir) -> None:
    build = state.builds / "orphaned"
    build.mkdir(parents=True)
    with (build / FAMILY_LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        prune(state, everything=True)
        assert build.is_dir()
    prune(state, everything=True)
    assert not build.exists()


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
