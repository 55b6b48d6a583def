"""The build stage from configure to a kept artifact, on an imitation of QEMU."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.unit.fakeqemu import COMMIT, OPTIONS, fake_input, make_tree, make_xen, start_build, xen_input
from xenqemu.build import build, configure_command, find_artifact, identify_compiler
from xenqemu.build import stage as stage_module
from xenqemu.build.hardening import inspect_elf
from xenqemu.build.install import stage_tree
from xenqemu.build.key import artifact_key
from xenqemu.build.manifest import file_sha256, load_manifest
from xenqemu.build.model import Layout
from xenqemu.build.ninja_log import load_steps
from xenqemu.errors import BuildError, MissingError, UsageError
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi, QuietUi

PATIENCE = 30.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def snapshot(tree: Path) -> dict[str, str]:
    return {
        str(path.relative_to(tree)): file_sha256(path)
        for path in tree.rglob("*")
        if path.is_file() and "control" not in path.parts
    }


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_a_build_leaves_program_data_log_and_manifest(state: StateDir, quiet_ui: QuietUi) -> None:
    tree = make_tree(state)
    before = snapshot(tree)
    artifact = build(fake_input(state), OPTIONS, state, quiet_ui)
    files = {path.relative_to(artifact.path).as_posix() for path in artifact.path.rglob("*") if path.is_file()}
    assert files == {
        "tree/bin/qemu-system-xen",
        "tree/share/qemu/keymaps/de",
        "tree/share/qemu/linuxboot.bin",
        "manifest.json",
        "build.log",
        "timings.json",
        "steps.json",
        "last-used",
    }
    assert snapshot(tree) == before
    said = subprocess.run([artifact.binary, "word"], capture_output=True, text=True, check=True).stdout
    source = "/usr/src/qemu"
    assert said == f"{source}/main.c xenqemu {source}/first.c {source}/second.c 0\n"
    assert set(json.loads((artifact.path / "timings.json").read_text())) == {"configure", "compile", "install"}
    assert "qemu-system-xen" in [step.output for step in load_steps(artifact.path / "steps.json")]
    assert "Linking target" in artifact.log.read_text()
    assert not (state.builds / artifact.key).exists()


def test_a_second_build_is_the_same_artifact_and_runs_nothing(state: StateDir, quiet_ui: QuietUi) -> None:
    tree = make_tree(state)
    first = build(fake_input(state), OPTIONS, state, quiet_ui)
    again = build(fake_input(state), replace(OPTIONS, jobs=1, keep_build=True), state, quiet_ui)
    assert again.path == first.path
    assert lines_of(tree / "control/configured") == 1


def test_the_same_from_elsewhere_is_one_artifact_that_tells_of_each(state: StateDir, quiet_ui: QuietUi) -> None:
    make_tree(state)
    first = build(fake_input(state), OPTIONS, state, quiet_ui)
    inputs = replace(fake_input(state), origin={"kind": "tarball"})
    again = build(inputs, OPTIONS, state, quiet_ui)
    assert again.path == first.path
    assert again.manifest["qemu"]["origin"] == {"kind": "tarball"}
    assert first.manifest["qemu"]["origin"] == {"kind": "directory", "location": "/somewhere"}
    assert again.manifest["outputs"] == first.manifest["outputs"]
    assert load_manifest(first.path / "manifest.json") == first.manifest


def test_two_places_give_the_same_bytes(tmp_path: Path, quiet_ui: QuietUi) -> None:
    results = []
    for name in ("here", "quite/somewhere/else"):
        state = StateDir(tmp_path / name).create()
        make_tree(state)
        results.append(build(fake_input(state), OPTIONS, state, quiet_ui))
    one, two = results
    assert one.key == two.key
    assert one.binary.read_bytes() == two.binary.read_bytes()
    assert (one.path / "manifest.json").read_bytes() == (two.path / "manifest.json").read_bytes()
    assert str(tmp_path).encode() not in one.binary.read_bytes()
    assert str(tmp_path) not in (one.path / "manifest.json").read_text()


def test_the_program_is_hardened(state: StateDir, quiet_ui: QuietUi) -> None:
    make_tree(state)
    artifact = build(fake_input(state), OPTIONS, state, quiet_ui)
    report = inspect_elf(artifact.binary)
    assert report.pie
    assert report.relro == "full"
    assert report.nx_stack
    assert report.fortified
    assert {"fortify", "relro", "non-executable-stack"} <= set(artifact.manifest["hardening"]["features"])
    if os.uname().machine == "x86_64":
        assert report.control_flow
    assert artifact.manifest["hardening"]["program"] == report.as_dict()


def test_debug_information_is_beside_the_program(state: StateDir, quiet_ui: QuietUi) -> None:
    make_tree(state)
    plain = build(fake_input(state), OPTIONS, state, quiet_ui)
    debug = build(fake_input(state), replace(OPTIONS, debug_info=True, environment={"CFLAGS": "-g"}), state, quiet_ui)
    assert plain.key != debug.key
    aside = debug.binary.with_name("qemu-system-xen.debug")
    assert not plain.binary.with_name(aside.name).exists()
    with debug.binary.open("rb") as file, aside.open("rb") as debug_file:
        program, information = ELFFile(file), ELFFile(debug_file)
        assert program.get_section_by_name(".debug_info") is None
        assert information.has_dwarf_info()
        link = program.get_section_by_name(".gnu_debuglink")
        assert link is not None
        named = link.data()
    assert named.split(b"\0")[0].decode() == aside.name
    assert int.from_bytes(named[-4:], "little") == zlib.crc32(aside.read_bytes())
    assert str(state.root).encode() not in debug.binary.read_bytes() + aside.read_bytes()


def test_the_program_is_small(state: StateDir, quiet_ui: QuietUi) -> None:
    make_tree(state)
    artifact = build(fake_input(state), OPTIONS, state, quiet_ui)
    size = artifact.manifest["size"]
    assert {"optimised-for-size", "without-unused-sections", "without-unwind-tables"} <= set(size["features"])
    assert {"-Os", "-Wl,--gc-sections"} <= set(size["flags"])


def test_a_xen_that_is_not_the_systems_comes_along_and_is_found_after_a_move(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi
) -> None:
    make_tree(state)
    sdk = make_xen(tmp_path / "xen")
    artifact = build(xen_input(state, sdk), OPTIONS, state, quiet_ui)
    assert {path.name for path in (artifact.tree / "lib").iterdir()} == {"libxenctrl.so.4.99", "libxentoollog.so.1"}
    shutil.rmtree(tmp_path / "xen")
    moved = tmp_path / "moved"
    shutil.copytree(artifact.tree, moved)
    said = subprocess.run([moved / "bin/qemu-system-xen", "x"], env={}, capture_output=True, text=True, check=True)
    assert said.stdout.endswith(" 42\n")
    assert inspect_elf(moved / "bin/qemu-system-xen").rpath == "$ORIGIN/../lib"
    assert "pkgconfig" in artifact.log.read_text()


def test_as_part_of_xen_no_library_comes_along(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    make_tree(state)
    layout = Layout.for_xen("/usr", None, None)
    assert layout is not None
    options = replace(OPTIONS, layout=layout)
    artifact = build(xen_input(state, make_xen(tmp_path / "xen")), options, state, quiet_ui)
    assert artifact.binary == artifact.tree / "lib/xen/bin/qemu-system-xen"
    assert (artifact.tree / "share/qemu-xen/qemu/keymaps/de").is_file()
    assert len(list(artifact.tree.rglob("libxen*"))) == 0
    report = inspect_elf(artifact.binary)
    assert report.rpath == report.runpath == ""


def test_a_foreign_xen_library_is_noticed(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    make_tree(state)
    sdk = make_xen(tmp_path / "xen")
    inputs = xen_input(state, sdk)
    inputs = replace(inputs, xen=replace(sdk, libraries=(), library_dirs=()))
    with pytest.raises(BuildError, match=r"linked against libxenctrl\.so\.4\.99"):
        build(inputs, OPTIONS, state, quiet_ui)


def test_a_library_that_a_library_needs_must_be_there(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    make_tree(state)
    sdk = make_xen(tmp_path / "xen")
    inputs = xen_input(state, sdk)
    built = build(inputs, replace(OPTIONS, keep_build=True), state, quiet_ui)
    (tmp_path / "xen/lib/libxentoollog.so.1").unlink()
    with pytest.raises(MissingError, match=r"needs libxentoollog\.so\.1"):
        stage_tree(inputs, OPTIONS, state.builds / built.key / "build", tmp_path / "stage")


def test_no_program_is_an_error(state: StateDir, tmp_path: Path) -> None:
    make_tree(state)
    with pytest.raises(BuildError, match="left no qemu-system-xen"):
        stage_tree(fake_input(state), OPTIONS, tmp_path, tmp_path / "stage")


def test_a_compile_error_shows_the_command_that_failed_and_its_message(state: StateDir, quiet_ui: QuietUi) -> None:
    tree = make_tree(state)
    (tree / "first.c").write_text("int broken(void) { return missing; }\n")
    with pytest.raises(BuildError) as caught:
        build(fake_input(state), OPTIONS, state, quiet_ui)
    message = caught.value.message
    assert message.startswith("the compile failed at first.o:\n")
    assert "first.c:1:27: error: 'missing' undeclared" in message.replace("\u2018", "'").replace("\u2019", "'")
    assert COMMIT not in message
    log = Path(caught.value.hint.rsplit(" ", 1)[-1])
    assert "missing" in log.read_text()

    # Corrected, the next run compiles only what is left.
    (tree / "first.c").write_text('const char *first(void) { return "corrected"; }\n')
    notes = io.StringIO()
    artifact = build(fake_input(state), OPTIONS, state, PlainUi(notes))
    assert "going on with the compile" in notes.getvalue()
    assert lines_of(tree / "control/configured") == 1
    assert b"corrected" in artifact.binary.read_bytes()


def test_a_failed_configure_says_what_is_missing(state: StateDir, quiet_ui: QuietUi) -> None:
    tree = make_tree(state)
    control = tree / "control/fail-configure"
    control.write_text('../meson.build:868:11: ERROR: Dependency "glib-2.0" not found, tried pkgconfig\n')
    with pytest.raises(MissingError) as missing:
        build(fake_input(state), OPTIONS, state, quiet_ui)
    assert 'Dependency "glib-2.0" not found' in missing.value.message
    assert missing.value.hint.startswith("apt install libglib2.0-dev; ")
    control.write_text("ERROR: unknown option --enable-nonsense\n")
    with pytest.raises(BuildError, match="unknown option --enable-nonsense"):
        build(fake_input(state), OPTIONS, state, quiet_ui)
    control.unlink()
    assert build(fake_input(state), OPTIONS, state, quiet_ui).binary.is_file()


def test_a_full_disk_is_told_as_such(state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree(state)
    (tree / "first.c").write_text("#error No space left on device\n")
    with pytest.raises(MissingError, match="no space is left"):
        build(fake_input(state), OPTIONS, state, quiet_ui)
    (tree / "first.c").write_text('const char *first(void) { return "ok"; }\n')

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage_module, "publish", full)
    with pytest.raises(MissingError, match="no space is left"):
        build(fake_input(state), OPTIONS, state, quiet_ui)


def test_other_errors_of_the_system_are_not_hidden(
    state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(state)

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(stage_module, "publish", broken)
    with pytest.raises(OSError, match="Input/output error"):
        build(fake_input(state), OPTIONS, state, quiet_ui)


def test_without_a_tree_there_is_no_build(state: StateDir, quiet_ui: QuietUi) -> None:
    with pytest.raises(BuildError, match="no QEMU work tree"):
        build(fake_input(state), OPTIONS, state, quiet_ui)


def test_a_path_with_a_space_is_refused_before_anything_runs(tmp_path: Path, quiet_ui: QuietUi) -> None:
    state = StateDir(tmp_path / "with space").create()
    make_tree(state)
    with pytest.raises(UsageError, match="space or a special character"):
        build(fake_input(state), OPTIONS, state, quiet_ui)


def test_a_damaged_artifact_is_built_again(state: StateDir, quiet_ui: QuietUi) -> None:
    make_tree(state)
    first = build(fake_input(state), OPTIONS, state, quiet_ui)
    content = first.binary.read_bytes()
    first.binary.write_bytes(content[:100])
    assert find_artifact(first.key, state) is None
    again = build(fake_input(state), OPTIONS, state, quiet_ui)
    assert again.binary.read_bytes() == content
    (again.tree / "share/qemu/keymaps/de").unlink()
    assert find_artifact(first.key, state) is None


def test_the_environment_does_not_reach_the_build(
    state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(state)
    for name in ("CFLAGS", "CPPFLAGS", "MAKEFLAGS", "PYTHONPATH", "CC"):
        monkeypatch.setenv(name, "-Dpoison")
    monkeypatch.setenv("CCACHE_NOHASHDIR", "1")
    artifact = build(fake_input(state), replace(OPTIONS, keep_build=True), state, quiet_ui)
    environment = (state.builds / artifact.key / "build/environment").read_text()
    assert "poison" not in environment
    assert "CCACHE_NOHASHDIR=1" in environment
    assert "LC_ALL=C" in environment.splitlines()


@pytest.mark.parametrize("phase", ["configure", "compile", "install", "publish"])
def test_killed_in_any_phase_the_next_run_finishes_with_the_same_result(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, phase: str
) -> None:
    tree = make_tree(state)
    reference = StateDir(tmp_path / "reference").create()
    make_tree(reference)
    expected = build(fake_input(reference), OPTIONS, reference, quiet_ui).binary.read_bytes()
    before = ""
    if phase == "install":
        before = "import shutil, signal; shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    elif phase == "publish":
        before = "import signal; os.sync = lambda: os.kill(os.getpid(), signal.SIGKILL)"
    else:
        (tree / f"control/hold-{phase}").touch()
    process = start_build(state, before)
    if phase in ("configure", "compile"):
        wait_until((tree / f"control/at-{phase}").exists)
        process.kill()
        (tree / f"control/hold-{phase}").unlink()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL, said
    assert not list(state.artifacts.glob("*/manifest.json"))
    artifact = build(fake_input(state), OPTIONS, state, quiet_ui)
    assert artifact.binary.read_bytes() == expected
    assert lines_of(tree / "control/configured") == (2 if phase == "configure" else 1)


def test_what_a_killed_run_left_running_is_waited_for(state: StateDir) -> None:
    tree = make_tree(state)
    (tree / "control/hold-compile").touch()
    process = start_build(state)
    wait_until((tree / "control/at-compile").exists)
    # Stopped, ninja cannot react to the signal that it gets when its parent dies: the worst case of a slow end.
    ninja = next(
        int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _is_child_ninja(stat, process.pid)
    )
    os.kill(ninja, signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=PATIENCE)
    second = start_build(state)
    assert second.stderr is not None
    try:
        assert "waiting for what is left of an interrupted build" in second.stderr.readline()
    finally:
        (tree / "control/hold-compile").unlink()
        os.kill(ninja, signal.SIGCONT)
    out, said = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, said
    assert Path(out.strip()).is_file()


def _is_child_ninja(stat: Path, parent: int) -> bool:
    try:
        name, rest = stat.read_text().rsplit(") ", 1)
    except OSError:
        return False
    return name.endswith("(ninja") and int(rest.split()[1]) == parent


def test_an_interrupted_build_goes_on(state: StateDir, quiet_ui: QuietUi) -> None:
    tree = make_tree(state)
    (tree / "control/hold-compile").touch()
    process = start_build(state)
    wait_until((tree / "control/at-compile").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    (tree / "control/hold-compile").unlink()
    assert build(fake_input(state), OPTIONS, state, quiet_ui).binary.is_file()
    assert lines_of(tree / "control/configured") == 1


def test_two_builds_at_once_share_one_compile(state: StateDir) -> None:
    tree = make_tree(state)
    (tree / "control/hold-compile").touch()
    first = start_build(state)
    wait_until((tree / "control/at-compile").exists)
    second = start_build(state)
    assert second.stderr is not None
    assert "waiting for another xenqemu" in second.stderr.readline()
    (tree / "control/hold-compile").unlink()
    results = [process.communicate(timeout=PATIENCE)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert results[0] == results[1]
    assert lines_of(tree / "control/compiled") == 1


def test_the_dry_run_shows_the_command_that_the_build_runs(state: StateDir, quiet_ui: QuietUi) -> None:
    make_tree(state)
    inputs = fake_input(state)
    options = replace(OPTIONS, keep_build=True)
    key = artifact_key(inputs, options, identify_compiler(options))
    command = configure_command(inputs, options, key, state)
    artifact = build(inputs, options, state, quiet_ui)
    assert artifact.key == key
    assert list(command[1:]) == (state.builds / key / "build/arguments").read_text().splitlines()
    manifest = load_manifest(artifact.path / "manifest.json")
    assert manifest == artifact.manifest
