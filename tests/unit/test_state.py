"""The state directory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from xenqemu.errors import MissingError
from xenqemu.state import StateDir, publish, write_atomic
from xenqemu.ui import PlainUi


def test_a_directory_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MissingError, match="cannot be written") as caught:
        StateDir(tmp_path / "file" / "state").create()
    assert "--state-dir" in caught.value.hint


def test_what_is_remembered_is_recalled_and_rubbish_is_not(state: StateDir) -> None:
    state.remember("kind", "key", {"a": [1]})
    assert state.recall("kind", "key") == {"a": [1]}
    assert state.recall("kind", "other") is None
    for rubbish in ("{", "[1]", ""):
        (state.memo / "kind" / "key.json").write_text(rubbish)
        assert state.recall("kind", "key") is None


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old", 0o755)
    assert path.stat().st_mode & 0o777 == 0o755

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_to_publish_wins(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        publish(tmp_path / name, tmp_path / "deep" / "result")
    assert (tmp_path / "deep" / "result" / "file").read_text() == "one"


def test_publishing_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "nothing", tmp_path / "result")


def test_scratch_folders_go_away_however_they_are_left(state: StateDir) -> None:
    with contextlib.suppress(ZeroDivisionError), state.scratch("x") as folder:
        (folder / "file").touch()
        _ = 1 / 0
    assert not folder.exists()


def test_a_lock_that_is_held_is_waited_for_and_that_is_said(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def second() -> None:
        with state.lock("thing", PlainUi()):
            order.append("second")

    with state.lock("thing", PlainUi()):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]
    assert "waiting for another xenqemu" in capsys.readouterr().err


def test_users_share_the_directory_and_one_alone_waits_for_them(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def alone() -> None:
        with state.alone(PlainUi()):
            order.append("alone")

    with state.using(PlainUi()), state.using(PlainUi()):
        thread = threading.Thread(target=alone)
        thread.start()
        thread.join(0.3)
        order.append("users")
    thread.join(20)
    assert order == ["users", "alone"]
    assert capsys.readouterr().err.count("waiting for other runs of xenqemu to end") == 1


def test_nobody_begins_while_one_is_alone(state: StateDir, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def use() -> None:
        with state.using(PlainUi()):
            order.append("user")

    with state.alone(PlainUi()):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join(0.3)
        order.append("alone")
    thread.join(20)
    assert order == ["alone", "user"]
    assert "waiting for `xenqemu cache prune`" in capsys.readouterr().err


def test_a_killed_user_is_nobody(state: StateDir) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from xenqemu.state import StateDir;"
        "from xenqemu.ui import QuietUi; context = StateDir(Path(sys.argv[1])).using(QuietUi());"
        "context.__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, state.root], check=False).returncode == -signal.SIGKILL
    with state.alone(PlainUi()):
        pass


def test_the_layout_is_below_the_root(state: StateDir) -> None:
    places = (state.git, state.downloads, state.apt, state.memo, state.trees, state.xen, state.builds, state.artifacts)
    assert {place.parent for place in places} == {state.root}
    assert len(set(places)) == len(places)
