"""`vm use` and `vm revert`, killed at every system call that writes: nothing is lost, and the next run completes."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.unit.vmconfigs import DM, HVM, LINES, config, metadata, recover
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi
from xenqemu.vm.originals import USE, Change, digest, open_originals
from xenqemu.vm.replace import put_in_place, read_config, sync_written, write_beside
from xenqemu.vm.revert import kept, revert
from xenqemu.vm.use import UseRequest, use

_CALLS = (
    "write,writev,pwrite64,pwritev,sendfile,copy_file_range,ftruncate,truncate,fallocate,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,openat,"
    "chmod,fchmod,fchmodat,chown,fchown,fchownat,setxattr,fsetxattr,removexattr,fremovexattr"
)
_PR_SET_PTRACER = 0x59616D61
_NEW = HVM + LINES


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where the thousands of syncs take no time, if that file system has attributes."""
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        try:
            os.setxattr(name, "user.note", b"")
        except OSError:
            yield tmp_path
        else:
            yield Path(name)


@dataclass(frozen=True)
class _Scene:
    """Configs and a state directory of their own, for one run."""

    state: StateDir
    configs: tuple[Path, ...]

    @property
    def contents(self) -> list[bytes]:
        return [path.read_bytes() for path in self.configs]


def _scene(folder: Path, count: int, used: bool) -> _Scene:
    (folder / "xen").mkdir(parents=True)
    scene = _Scene(
        StateDir(folder / "state").create(),
        tuple(config(folder / "xen", HVM, f"{number}.cfg") for number in range(count)),
    )
    for path in scene.configs:
        path.chmod(0o640)
        os.setxattr(path, "user.note", b"kept")
    if used:
        use(UseRequest(DM, scene.configs), scene.state, QuietUi())
    return scene


def _traced(action: Callable[[], object], *options: str) -> int:
    """Call `action` in a process of its own under strace, and return how that ended (negative: the signal).

    It is forked, with everything imported, so that each costs a fiftieth of a second; strace comes to it while it is
    stopped.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_long(-1), 0, 0, 0)  # Yama lets parents only, otherwise
            os.kill(os.getpid(), signal.SIGSTOP)
            action()
            code = 0
        finally:
            os._exit(code)
    os.waitpid(child, os.WUNTRACED)
    with subprocess.Popen(["strace", "-f", *options, "-p", str(child)], stderr=subprocess.PIPE) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(child, 0)
        said += strace.stderr.read()
    assert b"attached" in said, said.decode()
    return os.waitstatus_to_exitcode(status)


def _kills(scene: _Scene, action: Callable[[], object]) -> list[tuple[str, int]]:
    """Call `action` to its end, and return which call of which name, of a thread, it can be killed at."""
    log = scene.state.root / "strace.log"
    assert _traced(action, "-e", f"trace={_CALLS}", "-o", str(log)) == 0
    counts: Counter[tuple[str, str]] = Counter()
    kills = set()
    for thread, name, rest in re.findall(r"^(\d+) +(\w+)\((.*)$", log.read_text(errors="replace"), re.MULTILINE):
        counts[thread, name] += 1
        if name != "openat" or "O_CREAT" in rest:
            kills.add((name, counts[thread, name]))
    return sorted(kills)


def _injection(name: str, occurrence: int) -> tuple[str, ...]:
    """Return the options that kill a thread as it enters its system call `name` for so many times."""
    return ("-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={occurrence}", "-o", os.devnull)


def _each_kill(
    folder: Path,
    act: Callable[[_Scene], object],
    check: Callable[[_Scene], None],
    *,
    count: int = 1,
    used: bool = False,
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    first = _scene(folder / "first", count, used)
    before = [metadata(path) for path in first.configs]
    kills = _kills(first, lambda: act(first))
    assert {"rename", "pwrite64", "openat", "fsync", "unlink"} <= {name for name, _ in kills}
    completed = 0
    for number, (name, occurrence) in enumerate(kills):
        scene = _scene(folder / str(number), count, used)
        code = _traced(partial(act, scene), *_injection(name, occurrence))
        where = f"killed at {name} {occurrence}"
        assert code in (0, -signal.SIGKILL), where
        completed += code == 0
        assert set(scene.contents) <= {HVM, _NEW}, where
        assert [metadata(path) for path in scene.configs] == before, where
        try:
            check(scene)
        except AssertionError as error:
            raise AssertionError(where) from error
        assert [metadata(path) for path in scene.configs] == before, where
        shutil.rmtree(folder / str(number))
    # Which of several threads comes to do a thing so many times is not the same each time.
    assert completed <= (len(kills) // 4 if count > 1 else 0)


def _clean(scene: _Scene) -> None:
    """Assert that nothing of a killed run is left."""
    assert sorted(scene.configs[0].parent.iterdir()) == sorted(scene.configs)
    with open_originals(scene.state) as originals:
        assert originals.changes() == ()


def _use_again(scene: _Scene) -> None:
    results = use(UseRequest(DM, scene.configs), scene.state, QuietUi())
    assert {result.action for result in results} <= {"changed", "unchanged"}
    assert set(scene.contents) == {_NEW}
    _clean(scene)
    assert {result.action for result in revert(scene.configs, scene.state, QuietUi())} == {"reverted"}
    assert set(scene.contents) == {HVM}
    _clean(scene)


def _use(scene: _Scene, *, whole: bool = False) -> None:
    use(UseRequest(DM, scene.configs, whole=whole), scene.state, QuietUi())


def test_use(folder: Path) -> None:
    _each_kill(folder, _use, _use_again)


def test_use_of_all_or_none(folder: Path) -> None:
    def check(scene: _Scene) -> None:
        recover(scene.state, QuietUi())
        assert len(set(scene.contents)) == 1
        assert len(kept(scene.state)) == (len(scene.configs) if scene.contents[0] == _NEW else 0)
        _use_again(scene)

    _each_kill(folder, partial(_use, whole=True), check, count=3)


def test_taking_back_half_of_a_set(folder: Path) -> None:
    def use_and_recover(scene: _Scene) -> None:
        _half(scene)
        recover(scene.state, QuietUi())

    def check(scene: _Scene) -> None:
        recover(scene.state, QuietUi())
        assert set(scene.contents) == {HVM}
        assert kept(scene.state) == ()
        _use_again(scene)

    _each_kill(folder, use_and_recover, check, count=2)


def _half(scene: _Scene) -> None:
    """Leave what a run leaves that is killed after it has replaced the first of two configs."""
    with open_originals(scene.state) as originals:
        if not originals.changes():
            paths = scene.configs
            originals.begin(
                Change(path, path.with_name(f".{path.name}"), USE, HVM, digest(_NEW), True) for path in paths
            )
            file = read_config(paths[0])
            sync_written(file, write_beside(file, paths[0].with_name(".0.cfg"), _NEW))
            put_in_place(file, paths[0].with_name(".0.cfg"))


def test_revert(folder: Path) -> None:
    def check(scene: _Scene) -> None:
        results = revert(scene.configs, scene.state, QuietUi())
        assert set(scene.contents) == {HVM}
        # Where nothing is kept any more, the killed run had done it all.
        assert all(result.action == "reverted" or "nothing is kept" in result.reason for result in results)
        assert kept(scene.state) == ()
        _clean(scene)

    def act(scene: _Scene) -> None:
        revert(scene.configs, scene.state, QuietUi())

    _each_kill(folder, act, check, used=True)


@pytest.mark.parametrize(("name", "occurrence"), [("rename", 1), ("fsync", 1), ("pwrite64", 5), ("unlink", 1)])
def test_the_command(folder: Path, name: str, occurrence: int) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    scene = _scene(folder, 1, used=False)
    main = [sys.executable, "-c", "from xenqemu.cli.main import main; main()", "--state-dir", str(scene.state.root)]
    command = [*main, "vm", "use", str(scene.configs[0]), "--dm", sys.executable]
    strace = ["strace", "-f", "-qq", *_injection(name, occurrence)]
    done = subprocess.run([*strace, *command], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert scene.configs[0].read_bytes() in (HVM, HVM + LINES.replace(str(DM.path).encode(), sys.executable.encode()))
    _use_again(scene)
