"""What the system refuses: folders that cannot be read, a state directory that cannot be written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fake_qemu import write_checkout, write_fake_qemu
from tests.unit.test_source_forms import obtained, pack
from xenqemu.errors import EXIT_MISSING, EXIT_SOURCE, MissingError, SourceError
from xenqemu.proc import CommandFailedError, Completed
from xenqemu.state import StateDir

# Prints the exit code and the message; anything that is no XenqemuError ends as a traceback.
SCRIPT = (
    "import sys; from pathlib import Path\n"
    "from xenqemu.errors import XenqemuError\n"
    "from xenqemu.source import obtain, parse_source\n"
    "from xenqemu.state import StateDir; from xenqemu.ui import QuietUi\n"
    "try: obtain(parse_source(sys.argv[1], sha256=sys.argv[3] or None), StateDir(Path(sys.argv[2])), QuietUi())\n"
    "except XenqemuError as error: print(error.exit_code, error.message)\n"
)
# Permissions say nothing to root, unless it gives up the capabilities that override them.
PLAIN = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def refused(source: Path | str, state: StateDir, sha256: str = "") -> str:
    """Return exit code and message of obtaining `source` as a user whom permissions bind."""
    argv = [*PLAIN, sys.executable, "-c", SCRIPT, str(source), str(state.root), sha256]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def locked() -> Iterator[list[Path]]:
    """Collects what a test took the permissions of, and gives them back."""
    paths: list[Path] = []
    yield paths
    for path in paths:
        path.chmod(0o755)


@pytest.mark.parametrize(
    ("form", "what"),
    [
        *((form, what) for form in ("checkout", "directory") for what in ("", "hw", "hw/i386")),
        *(("checkout", what) for what in (".git", ".git/objects", ".git/HEAD", ".git/index")),
        ("directory", "configure"),
    ],
)
def test_a_source_that_cannot_be_read(
    form: str, what: str, tmp_path: Path, state: StateDir, locked: list[Path]
) -> None:
    write_checkout(tmp_path / "q") if form == "checkout" else write_fake_qemu(tmp_path / "q")
    path = tmp_path / "q" / what
    path.chmod(0)
    locked.append(path)
    said = refused(tmp_path / "q", state)
    assert said.startswith(f"{EXIT_SOURCE} ")
    assert str(tmp_path / "q") in said


def test_a_tarball_that_cannot_be_read(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    archive = pack(tmp_path / "q", tmp_path / "q.tar.xz")
    archive.chmod(0)
    assert refused(archive, state) == f"{EXIT_SOURCE} {archive} cannot be read: Permission denied\n"
    assert refused(f"file://{archive}", state, "0" * 64) == f"{EXIT_SOURCE} {archive}: Permission denied\n"


@pytest.mark.parametrize(
    "inside", ["git", "git/objects/pack", "git/refs/xenqemu/tree", "memo/source", "tmp", "downloads"]
)
def test_a_state_directory_whose_inside_cannot_be_written(
    inside: str, tmp_path: Path, state: StateDir, locked: list[Path]
) -> None:
    for name in ("first", "second"):
        write_fake_qemu(tmp_path / name)
        (tmp_path / name / "what").write_text(name)
    obtained(tmp_path / "first", state)
    source, sha256 = str(tmp_path / "second"), ""
    if inside == "downloads":
        source, sha256 = f"file://{pack(tmp_path / 'second', tmp_path / 'q.tar.xz')}", "0" * 64
    path = state.root / inside
    path.mkdir(exist_ok=True)
    path.chmod(0o555)
    locked.append(path)
    said = refused(source, state, sha256)
    assert said.startswith(f"{EXIT_MISSING} the state directory cannot be used: {path}")
    assert "ermission denied" in said


@pytest.mark.parametrize("inside", ["", "locks", "memo"])
def test_a_new_state_directory_that_cannot_be_written(
    inside: str, tmp_path: Path, state: StateDir, locked: list[Path]
) -> None:
    write_fake_qemu(tmp_path / "q")
    path = state.root / inside
    path.chmod(0o555)
    locked.append(path)
    said = refused(tmp_path / "q", state)
    assert said.startswith(f"{EXIT_MISSING} the state directory cannot be used: {path}")


def test_clones_that_cannot_be_written(tmp_path: Path, state: StateDir, locked: list[Path]) -> None:
    write_checkout(tmp_path / "q")
    state.clones.mkdir()
    state.clones.chmod(0o500)
    locked.append(state.clones)
    said = refused(f"file://{tmp_path}/q@main", state)
    assert said.startswith(f"{EXIT_MISSING} the state directory cannot be used: {state.clones}")


def raising(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("xenqemu.source.directory.import_once", fail)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(28, "No space left on device", "/x"), MissingError, "no space left in"),
        (OSError(30, "Read-only file system", "{state}/memo/x"), MissingError, "{state}/memo/x: Read-only file system"),
        (OSError(13, "Denied", "{state}/tmp/x", None, "{state}/git"), MissingError, "{state}/git: Denied"),
        (OSError(13, "Denied", "/elsewhere"), SourceError, "/elsewhere: Denied"),
        (OSError(5, "Input/output error"), SourceError, "{source}: Input/output error"),
    ],
)
def test_whose_fault_it_is(
    error: OSError,
    expected: type[Exception],
    message: str,
    tmp_path: Path,
    state: StateDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_fake_qemu(tmp_path / "q")
    names = {"state": state.root, "source": tmp_path / "q"}
    for attribute in ("filename", "filename2"):
        if getattr(error, attribute) is not None:
            setattr(error, attribute, str(getattr(error, attribute)).format(**names))
    raising(error, monkeypatch)
    with pytest.raises(expected, match=re.escape(message.format(**names))):
        obtained(tmp_path / "q", state)


def test_a_command_that_was_refused(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake_qemu(tmp_path / "q")
    raising(CommandFailedError(Completed(("git",), 128, "", "fatal: x: Permission denied\n")), monkeypatch)
    with pytest.raises(SourceError, match=r"`git` failed: fatal: x: Permission denied"):
        obtained(tmp_path / "q", state)
    state.clones.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: path != state.clones)
    with pytest.raises(MissingError, match=re.escape(f"cannot be used: {state.clones}: Permission denied")):
        obtained(tmp_path / "q", state)
