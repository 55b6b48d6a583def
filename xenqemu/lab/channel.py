"""Talking to dom0: a client of QEMU's guest agent, which runs in dom0 behind a virtio serial port.

The protocol is that of QEMU's docs/interop/qemu-ga.rst and qga/qapi-schema.json: one JSON object a line. The library
qemu.qmp speaks QMP only, which begins with a greeting that the agent does not give, and needs an event loop.
"""

from __future__ import annotations

import json
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

# Starts an answer to guest-sync-delimited, and flushes the agent's parser when it is sent.
_DELIMITER = b"\xff"
# How long (seconds) one wait for bytes lasts before it is asked whether the other side is alive.
_TICK = 0.2
_LARGEST_ANSWER = 64 << 20


class AgentError(Exception):
    """The agent refused a command; the text is its own."""


class ChannelTimeoutError(Exception):
    """The agent did not answer in time."""


class ChannelClosedError(Exception):
    """The other side of the channel is gone."""


class Agent:
    """The guest agent behind the connected `connection`; one command at a time, from any thread.

    `check_alive` is called while waiting and raises what shall end the wait.
    """

    def __init__(self, connection: socket.socket, check_alive: Callable[[], None]) -> None:
        self._connection = connection
        self._check_alive = check_alive
        self._lock = threading.Lock()
        self._buffer = b""
        self._in_step = False

    def synchronise(self, timeout: float) -> None:
        """Wait until the agent answers, for `timeout` seconds at most, and forget whatever it said before."""
        with self._lock:
            self._synchronise(time.monotonic() + timeout)

    def call(self, command: str, timeout: float, **arguments: Any) -> Any:
        """Return the agent's answer to `command`; underscores in argument names stand for dashes.

        Raises `AgentError` when it refuses, `ChannelTimeoutError` when it does not answer within `timeout` seconds, and
        `ChannelClosedError`. After an answer that did not come the next call first gets into step again.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        line = json.dumps({"execute": command, "arguments": named}).encode() + b"\n"
        deadline = time.monotonic() + timeout
        with self._lock:
            if not self._in_step:
                self._synchronise(deadline)
            self._in_step = False
            self._send(line, deadline)
            answer = self._answer(deadline)
            self._in_step = True
        if "error" in answer:
            raise AgentError(str(answer["error"].get("desc", answer["error"])))
        return answer.get("return")

    def _synchronise(self, deadline: float) -> None:
        number = secrets.randbits(31)
        line = json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": number}}).encode() + b"\n"
        self._send(_DELIMITER + line, deadline)
        # The delimiter makes the agent complain first; answers to older commands may come as well.
        while self._answer(deadline).get("return") != number:
            pass
        self._in_step = True

    def _send(self, data: bytes, deadline: float) -> None:
        waiting = memoryview(data)
        while waiting:
            self._wait(deadline, write=True)
            try:
                waiting = waiting[self._connection.send(waiting) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChannelClosedError from error

    def _answer(self, deadline: float) -> dict[str, Any]:
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                try:
                    answer = json.loads(line.rpartition(_DELIMITER)[2])
                except ValueError:
                    continue  # half a line of before
                if isinstance(answer, dict):
                    return answer
                continue
            if len(self._buffer) > _LARGEST_ANSWER:
                raise ChannelClosedError
            self._wait(deadline, write=False)
            try:
                received = self._connection.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChannelClosedError from error
            if not received:
                raise ChannelClosedError
            self._buffer += received

    def _wait(self, deadline: float, *, write: bool) -> None:
        poll = select.poll()
        poll.register(self._connection, select.POLLOUT if write else select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChannelTimeoutError
            if poll.poll(1000 * min(left, _TICK)):
                return
            self._check_alive()
