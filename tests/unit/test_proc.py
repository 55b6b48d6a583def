"""Running commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xenqemu.errors import MissingError
from xenqemu.proc import CommandFailedError, run, stream


def test_output_and_input_go_through() -> None:
    done = run(["cat"], stdin=b"a\xff\n")
    assert done.ok
    assert done.stdout == "a\\xff\n"


def test_the_environment_is_replaced_and_not_added_to() -> None:
    assert run(["/usr/bin/env"], env={"ONLY": "this"}).stdout == "ONLY=this\n"


def test_a_failure_carries_what_was_said() -> None:
    with pytest.raises(CommandFailedError, match="exit 3") as caught:
        run(["sh", "-c", "echo why >&2; exit 3"])
    assert caught.value.completed.stderr == "why\n"
    assert run(["false"], check=False).returncode == 1


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    for call in (run, lambda argv: stream(argv, print)):
        with pytest.raises(MissingError, match="'no-such-program' is not installed"):
            call(["no-such-program"])
    with pytest.raises(FileNotFoundError):
        run(["true"], cwd=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("mode", "content"), [(0o644, "#!/bin/sh\n"), (0o755, ""), (0o755, "#!/no/such/interpreter\n")]
)
def test_a_program_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, content: str
) -> None:
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(mode)
    with pytest.raises(MissingError, match=f"'{program}' (cannot be run|is not installed)"):
        run([program])
    # Without setpriv, which would take a file without a header for a shell script.
    monkeypatch.setattr("shutil.which", lambda name, path=None: None if name == "setpriv" else name)
    with pytest.raises(MissingError, match=f"'{program}' (cannot be run|is not installed)"):
        stream([program], print)
    with pytest.raises(OSError, match="nowhere"):
        stream(["true"], print, cwd=tmp_path / "nowhere")


def test_a_stream_gives_lines_and_keeps_a_log(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "log"
    code = stream(["sh", "-c", "echo one; echo two >&2; exit 4"], lines.append, log=log)
    assert code == 4
    assert lines == ["one", "two"]
    assert log.read_text() == "$ sh -c 'echo one; echo two >&2; exit 4'\none\ntwo\n"


def test_an_exception_in_the_reader_ends_the_command() -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stream(["sh", "-c", "echo one; exec sleep 60"], stop)
    assert time.monotonic() - started < 30


def test_a_command_does_not_outlive_a_killed_xenqemu(tmp_path: Path) -> None:
    program = (
        "from xenqemu.proc import stream; import sys;"
        "stream(['sh', '-c', 'echo $$; exec sleep 60'], lambda line: print(line, flush=True))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    pytest.fail("the command still runs")
