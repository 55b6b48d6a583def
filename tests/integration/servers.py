"""What the tests of shared caches and of many machines start: stores, and hosts in network namespaces."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PATIENCE = 120.0


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {patience:.0f} s"
        time.sleep(0.05)


def listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def redis(folder: Path, password: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a Redis server that wants a password; give its URL, and the process."""
    port = free_port()
    words = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--requirepass", password)
    with (folder / "redis.log").open("wb") as log, subprocess.Popen(["redis-server", *words], stdout=log) as process:
        try:
            wait_until(lambda: listens("127.0.0.1", port), "redis-server")
            yield f"redis://:{password}@127.0.0.1:{port}", process
        finally:
            process.kill()


@dataclass
class Store:
    """A store behind HTTP: what is in it, and what was asked."""

    url: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def http_store() -> Iterator[Store]:
    """Run a server that keeps what is PUT, as a WebDAV server does."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, code: int, body: bytes = b"") -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def do_GET(self) -> None:
            store.requests.append(self.command)
            found = store.content.get(self.path)
            self._answer(404 if found is None else 200, found or b"")

        do_HEAD = do_GET  # noqa: N815

        def do_PUT(self) -> None:
            store.requests.append(self.command)
            store.content[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(201)

        def do_DELETE(self) -> None:
            store.requests.append(self.command)
            self._answer(204 if store.content.pop(self.path, None) else 404)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store.url = f"http://127.0.0.1:{server.server_port}/cache"
        try:
            yield store
        finally:
            server.shutdown()


@dataclass(frozen=True)
class Machine:
    """A network namespace with an address: another host, as far as this one can tell."""

    name: str
    address: str

    def start(self, argv: list[str | Path], log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program on the machine."""
        with log.open("ab") as sink:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *argv],
                env={**os.environ, **environment},
                stdout=sink,
                stderr=sink,
            )

    def kill(self) -> None:
        """Kill everything that runs on the machine."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        if listed.stdout.split():
            subprocess.run(["kill", "-KILL", *listed.stdout.split()], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def network(count: int) -> Iterator[tuple[str, list[Machine]]]:
    """Make a network of this machine and `count` others; give this one's address there, and the others."""
    assert os.geteuid() == 0, "network namespaces take root, as .ci/run has it"
    assert shutil.which("ip"), "iproute2 is missing: `scripts/bootstrap --for test` installs it"
    tag = f"xq{os.getpid() % 100000}"
    # A documentation network (RFC 5737), which no real one collides with.
    machines = [Machine(f"{tag}-{number}", f"198.51.100.{number}") for number in range(2, 2 + count)]
    try:
        _ip("link", "add", tag, "type", "bridge")
        _ip("addr", "add", "198.51.100.1/24", "dev", tag)
        _ip("link", "set", tag, "up")
        for number, machine in enumerate(machines):
            _ip("netns", "add", machine.name)
            _ip("link", "add", f"{tag}v{number}", "type", "veth", "peer", "name", "eth0", "netns", machine.name)
            _ip("link", "set", f"{tag}v{number}", "master", tag, "up")
            _ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "eth0")
            _ip("-n", machine.name, "link", "set", "eth0", "up")
            _ip("-n", machine.name, "link", "set", "lo", "up")
        yield "198.51.100.1", machines
    finally:
        for machine in machines:
            if Path("/run/netns", machine.name).exists():
                machine.kill()
                _ip("netns", "del", machine.name)
        subprocess.run(["ip", "link", "del", tag], check=False, capture_output=True)
