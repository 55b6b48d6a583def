"""A device model started on a machine without Xen: as an idle PC that nothing runs on, and asked over QMP."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenqemu.errors import MissingError
from xenqemu.state import write_atomic
from xenqemu.sysroot import qemu_words

# qtest is the accelerator that every QEMU has and that executes nothing, so that devices are really created. `-S`
# keeps -incoming and the rest from beginning, the empty BIOS stands for one that a device model need not have.
_IDLE_PC = ("-machine", "pc,accel=qtest", "-S", "-m", "16")
_BARE = ("-nodefaults", "-no-user-config", "-display", "none")
_BIOS_SIZE = 65536
_DISK_SIZE = 1 << 20
_TIMEOUT = 30.0
# Of the environment only what finds libraries and programs: no display, no sound server, no settings of a user.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "ASAN_OPTIONS", "TMPDIR")
# A missing option ROM ends a device model under Xen too, except one that says in this case that it goes on.
_ROMLESS = b"going on without an option ROM"
_MISSING_ROM = re.compile(r'failed to find romfile "(?P<name>[^"/]+)"')
_NOISE = re.compile(r"warning:|^rom: |^Could not open option rom|info:|^\s|^QEMU \d")


@dataclass(frozen=True)
class Started:
    """A start that has ended: whether QMP answered, each command's answer (`return` or `error`), what it said."""

    up: bool
    answers: tuple[Mapping[str, Any], ...]
    complaint: str
    output: str

    def answer(self, index: int) -> Any:
        """Return what the command at `index` returned; None where it failed or was not reached."""
        return self.answers[index].get("return") if index < len(self.answers) else None


class Machine:
    """Starts `binary` with what it needs in the folder `scratch`, which is to be empty and to stay until the end.

    `data` are folders with data files (`-L`), for a binary that does not find its own where it is now.
    """

    def __init__(self, binary: Path, scratch: Path, data: Sequence[Path] = ()) -> None:
        self.binary = binary
        self._data = tuple(word for folder in data for word in ("-L", str(folder.absolute())))
        self.scratch = scratch
        self.bios = scratch / "bios.bin"
        _sparse(self.bios, _BIOS_SIZE)
        self._roms = scratch / "roms"
        self._roms.mkdir()
        self.romless = _contains(binary, _ROMLESS)

    def disk(self, name: str) -> Path:
        """Return an empty disk image of that name: one for each start, as a device model locks it."""
        path = self.scratch / f"{name}.img"
        if not path.exists():
            _sparse(path, _DISK_SIZE)
        return path

    def start(
        self,
        argv: Sequence[str],
        commands: Sequence[Mapping[str, Any]] = (),
        fds: Sequence[int] = (),
        limits: Mapping[str, int] | None = None,
    ) -> Started:
        """Start an idle PC with `argv`, have it answer `commands`, and end it.

        `limits` are resource limits to start it with, by the names of prlimit(1). An option ROM that only is missing
        here, where a device model of this project would do without, is given.
        Raises `MissingError` when the binary cannot be executed.
        """
        words = (*_IDLE_PC, "-bios", str(self.bios), *self._data, "-L", str(self._roms), *_BARE, *argv)
        given = set[str]()
        while True:
            started = self.run(words, commands, fds, limits)
            rom = _MISSING_ROM.search(started.complaint)
            if rom is None or not self.romless or rom["name"] in given:
                return started
            # Others may be starting, and must not see half of it.
            write_atomic(self._roms / rom["name"], b"\x55\xaa\x02" + bytes(1021))
            given.add(rom["name"])

    def start_xen(self, argv: Sequence[str], fds: Sequence[int] = ()) -> Started:
        """Start the device model with `argv`, which names Xen as accelerator, as libxl would."""
        return self.run((*self._data, *_BARE, *argv), (), fds)

    def run(
        self,
        argv: Sequence[str],
        commands: Sequence[Mapping[str, Any]] = (),
        fds: Sequence[int] = (),
        limits: Mapping[str, int] | None = None,
    ) -> Started:
        """Start the binary with `argv` and QMP on its standard input and output, to its end.

        One that does not end within half a minute is killed, and that is its complaint.
        """
        lines = [json.dumps(command) for command in ({"execute": "qmp_capabilities"}, *commands, {"execute": "quit"})]
        limited = ("prlimit", *(f"--{name}={value}" for name, value in limits.items()), "--") if limits else ()
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(
                    (*limited, *qemu_words(self.binary), *argv, "-qmp", "stdio"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    cwd=self.scratch,
                    env={**environment, "SDL_VIDEODRIVER": "dummy", "LC_ALL": "C"},
                    pass_fds=tuple(fds),
                    start_new_session=True,
                )
            except OSError as error:
                raise MissingError(
                    f"{self.binary} cannot be run: {error.strerror}", "name a device model's binary"
                ) from error
            answers, hung = _converse(process, lines)
            complaints.seek(0)
            output = complaints.read().decode("utf-8", "backslashreplace")
        if hung:
            return Started(False, (), f"it hung: killed after {_TIMEOUT:.0f} s", "")
        up = bool(answers) and process.returncode == 0
        return Started(up, tuple(answers[1:]), "" if up else _complaint(output, process.returncode, argv), output)


def _converse(process: subprocess.Popen[bytes], lines: Sequence[str]) -> tuple[list[Mapping[str, Any]], bool]:
    """Say each of `lines` when the one before is answered; return the answers, and whether the process hung.

    It has ended then. One after the other, because `quit` ends QEMU with what it could not write yet: the answer to
    query-qmp-schema is more than a pipe holds (`monitor_flush_locked` in QEMU's monitor/monitor.c).
    """
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process has no pipes")
    found: list[Mapping[str, Any]] = []
    hung = threading.Event()

    def kill() -> None:
        hung.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(_TIMEOUT, kill)
    timer.start()
    try:
        for line in lines:
            with suppress(BrokenPipeError):  # it has ended, and why is in what it said
                process.stdin.write(f"{line}\n".encode())
                process.stdin.flush()
            answer = next(filter(None, map(_answer, iter(process.stdout.readline, b""))), None)
            if answer is None:
                break
            found.append(answer)
        with suppress(BrokenPipeError):
            process.stdin.close()
        found += filter(None, map(_answer, process.stdout))
        process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        timer.cancel()
        process.stdout.close()
    return found, hung.is_set()


@contextmanager
def descriptors() -> Iterator[Mapping[str, int]]:
    """Enter with descriptors that a device model can inherit: `socket` listens, `pipe` is read and never written to."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listening.bind("")  # a name of the kernel's choice
        listening.listen(1)
        reading, writing = os.pipe()
        stack.callback(os.close, writing)
        stack.callback(os.close, reading)
        yield {"socket": listening.fileno(), "pipe": reading}


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listened to just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answer(line: bytes) -> Mapping[str, Any] | None:
    """Return the answer to a command that `line` is; None for a greeting, an event, or what is no QMP."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and ("return" in message or "error" in message) else None


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _complaint(output: str, code: int, argv: Sequence[str]) -> str:
    """Return the line that says why a device model ended, without its own name and what it was given."""
    lines = [line for line in output.splitlines() if line.strip() and not _NOISE.search(line)]
    named = [line for line in lines if re.match(r"(\S*/)?\S+: ", line)]
    if not lines:
        return (
            f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code} and without a word"
        )
    complaint = re.sub(r"^\S*qemu\S*: ", "", (named or lines)[-1]).strip()
    for option, value in itertools.pairwise(argv):
        complaint = complaint.removeprefix(f"{option} {value}: ")
    return complaint


def _contains(binary: Path, text: bytes) -> bool:
    try:
        return text in binary.read_bytes()
    except OSError as error:
        raise MissingError(f"{binary} cannot be read: {error.strerror}", "name a device model's binary") from error
