"""A dom0 prompt: on a terminal, or for the commands of a script."""

from __future__ import annotations

import os
import select
import signal
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import BinaryIO

from xenqemu.lab.host import Host, Job
from xenqemu.lab.model import Completed

# What ends the session without dom0's help, as in telnet and xl console.
LEAVE = b"\x1d"
_TERMINAL = "/run/xenqemu-shell"
_SCRIPT = "/run/xenqemu-script"
_FALLBACK_TERM = "linux"
# How often (seconds) it is looked whether the shell has ended: each look costs dom0 some time.
_LOOK = 0.5
_CHUNK = 1 << 16


def attach_terminal(host: Host, keyboard: int, screen: int) -> None:
    """Let the terminal behind the descriptors `keyboard` and `screen` talk to a login shell in dom0, to its end.

    The terminal is raw meanwhile and its size is passed on; Ctrl-] (`LEAVE`) leaves at once. Raises `HostError`.
    """
    term = os.environ.get("TERM", "")
    term = term if term.replace("-", "").isalnum() else _FALLBACK_TERM  # it goes through socat's own syntax
    address = f"EXEC:env TERM={term} /usr/lib/xenqemu/shell {' '.join(_size(screen))}"
    connection = host.stream(("socat", "STDIO", f"{address},pty,setsid,ctty,stderr,sane"))
    with connection, _raw(keyboard), _resizes() as resized:
        job = host.stream_job(connection)
        looked = time.monotonic()
        while True:
            if resized:
                resized.clear()
                _pass_size_on(host, screen)
            poll = select.poll()
            poll.register(keyboard, select.POLLIN)
            poll.register(connection, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(1000 * _LOOK)}
            if keyboard in ready:
                typed = os.read(keyboard, _CHUNK)
                if not typed or LEAVE in typed:
                    return
                connection.sendall(typed)
            if connection.fileno() in ready:
                said = connection.recv(_CHUNK)
                if not said:
                    return
                _write(screen, said)
            elif time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                if not job.poll().running:
                    return


def run_script(host: Host, script: bytes, sink: BinaryIO) -> Completed:
    """Run the commands of `script` in a login shell in dom0, without input, and write what they say to `sink`.

    Returns how the shell ended; its output went the other way. Raises `HostError`.
    """
    host.write(_SCRIPT, script)
    with host.stream(("bash", "-lc", f". {_SCRIPT} </dev/null")) as connection:
        job = host.stream_job(connection)
        connection.settimeout(_LOOK)
        ended: Completed | None = None
        while True:
            try:
                said = connection.recv(_CHUNK)
            except TimeoutError:
                if ended is not None:  # and nothing more has come since
                    return ended
                ended = _completed(job)
                continue
            sink.write(said)
            sink.flush()


def _completed(job: Job) -> Completed | None:
    return job.poll().completed


def _write(screen: int, data: bytes) -> None:
    while data:
        data = data[os.write(screen, data) :]


def _pass_size_on(host: Host, screen: int) -> None:
    rows, columns = _size(screen)
    host.run(("stty", "-F", _TERMINAL, "rows", rows, "cols", columns))


def _size(screen: int) -> tuple[str, str]:
    size = os.get_terminal_size(screen)
    return str(size.lines), str(size.columns)


@contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _resizes() -> Iterator[list[bool]]:
    """Enter a list that is not empty when the terminal has changed its size."""
    resized: list[bool] = []

    def note(_signal: int, _frame: FrameType | None) -> None:
        resized.append(True)

    before = signal.signal(signal.SIGWINCH, note)
    try:
        yield resized
    finally:
        signal.signal(signal.SIGWINCH, before)
