"""A virtual host that answers as a script says, for tests of what is done in one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from xenqemu.lab.model import Completed, HostError, JobStatus

DOMID = 3
XL_CREATED = b"libxl: debug: libxl_create.c:1:do_domain_create: Domain 3:running bootloader\n"
SERIAL = "/var/log/xen/3-0.text"
STORE = (
    b'/local/domain/3/image/device-model-pid = "735"\n'
    b'/local/domain/3/serial/0/tty = "/dev/pts/1"\n'
    b'/local/domain/3/console/vnc-port = "5907"\n'
)
ROLLUP = b"0-1 r--p 0 00:00 0 [rollup]\nRss: 20480 kB\nPss: 10240 kB\nPrivate_Dirty: 8192 kB\n"


class FakeJob:
    """A program that has ended, or never does."""

    def __init__(self, completed: Completed | None) -> None:
        self._completed = completed
        self.killed = False

    def poll(self) -> JobStatus:
        return JobStatus(self._completed is None, self._completed)

    def kill(self) -> None:
        self.killed = True


class FakeHost:
    """Files are bytes that grow by `later` once the guest runs; commands are remembered in `commands`."""

    def __init__(self, folder: Path) -> None:
        self.console = folder / "console.log"
        self.console.write_bytes(b"(d3) of a guest before\n")
        self.files: dict[str, bytes] = {
            "/proc/735/stat": b"735 (qemu) S 1",
            "/proc/735/smaps_rollup": ROLLUP,
            SERIAL: b"",
        }
        self.later: dict[str, bytes] = {}
        self.said_on_console = b""
        self.create = Completed(b"", XL_CREATED, 0)
        self.creates = True
        self.answers: dict[str, Completed] = {"xenstore-ls": Completed(STORE, b"", 0)}
        self.commands: list[tuple[str, ...]] = []
        self.inputs: list[bytes] = []
        self.fails_on = ""
        self.vnc: Callable[[socket.socket], None] | None = None
        self.jobs: list[FakeJob] = []

    def run(self, argv: Sequence[str], *, timeout: float = 30.0, stdin: bytes = b"") -> Completed:
        self.commands.append(tuple(argv))
        if stdin:
            self.inputs.append(stdin)
        if self.fails_on and self.fails_on in argv:
            raise HostError("dom0 has not answered for 60 s")
        if tuple(argv[:2]) == ("xl", "unpause"):
            for path, content in self.later.items():
                self.files[path] = self.files.get(path, b"") + content
            with self.console.open("ab") as file:
                file.write(self.said_on_console)
        return self.answers.get(argv[0], Completed(b"", b"", 0))

    def start(self, argv: Sequence[str], *, stdin: bytes = b"") -> FakeJob:
        self.commands.append(tuple(argv))
        ended = self.create if self.creates and "create" in argv else self.answers.get(argv[0])
        job = FakeJob(ended)
        self.jobs.append(job)
        return job

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][offset : offset + limit]

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.files[path] = data

    def stream(self, argv: Sequence[str]) -> socket.socket:
        self.commands.append(tuple(argv))
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours
