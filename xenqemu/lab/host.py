"""The virtual Xen host while it runs."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xenqemu.lab.model import Completed, HostDisk, HostOptions, JobStatus, LabBase, OverlayFile
from xenqemu.ui import Ui


class Job:
    """A program that was started in dom0 and not waited for."""

    def poll(self) -> JobStatus:
        """Return how it stands; its output comes when it has ended. Raises `HostError`."""
        raise NotImplementedError


class Host:
    """A running host. Every method raises `HostError` when dom0 does not answer in time or the host is gone."""

    @property
    def console(self) -> Path:
        """What Xen and dom0 wrote on their console so far, for people."""
        raise NotImplementedError

    def run(self, argv: Sequence[str], *, timeout: float = 30.0, stdin: bytes = b"") -> Completed:
        """Run `argv` in dom0 (no shell) to its end, for `timeout` seconds at most."""
        raise NotImplementedError

    def start(self, argv: Sequence[str]) -> Job:
        """Start `argv` in dom0 and return at once."""
        raise NotImplementedError

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Return up to `limit` bytes of dom0's file `path` from `offset` on; empty at its end.

        Raises `FileNotFoundError` when there is no such file.
        """
        raise NotImplementedError

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write dom0's file `path`."""
        raise NotImplementedError

    def stream(self, argv: Sequence[str]) -> socket.socket:
        """Return a connected socket to the standard input and output of `argv` in dom0; close it when done.

        A program that talks TCP there is `("socat", "-", "TCP:127.0.0.1:5900")`. A few may be open at a time.
        """
        raise NotImplementedError

    def uptime(self) -> float:
        """Return dom0's uptime in seconds."""
        raise NotImplementedError

    def close(self) -> None:
        """Switch the machine off, at once."""
        raise NotImplementedError


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
    emulator, `HostError` when dom0 is not up within the options' `boot_timeout`, with the reason.
    """
    raise NotImplementedError
    yield
