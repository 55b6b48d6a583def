"""A program in the place of qemu-system-x86_64: a guest agent on the real descriptors, whose dom0 is this machine.

`FAKE_EMULATOR` in its environment says how it misbehaves: `die` at once, `panic` and end, `hang`, `stuck` after its
first command, `gone` at its first command.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PROGRAM = f"#!{sys.executable}\nimport runpy\nrunpy.run_path({__file__!r}, run_name='__main__')\n"


def install(folder: Path) -> Path:
    """Put the program into `folder` under the emulator's name and return it."""
    path = folder / "qemu-system-x86_64"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return path


class FakeAgent:
    """What the real agent answers, for the commands that are used."""

    def __init__(self, listeners: list[socket.socket]) -> None:
        self._listeners = listeners
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._files: dict[int, Any] = {}

    def answer(self, command: str, given: dict[str, Any]) -> Any:
        return getattr(self, command.replace("-", "_"))(**{name.replace("-", "_"): it for name, it in given.items()})

    def guest_ping(self) -> dict[str, Any]:
        return {}

    def guest_exec(self, path: str, arg: list[str], capture_output: bool, input_data: str = "") -> dict[str, Any]:
        output = subprocess.PIPE if capture_output else None
        if arg[1:2] and "<>" in arg[1]:  # a program on a stream: the port is one of the sockets
            accepted, _ = self._listeners[int(arg[2].rpartition(".")[2])].accept()
            end = accepted.fileno()
            process = subprocess.Popen(arg[3:], stdin=end, stdout=end, stderr=end)
            accepted.close()
        else:
            process = subprocess.Popen([path, *arg], stdin=subprocess.PIPE, stdout=output, stderr=output)
            if process.stdin:
                process.stdin.write(base64.b64decode(input_data))
                process.stdin.close()
        self._running[process.pid] = process
        return {"pid": process.pid}

    def guest_exec_status(self, pid: int) -> dict[str, Any]:
        process = self._running[pid]
        if process.poll() is None:
            return {"exited": False}
        del self._running[pid]
        code = process.returncode
        answer: dict[str, Any] = {"exited": True, **({"exitcode": code} if code >= 0 else {"signal": -code})}
        for name, stream in (("out-data", process.stdout), ("err-data", process.stderr)):
            content = stream.read() if stream else b""
            if content:
                answer[name] = base64.b64encode(content).decode()
        return answer

    def guest_file_open(self, path: str, mode: str) -> int:
        file = open(path, f"{mode}b")  # noqa: PTH123, SIM115
        self._files[file.fileno()] = file
        return int(file.fileno())

    def guest_file_seek(self, handle: int, offset: int, whence: str) -> dict[str, Any]:
        assert whence == "set"
        return {"position": self._files[handle].seek(offset), "eof": False}

    def guest_file_read(self, handle: int, count: int) -> dict[str, Any]:
        content = self._files[handle].read(min(count, 1000))
        return {"count": len(content), "buf-b64": base64.b64encode(content).decode(), "eof": not content}

    def guest_file_write(self, handle: int, buf_b64: str) -> dict[str, Any]:
        return {"count": self._files[handle].write(base64.b64decode(buf_b64)), "eof": False}

    def guest_file_close(self, handle: int) -> dict[str, Any]:
        self._files.pop(handle).close()
        return {}


def serve(connection: socket.socket, listeners: list[socket.socket], how: str) -> None:
    """Answer one command after the other."""
    agent = FakeAgent(listeners)
    lines = connection.makefile("rb")
    for line in lines:
        if line.startswith(b"\xff"):
            connection.sendall(b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n')
        request = json.loads(line.lstrip(b"\xff"))
        command, given = request["execute"], request.get("arguments", {})
        if command == "guest-sync-delimited":
            connection.sendall(b"\xff" + json.dumps({"return": given["id"]}).encode() + b"\n")
            continue
        if how == "gone":
            os._exit(0)
        if how == "stuck":
            time.sleep(3600)
        try:
            answer = {"return": agent.answer(command, given)}
        except OSError as error:
            answer = {"error": {"class": "GenericError", "desc": f"{command}: {error.strerror}"}}
        connection.sendall(json.dumps(answer).encode() + b"\n")


def main() -> int:
    how = os.environ.get("FAKE_EMULATOR", "")
    words = " ".join(sys.argv)
    console = re.search(r"file,id=console,path=(\S+)", words)
    agent = re.search(r"id=agent,fd=(\d+)", words)
    assert console is not None
    assert agent is not None
    Path("emulator.pid").write_text(str(os.getpid()))
    if how == "die":
        print("qemu-system-x86_64: no such machine", file=sys.stderr)  # noqa: T201
        return 1
    if how == "panic":
        Path(console[1]).write_text("\n(XEN) ****\n(XEN) Panic on CPU 0:\n(XEN) out of everything\n(XEN) ****\n")
        return 0
    Path(console[1]).write_text("(XEN) all is well\n")
    if how == "hang":
        time.sleep(3600)
    listeners = [socket.socket(fileno=int(number)) for number in re.findall(r"id=stream\d,fd=(\d+)", words)]
    connection = socket.socket(fileno=int(agent[1]))
    thread = threading.Thread(target=serve, args=(connection, listeners, how), daemon=True)
    thread.start()
    thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
