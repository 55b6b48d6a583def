"""The guest agent's protocol, with answers that are late, broken, large or none."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.lab.channel import Agent, AgentError, ChannelClosedError, ChannelTimeoutError

Script = Callable[[dict[str, Any]], list[bytes]]


class Far:
    """The other side: what `script` returns for a command is sent, piece by piece; synchronising works by itself."""

    def __init__(self) -> None:
        self.near, self._far = socket.socketpair()
        self.near.setblocking(False)
        self.script: Script = lambda request: [json.dumps({"return": request["execute"]}).encode() + b"\n"]
        self.seen: list[str] = []
        self.alive: Callable[[], None] = lambda: None
        threading.Thread(target=self._serve, daemon=True).start()

    def agent(self) -> Agent:
        return Agent(self.near, lambda: self.alive())

    def _serve(self) -> None:
        for line in self._far.makefile("rb"):
            request = json.loads(line.lstrip(b"\xff"))
            self.seen.append(request["execute"])
            if request["execute"] == "guest-sync-delimited":
                pieces = [
                    b'{"error": {"desc": "JSON parse error"}}\n\xff',
                    json.dumps({"return": request["arguments"]["id"]}).encode(),
                    b"\n",
                ]
            else:
                pieces = self.script(request)
            for piece in pieces:
                self._far.sendall(piece)

    def close(self) -> None:
        self._far.shutdown(socket.SHUT_RDWR)
        self._far.close()
        self.near.close()


@pytest.fixture
def far() -> Iterator[Far]:
    made = Far()
    yield made
    made.close()


def test_an_answer(far: Far) -> None:
    agent = far.agent()
    asked: list[Any] = []

    def script(request: dict[str, Any]) -> list[bytes]:
        asked.append(request["arguments"])
        return [b'{"ret', b'urn": {"pid', b'": 7}}', b"\n"]

    far.script = script
    assert agent.call("guest-exec", 5, path="x", capture_output=True) == {"pid": 7}
    assert asked == [{"path": "x", "capture-output": True}]
    assert far.seen == ["guest-sync-delimited", "guest-exec"]
    agent.call("guest-ping", 5)
    assert far.seen.count("guest-sync-delimited") == 1


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5), st.data())
def test_any_answer_in_any_pieces(value: Any, data: st.DataObject) -> None:
    far = Far()
    try:
        line = json.dumps({"return": value}).encode() + b"\n"
        cut = data.draw(st.integers(0, len(line)))
        far.script = lambda _: [piece for piece in (line[:cut], line[cut:]) if piece]
        assert far.agent().call("x", 5) == value
    finally:
        far.close()


def test_a_large_answer(far: Far) -> None:
    far.script = lambda _: [json.dumps({"return": "x" * 3_000_000}).encode(), b"\n"]
    assert len(far.agent().call("x", 20)) == 3_000_000


def test_a_large_command(far: Far) -> None:
    far.script = lambda request: [json.dumps({"return": len(request["arguments"]["data"])}).encode() + b"\n"]
    assert far.agent().call("x", 20, data="x" * 3_000_000) == 3_000_000


def test_a_refusal(far: Far) -> None:
    agent = far.agent()
    far.script = lambda _: [b'{"error": {"class": "GenericError", "desc": "no such file"}}\n']
    with pytest.raises(AgentError, match="no such file"):
        agent.call("x", 5)
    far.script = lambda _: [b'{"return": 1}\n']
    assert agent.call("x", 5) == 1
    assert far.seen.count("guest-sync-delimited") == 1


def test_what_comes_too_late_is_not_taken_for_the_next_answer(far: Far) -> None:
    agent = far.agent()
    late = threading.Event()

    def slow(_: dict[str, Any]) -> list[bytes]:
        late.wait(10)
        return [b'{"return": "late"}\n', b'"no object"\n', b"\xff{half\n"]

    far.script = slow
    with pytest.raises(ChannelTimeoutError):
        agent.call("x", 0.3)
    far.script = lambda _: [b'{"return": "in time"}\n']
    late.set()
    assert agent.call("x", 5) == "in time"


def test_the_other_side_goes_away(far: Far) -> None:
    agent = far.agent()
    agent.synchronise(5)

    def leave(_: dict[str, Any]) -> list[bytes]:
        far._far.shutdown(socket.SHUT_RDWR)
        return []

    far.script = leave
    with pytest.raises(ChannelClosedError):
        agent.call("x", 5)
    with pytest.raises((ChannelClosedError, ChannelTimeoutError)):
        agent.call("x", 0.5)


def test_a_wait_ends_when_the_other_side_is_known_to_be_dead(far: Far) -> None:
    agent = far.agent()
    agent.synchronise(5)

    def dead() -> None:
        raise ChannelClosedError

    far.script = lambda _: []
    far.alive = dead
    started = time.monotonic()
    with pytest.raises(ChannelClosedError):
        agent.call("x", 30)
    assert time.monotonic() - started < 5


def test_nobody_reads(far: Far) -> None:
    near, _ = other = socket.socketpair()
    near.setblocking(False)
    with pytest.raises(ChannelTimeoutError):
        Agent(near, lambda: None).call("x", 0.3, data="x" * 3_000_000)
    for end in other:
        end.close()


def test_an_answer_without_end(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenqemu.lab.channel._LARGEST_ANSWER", 1000)
    far.script = lambda _: [b"x" * 5000]
    with pytest.raises(ChannelClosedError):
        far.agent().call("x", 5)
