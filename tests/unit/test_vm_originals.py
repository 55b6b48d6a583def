"""The store of originals and the journal: what is kept, for how long, and what ends a run that was killed."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.unit.vmconfigs import HVM, config, recover
from xenqemu.errors import VmConfigError
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi, QuietUi
from xenqemu.vm import transaction
from xenqemu.vm.originals import REVERT, USE, Change, Original, Originals, digest, open_originals
from xenqemu.vm.replace import ConfigFile, put_in_place, read_config
from xenqemu.vm.transaction import Edit, apply, editing, locked

NEW = b"new\n"


@pytest.fixture
def originals(state: StateDir) -> Iterator[Originals]:
    with open_originals(state) as store:
        yield store


def _change(path: Path, before: bytes = HVM, after: bytes = NEW, verb: str = USE, whole: bool = False) -> Change:
    return Change(path, path.with_name(f".{path.name}.temporary"), verb, before, digest(after), whole)


def _kept(state: StateDir) -> dict[str, Original]:
    with open_originals(state) as store:
        assert store.changes() == ()
        return {original.path.name: original for original in store.all()}


def test_what_was_before_the_first_use_is_kept(originals: Originals) -> None:
    path = Path("/etc/xen/\udce9.cfg")
    for before, after in ((HVM, b"1"), (b"1", b"2")):
        originals.begin([_change(path, before, after)])
        originals.finish(originals.changes())
    found = originals.find(path)
    assert found is not None
    assert (found.path, found.content, found.written, found.edited) == (path, HVM, digest(b"2"), False)
    originals.begin([_change(path, b"2", HVM, REVERT)])
    originals.finish(originals.changes())
    assert originals.all() == ()


def test_an_edit_between_two_uses_is_noted(originals: Originals) -> None:
    path = Path("/a")
    for before, after in ((HVM, b"1"), (b"edited", b"2"), (b"2", b"3")):
        originals.begin([_change(path, before, after)])
        originals.finish(originals.changes())
    found = originals.find(path)
    assert found is not None
    assert found.edited


def test_a_config_put_back_by_hand_is_as_if_new(originals: Originals) -> None:
    path = Path("/a")
    for before, after in ((HVM, b"1"), (b"edited", b"2"), (HVM, b"3")):
        originals.begin([_change(path, before, after)])
        originals.finish(originals.changes())
    found = originals.find(path)
    assert found is not None
    assert not found.edited


def test_what_was_not_made_is_not_kept(originals: Originals) -> None:
    originals.begin([_change(Path("/a")), _change(Path("/b"))])
    one, two = originals.changes()
    originals.finish([one], [two])
    assert [original.path for original in originals.all()] == [Path("/a")]
    originals.forget([Path("/a")])
    assert originals.all() == ()


def test_only_the_owner_reads_it(state: StateDir, originals: Originals) -> None:
    assert (state.vm / "originals.sqlite").stat().st_mode & 0o777 == 0o600
    assert state.vm.stat().st_mode & 0o777 == 0o700


def test_a_damaged_store_is_named(state: StateDir) -> None:
    state.vm.mkdir()
    (state.vm / "originals.sqlite").write_bytes(b"no database " * 100)
    with pytest.raises(VmConfigError, match=r"originals\.sqlite, cannot be used: file is not a database"):
        _kept(state)


def test_a_store_of_a_newer_version_is_left_alone(state: StateDir) -> None:
    _kept(state)
    with sqlite3.connect(state.vm / "originals.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(VmConfigError, match="newer xenqemu"):
        _kept(state)


def _edits(folder: Path, count: int = 3, verb: str = USE) -> list[Edit]:
    return [Edit(read_config(config(folder, name=f"{i}.cfg")), NEW, verb) for i in range(count)]


@pytest.mark.parametrize("whole", [False, True])
def test_all_are_replaced_and_kept(state: StateDir, tmp_path: Path, quiet_ui: QuietUi, whole: bool) -> None:
    edits = _edits(tmp_path)
    with editing(state, quiet_ui) as originals:
        assert apply(edits, originals, quiet_ui, whole=whole) == {}
    assert {edit.file.path.read_bytes() for edit in edits} == {NEW}
    assert {original.content for original in _kept(state).values()} == {HVM}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_one_that_fails_leaves_the_others(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    edits = _edits(tmp_path)
    edits[1].file.path.write_bytes(b"edited")
    with editing(state, quiet_ui) as originals:
        failed = apply(edits, originals, quiet_ui, whole=False)
    assert list(failed) == [edits[1].file.path]
    assert [edit.file.path.read_bytes() for edit in edits] == [NEW, b"edited", NEW]
    assert sorted(_kept(state)) == ["0.cfg", "2.cfg"]
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_one_that_fails_takes_back_the_others(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    edits = _edits(tmp_path)
    edits[1].file.path.write_bytes(b"edited")  # noticed when the first has been replaced already
    with editing(state, quiet_ui) as originals:
        failed = apply(edits, originals, quiet_ui, whole=True)
    assert list(failed) == [edits[1].file.path]
    assert [edit.file.path.read_bytes() for edit in edits] == [HVM, b"edited", HVM]
    assert _kept(state) == {}
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_interrupt_leaves_nothing_half_done(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = _edits(tmp_path)

    def interrupt(file: ConfigFile, temporary: Path) -> None:
        if "2.cfg" in temporary.name:
            raise KeyboardInterrupt
        put_in_place(file, temporary)

    monkeypatch.setattr(transaction, "put_in_place", interrupt)
    with pytest.raises(KeyboardInterrupt), editing(state, quiet_ui) as originals:
        apply(edits, originals, quiet_ui, whole=False)
    assert [edit.file.path.read_bytes() for edit in edits] == [NEW, NEW, HVM]
    assert sorted(_kept(state)) == ["0.cfg", "1.cfg"]


def _killed(state: StateDir, changes: list[Change]) -> None:
    with open_originals(state) as originals:
        originals.begin(changes)


def test_recovery_drops_what_was_not_begun(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    path = config(tmp_path)
    change = _change(path)
    change.temporary.write_bytes(b"half of it")
    _killed(state, [change])
    recover(state, quiet_ui)
    assert _kept(state) == {}
    assert path.read_bytes() == HVM
    assert not change.temporary.exists()


@pytest.mark.parametrize("whole", [False, True])
def test_recovery_of_what_was_made(state: StateDir, tmp_path: Path, quiet_ui: QuietUi, whole: bool) -> None:
    path = config(tmp_path, NEW)
    path.chmod(0o640)
    _killed(state, [_change(path, whole=whole)])
    recover(state, quiet_ui)
    # One of a set is taken back; one alone stands.
    assert path.read_bytes() == (HVM if whole else NEW)
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(_kept(state)) == ([] if whole else ["one.cfg"])


def test_recovery_of_what_was_reverted(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    path = config(tmp_path)
    with editing(state, quiet_ui) as originals:
        apply([Edit(read_config(path), NEW, USE)], originals, quiet_ui, whole=False)
    path.write_bytes(HVM)
    _killed(state, [_change(path, NEW, HVM, REVERT)])
    recover(state, quiet_ui)
    assert _kept(state) == {}


@pytest.mark.parametrize("begun", [False, True])
def test_recovery_where_someone_has_edited(state: StateDir, tmp_path: Path, quiet_ui: QuietUi, begun: bool) -> None:
    path = config(tmp_path, b"edited")
    change = _change(path)
    if begun:
        change.temporary.write_bytes(NEW)  # so it was not renamed, and the edit is one of the original
    _killed(state, [change])
    recover(state, quiet_ui)
    assert path.read_bytes() == b"edited"
    assert list(_kept(state)) == ([] if begun else ["one.cfg"])


def test_recovery_where_the_config_is_gone(state: StateDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _killed(state, [_change(tmp_path / "gone.cfg"), _change(tmp_path / "nothing" / "gone.cfg")])
    recover(state, PlainUi())
    assert "gone.cfg" in capsys.readouterr().err
    assert len(_kept(state)) == 1


def test_recovery_that_cannot_be_done_is_tried_again(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    path = config(tmp_path, NEW)
    change = _change(path)
    change.temporary.mkdir()
    _killed(state, [change])
    with pytest.raises(VmConfigError, match="cannot be removed"):
        recover(state, quiet_ui)
    change.temporary.rmdir()
    recover(state, quiet_ui)
    assert list(_kept(state)) == ["one.cfg"]


def test_a_long_name_has_a_temporary_file_that_fits(state: StateDir, tmp_path: Path, quiet_ui: QuietUi) -> None:
    path = config(tmp_path, name="é" * 125 + ".cfg")
    with editing(state, quiet_ui) as originals:
        assert apply([Edit(read_config(path), NEW, USE)], originals, quiet_ui, whole=False) == {}
    assert path.read_bytes() == NEW


def test_two_runs_of_one_user_wait_for_each_other(state: StateDir, capsys: pytest.CaptureFixture[str]) -> None:
    lock = FileLock(state.root / "locks" / "vm.lock")
    with lock:
        second = threading.Thread(target=recover, args=(state, PlainUi()))
        _kept(state)
        second.start()
        second.join(0.2)
        assert second.is_alive()
    second.join(10)
    assert not second.is_alive()
    assert "waiting for another xenqemu" in capsys.readouterr().err


def test_runs_with_different_state_directories_wait_for_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entered: list[float] = []

    def second() -> None:
        with locked([tmp_path, tmp_path], PlainUi()) as failed:
            assert failed == {}
            entered.append(time.monotonic())

    thread = threading.Thread(target=second)
    with locked([tmp_path], QuietUi()):
        thread.start()
        thread.join(0.2)
        assert entered == []
        left = time.monotonic()
    thread.join(10)
    assert entered[0] >= left
    assert "waiting for another run that changes configs" in capsys.readouterr().err


def test_a_folder_that_cannot_be_locked(tmp_path: Path, quiet_ui: QuietUi) -> None:
    with locked([tmp_path, tmp_path / "nothing"], quiet_ui) as failed:
        assert list(failed) == [tmp_path / "nothing"]


def test_a_file_system_without_locks(tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked([tmp_path], quiet_ui) as failed:
        assert failed == {}


def test_too_many_folders_at_once(tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(os, "open", refuse)
    with locked([tmp_path], quiet_ui) as failed:
        assert "ulimit -n" in failed[tmp_path].hint


def test_a_folder_that_cannot_be_synced(
    state: StateDir, tmp_path: Path, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(5, os.strerror(5))

    path = config(tmp_path)
    with editing(state, quiet_ui) as originals:
        monkeypatch.setattr(transaction, "sync_folder", refuse)
        with pytest.raises(VmConfigError, match="cannot be synced"):
            apply([Edit(read_config(path), NEW, USE)], originals, quiet_ui, whole=False)
        monkeypatch.undo()
    recover(state, quiet_ui)
    assert path.read_bytes() == NEW
    assert list(_kept(state)) == ["one.cfg"]
