"""The virtual Xen host while it runs."""

from __future__ import annotations

import base64
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from xenqemu.errors import LabError, MissingError, is_disk_full
from xenqemu.lab import console, cpio
from xenqemu.lab.channel import Agent, AgentError, ChannelClosedError, ChannelTimeoutError
from xenqemu.lab.emulator import STREAM_PORT, Wiring, arguments, find_emulator
from xenqemu.lab.model import Completed, HostDisk, HostError, HostOptions, JobStatus, LabBase, OverlayFile
from xenqemu.lab.recipe import Recipe, nearest_recipe
from xenqemu.lab.spare import dom0_modules
from xenqemu.state import write_atomic
from xenqemu.ui import Ui

_STREAMS = 4
_CONSOLE = "console.log"
_INITRD = "initrd"
_EMULATOR_LOG = "emulator.log"
# The agent answers at once, whatever it has to start; on a loaded machine that takes its time.
_ANSWER = 60.0
_CHUNK = 1 << 20
_SHELL = ("/usr/lib/xenqemu/busybox", "sh", "-c")
# A port can be opened once at a time, for both directions: the program gets it as all three.
_ON_PORT = 'port=$0; exec <>"$port" >&0 2>&1; exec "$@"'


class Job:
    """A program that was started in dom0 and not waited for."""

    def __init__(self, host: Host, pid: int, argv: Sequence[str]) -> None:
        self._host = host
        self._argv = tuple(argv)
        self._ended: Completed | None = None
        self.pid = pid

    def poll(self) -> JobStatus:
        """Return how it stands; its output comes when it has ended. Raises `HostError`."""
        if self._ended is None:
            status = self._host.ask("guest-exec-status", pid=self.pid)
            if not status["exited"]:
                return JobStatus(running=True)
            code = int(status["exitcode"]) if "exitcode" in status else 128 + int(status.get("signal", 0))
            out, err = (base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data"))
            self._ended = Completed(out, err, code)
        return JobStatus(running=False, completed=self._ended)

    def wait(self, timeout: float) -> Completed:
        """Wait for its end, `timeout` seconds at most, and return it; one that takes longer is killed.

        Raises `HostError`.
        """
        deadline = time.monotonic() + timeout
        pause = 0.01
        while True:
            status = self.poll()
            if status.completed is not None:
                return status.completed
            if time.monotonic() > deadline:
                self.kill()
                raise HostError(
                    f"`{' '.join(self._argv)}` did not end in dom0 within {timeout:.0f} s", "see the console log"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def kill(self) -> None:
        """End it (SIGKILL); nothing happens when it has ended already. Raises `HostError`."""
        if self.poll().running:
            # The shell's own: a minimal system has no program of that name.
            self._host.run(("sh", "-c", 'kill -9 "$0"', str(self.pid)))


class Host:
    """A running host. Every method raises `HostError` when dom0 does not answer in time or the host is gone."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket, run_dir: Path) -> None:
        self._process = process
        self._run_dir = run_dir
        self._agent = Agent(connection, self._check_alive)
        self._streams: dict[int, Job] = {}

    @property
    def console(self) -> Path:
        """What Xen and dom0 wrote on their console so far, for people."""
        return self._run_dir / _CONSOLE

    def run(self, argv: Sequence[str], *, timeout: float = 30.0, stdin: bytes = b"") -> Completed:
        """Run `argv` in dom0 (no shell) to its end, for `timeout` seconds at most.

        A program that does not exist ends with 127, as in a shell. Of the output the agent keeps 16 MiB.
        """
        try:
            return self.start(argv, stdin=stdin).wait(timeout)
        except FileNotFoundError as error:
            return Completed(b"", str(error).encode(), 127)

    def start(self, argv: Sequence[str], *, stdin: bytes = b"") -> Job:
        """Start `argv` in dom0 and return at once. Raises `FileNotFoundError` when there is no such program."""
        if any(not _is_text(word) for word in argv):
            argv = ("bash", "-c", f"exec {' '.join(map(_spelt, argv))}")
        given: dict[str, Any] = {"input_data": base64.b64encode(stdin).decode()} if stdin else {}
        try:
            answer = self.ask("guest-exec", path=argv[0], arg=list(argv[1:]), capture_output=True, **given)
        except AgentError as error:
            raise FileNotFoundError(str(error)) from error
        return Job(self, int(answer["pid"]), argv)

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Return up to `limit` bytes of dom0's file `path` from `offset` on; empty at its end.

        For regular files and those of /proc and /sys: one that has to be waited for would stop the agent. Raises
        `FileNotFoundError` when there is no such file.
        """
        handle = self._open(path, "r")
        try:
            if offset:
                self.ask("guest-file-seek", handle=handle, offset=offset, whence="set")
            found = b""
            while len(found) < limit:
                answer = self.ask("guest-file-read", handle=handle, count=min(limit - len(found), _CHUNK))
                found += base64.b64decode(answer["buf-b64"])
                if answer["eof"] or not answer["count"]:
                    break
            return found
        finally:
            self.ask("guest-file-close", handle=handle)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write dom0's file `path`, whose folder exists. Raises `FileNotFoundError` when that is not so."""
        handle = self._open(path, "w")
        try:
            for start in range(0, len(data), _CHUNK):
                chunk = base64.b64encode(data[start : start + _CHUNK]).decode()
                self.ask("guest-file-write", handle=handle, buf_b64=chunk)
        finally:
            self.ask("guest-file-close", handle=handle)
        if mode != 0o644:
            self.run(("chmod", f"{mode:o}", path))

    def _open(self, path: str, mode: str) -> int:
        try:
            return int(self.ask("guest-file-open", path=path, mode=mode))
        except AgentError as error:
            raise FileNotFoundError(errno.ENOENT, str(error), path) from error

    def stream(self, argv: Sequence[str]) -> socket.socket:
        """Return a connected socket to the standard input and output (and error) of `argv` in dom0; close it when done.

        A program that talks TCP there is `("socat", "-", "TCP:127.0.0.1:5900")`. At most four are open at a time. The
        program sees the end of its input when the socket is closed; that the program ended shows `stream_ended`.
        """
        number = next((one for one in range(_STREAMS) if self._is_free(one)), None)
        if number is None:
            raise HostError("all streams to dom0 are in use", "close one first")
        connection = socket.socket(socket.AF_UNIX)
        try:
            with _short(self._run_dir) as folder:
                connection.connect(f"{folder}/{_socket_name(number)}")
            # The emulator handles the two in this order: dom0 knows of the connection before the program reads.
            self.ask("guest-ping")
            port = f"/dev/virtio-ports/{STREAM_PORT}.{number}"
            self._streams[number] = self.start((*_SHELL, _ON_PORT, port, *argv))
        except OSError as error:
            connection.close()
            raise HostError(f"no stream to dom0: {error}", "see the console log") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def stream_job(self, connection: socket.socket) -> Job:
        """Return the program behind a socket of `stream`."""
        number = int(str(connection.getpeername()).rpartition("stream")[2])
        return self._streams[number]

    def _is_free(self, number: int) -> bool:
        return number not in self._streams or not self._streams[number].poll().running

    def uptime(self) -> float:
        """Return dom0's uptime in seconds."""
        return float(self.read("/proc/uptime").split()[0])

    def close(self) -> None:
        """Switch the machine off, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def ask(self, command: str, *, timeout: float = _ANSWER, **arguments: Any) -> Any:
        """Return the guest agent's answer to a command of its own (QEMU's qga/qapi-schema.json).

        Raises `xenqemu.lab.channel.AgentError` when it refuses.
        """
        try:
            return self._agent.call(command, timeout, **arguments)
        except ChannelTimeoutError as error:
            raise HostError(
                self._because(f"dom0 has not answered for {timeout:.0f} s"), "the console log tells more"
            ) from error
        except ChannelClosedError as error:
            self._ended(error)

    def wait_until_up(self, timeout: float) -> None:
        """Wait for dom0's first answer, for `timeout` seconds at most."""
        try:
            self._agent.synchronise(timeout)
        except ChannelTimeoutError as error:
            raise HostError(
                self._because(f"dom0 was not up within {timeout:.0f} s"), "the console log tells more"
            ) from error
        except ChannelClosedError as error:
            self._ended(error)

    def _check_alive(self) -> None:
        if self._process.poll() is not None:
            raise ChannelClosedError

    def _ended(self, error: Exception) -> Any:
        """Raise the reason for the emulator's end, which its closed socket announces."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        said = console.tail(self._run_dir / _EMULATOR_LOG, 1)
        if code is None:
            what = "the emulator closed its connection to dom0"
        elif code < 0:
            what = f"the emulator was ended by {signal.Signals(-code).name}"
        elif code:
            what = f"the emulator ended with exit code {code}{f': {said}' if said else ''}"
        else:
            what = "the virtual machine was switched off or restarted"
        raise HostError(self._because(what), f"the console log tells more: {self.console}") from error

    def _because(self, what: str) -> str:
        """Return `what` with the reason that the console gives, or with its last lines."""
        reason = console.reason(self.console)
        if reason:
            return f"{what}: {reason}"
        last = console.tail(self.console, 3)
        return f"{what}; the console's last lines:\n{last}" if last else what


@contextmanager
def start_host(
    base: LabBase,
    overlay: Sequence[OverlayFile],
    disks: Sequence[HostDisk],
    options: HostOptions,
    run_dir: Path,
    ui: Ui,
) -> Iterator[Host]:
    """Enter a host with `overlay` on its file system and `disks` attached; it ends with the context.

    `run_dir` is an existing folder that keeps the console log and the command line. Raises `MissingError` without an
    emulator, `HostError` when dom0 is not up within the options' `boot_timeout`, with the reason. The machine ends with
    the thread that started it, however that ends (PR_SET_PDEATHSIG of prctl(2)).
    """
    emulator = find_emulator()
    with ExitStack() as stack, ui.step(f"starting a virtual host with Xen {base.xen_version}"):
        try:
            recipe = nearest_recipe(base.series)
            initrd = _stage(recipe, base, overlay, options, run_dir)
            process, connection = _spawn(emulator, recipe, disks, options, run_dir, stack)
        except OSError as error:
            (run_dir / _INITRD).unlink(missing_ok=True)  # what has been written of it may fill the disk
            raise _no_host(error, run_dir) from error
        host = Host(process, connection, run_dir)
        stack.callback(host.close)
        host.wait_until_up(options.boot_timeout)
        initrd.unlink(missing_ok=True)
        kept = stack.pop_all()
    with kept:
        yield host


def _no_host(error: OSError, run_dir: Path) -> LabError | MissingError:
    if is_disk_full(error):
        return MissingError(f"no space left for the virtual host in {run_dir}", "free some, or use another --state-dir")
    return LabError(f"the virtual host cannot be started: {error}", "check the state directory")


def _stage(recipe: Recipe, base: LabBase, overlay: Sequence[OverlayFile], options: HostOptions, run_dir: Path) -> Path:
    """Write dom0's file system for this run, and links to the rest whose paths need no quoting; return the former."""
    for name, target in (("xen", base.hypervisor), ("vmlinux", base.dom0_kernel)):
        (run_dir / name).unlink(missing_ok=True)
        (run_dir / name).symlink_to(target.absolute())
    modules = "".join(f"{name}\n" for name in (*dom0_modules(options), *options.extra_modules))
    overlay = (*overlay, OverlayFile("/etc/xenqemu/modules", modules.encode()))
    # The path of a file is resolved in dom0 as it was written: the folders that it climbs out of have to exist.
    climbed = {recipe.place(f"{folder}/.").removesuffix("/.") for file in overlay for folder in _climbed(file.path)}
    files = {recipe.place(os.path.normpath(file.path)): file for file in overlay}
    initrd = run_dir / _INITRD
    with initrd.open("wb") as sink, base.base.open("rb") as source:
        size = base.base.stat().st_size
        while sink.tell() < size and os.sendfile(sink.fileno(), source.fileno(), None, size - sink.tell()):
            sink.seek(0, os.SEEK_END)
        cpio.write_archive(
            sink,
            (
                *map(cpio.directory, sorted(climbed)),
                *(
                    cpio.link(path, file.link) if file.link else cpio.regular(path, file.content, file.mode)
                    for path, file in files.items()
                ),
            ),
        )
    return initrd


def _climbed(path: str) -> Iterator[str]:
    """Yield the folders that `..` in `path` leaves."""
    parts = PurePosixPath(path).parts
    for number, part in enumerate(parts):
        if part == "..":
            yield os.path.normpath(PurePosixPath(*parts[:number]))


def _spawn(
    emulator: str, recipe: Recipe, disks: Sequence[HostDisk], options: HostOptions, run_dir: Path, stack: ExitStack
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the emulator; return it and the agent's connection, which `stack` closes."""
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    ours.setblocking(False)
    with ExitStack() as given:
        given.callback(theirs.close)
        listeners = []
        with _short(run_dir) as folder:
            for number in range(_STREAMS):
                listener = given.enter_context(socket.socket(socket.AF_UNIX))
                (run_dir / _socket_name(number)).unlink(missing_ok=True)
                listener.bind(f"{folder}/{_socket_name(number)}")
                listener.listen(1)
                listeners.append(listener.fileno())
        wiring = Wiring(theirs.fileno(), listeners, _CONSOLE, "xen", "vmlinux", _INITRD)
        argv = ("setpriv", "--pdeathsig", "KILL", "--", emulator, *arguments(recipe, options, disks, wiring))
        write_atomic(run_dir / "emulator.argv", "\n".join(argv).encode() + b"\n")
        (run_dir / _CONSOLE).write_bytes(b"")
        log = given.enter_context((run_dir / _EMULATOR_LOG).open("wb"))
        process = subprocess.Popen(
            argv,
            cwd=run_dir,
            env={**os.environ, "TMPDIR": str(run_dir.absolute())},  # where throw-away writes go
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(theirs.fileno(), *listeners),
            start_new_session=True,  # a Ctrl-C is for us to handle
        )
    return process, ours


def _is_text(word: str) -> bool:
    """Whether the agent's JSON can have `word`: bytes that are no UTF-8 (surrogates) it refuses."""
    return not any("\ud800" <= char <= "\udfff" for char in word)


def _spelt(word: str) -> str:
    """Return `word` for bash, byte by byte; busybox's shell would run its own `env`, whatever the PATH."""
    return "$'" + "".join(f"\\{byte:03o}" for byte in os.fsencode(word)) + "'"


def _socket_name(number: int) -> str:
    return f"stream{number}"


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Enter a short name of `folder`: a socket's path has 107 bytes at most (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
