"""Running other programs: argument lists, never a shell; output captured, logged or streamed."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import MissingError

Argv = Sequence[str | os.PathLike[str]]

# execve(2) about the file that shall be run.
_NO_PROGRAM = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC, errno.ELOOP, errno.ELIBBAD)


@dataclass(frozen=True)
class Completed:
    """A command that has ended: what it was, how it ended, what it said (undecodable bytes as escapes)."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether the command exited with 0."""
        return self.returncode == 0


class CommandFailedError(Exception):
    """A command exited with something other than 0; a stage turns it into an error that tells the user what to do."""

    def __init__(self, completed: Completed) -> None:
        super().__init__(f"exit {completed.returncode}: {shlex.join(completed.argv)}\n{completed.stderr}")
        self.completed = completed


def _words(argv: Argv) -> tuple[str, ...]:
    return tuple(os.fspath(word) for word in argv)


def _missing(argv: tuple[str, ...], error: OSError | None = None) -> MissingError:
    hint = "`xenqemu doctor` lists what to install for a build"
    if error is None or error.errno == errno.ENOENT:
        return MissingError(f"the command '{argv[0]}' is not installed", hint)
    return MissingError(f"the command '{argv[0]}' cannot be run: {error.strerror}", f"install it anew; {hint}")


def _is_about_the_program(error: OSError, cwd: Path | None) -> bool:
    """Whether `error` of starting a process is the program's fault, and not that of the folder it was to run in."""
    if error.errno not in _NO_PROGRAM:
        return False
    return cwd is None or (cwd.is_dir() and os.access(cwd, os.X_OK))


def run(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    check: bool = True,
) -> Completed:
    """Run `argv` to its end and return what it said.

    `env` replaces the environment (None: inherited); `stdin` is fed to the command (None: empty input).
    Raises `CommandFailedError` for an exit code other than 0 unless `check` is off, and `MissingError` when
    the program does not exist or is none (no right to execute it, another machine's).
    """
    words = _words(argv)
    try:
        process = subprocess.run(
            words,
            cwd=cwd,
            env=None if env is None else dict(env),
            input=b"" if stdin is None else stdin,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        if not _is_about_the_program(error, cwd):
            raise
        raise _missing(words, error) from error
    completed = Completed(
        words,
        process.returncode,
        process.stdout.decode("utf-8", "backslashreplace"),
        process.stderr.decode("utf-8", "backslashreplace"),
    )
    if check and not completed.ok:
        raise CommandFailedError(completed)
    return completed


def stream(
    argv: Argv,
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> int:
    """Run `argv`, hand each line of its output (stdout and stderr as one) to `on_line`, return its exit code.

    With `log` the raw output is also appended to that file, after a line with the command. The child is asked
    to end (SIGTERM) when this process dies, however it dies: a compile that outlives its xenqemu would write
    into a build directory that the next run already uses. `setpriv` (util-linux) does that without code
    between fork and exec. Raises `MissingError` when the program does not exist or is none.
    """
    words = _words(argv)
    if shutil.which(words[0], path=None if env is None else env.get("PATH")) is None:
        raise _missing(words)
    command = ("setpriv", "--pdeathsig", "TERM", "--", *words) if shutil.which("setpriv") else words
    with (log or Path(os.devnull)).open("ab") as sink:
        sink.write(f"$ {shlex.join(words)}\n".encode())
        sink.flush()
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:  # without setpriv the program's own fault shows here
            if not _is_about_the_program(error, cwd):
                raise
            raise _missing(words, error) from error
        try:
            for raw in process.stdout or ():
                sink.write(raw)
                on_line(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
