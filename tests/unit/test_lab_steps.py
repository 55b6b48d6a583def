"""Steps: what is done with a guest that is up, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.fake_host import FakeHost
from xenqemu.errors import LabError
from xenqemu.lab import steps
from xenqemu.lab.model import Completed, HostError
from xenqemu.lab.screen import Screen
from xenqemu.lab.steps import Dom0Step, GuestStep, HearsStep, PictureStep, Step, TypesStep, read_step, take

Answer = Callable[[str], str]


class FakeSession:
    """A guest that answers to each line as `answers` says."""

    def __init__(self, answers: Answer = lambda line: "") -> None:
        self.text = "xenqemu-guest: up\n"
        self.said: list[str] = []
        self.typed: list[tuple[str, str | None]] = []
        self.screens = [Screen(2, 1, b"abcdef")]
        self._answers = answers

    def words(self) -> Mapping[str, str]:
        return {"name": "guest", "domid": str(4 + len(self.said)), "file": "/a+b"}

    def heard(self) -> str:
        return self.text

    def say(self, line: str) -> None:
        self.said.append(line)
        self.text += self._answers(line)

    @contextmanager
    def camera(self, password: str | None) -> Iterator[Callable[[], Screen]]:
        yield lambda: self.screens.pop(0) if len(self.screens) > 1 else self.screens[0]

    def type(self, text: str, password: str | None) -> None:
        self.typed.append((text, password))
        self.text += f"key={text}\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_POLL", 0.001)
    monkeypatch.setattr(steps, "_AGAIN", 0.001)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def ends(said: str = "", code: int = 0) -> Answer:
    return lambda line: f"{said}xenqemu-guest: end {line.split()[0]} {code}\n"


def what_fails(host: FakeHost, session: FakeSession, *wanted: Step) -> str:
    with pytest.raises(LabError) as caught:
        take(host, session, wanted)  # type: ignore[arg-type]
    return caught.value.message


def test_each_step_is_read_from_its_table() -> None:
    assert read_step({"dom0": ["xl", "list"], "expect": "x", "code": 1, "within": 2, "again": True}) == Dom0Step(
        ("xl", "list"), "x", 1, 2, True
    )
    assert read_step({"guest": "nproc", "expect": "2"}) == GuestStep("nproc", "2")
    assert read_step({"hears": "x", "within": 3}) == HearsStep("x", 3)
    assert read_step({"types": "x", "password": "y"}) == TypesStep("x", "y")
    assert read_step({"picture": 16}) == PictureStep(16)


def test_a_command_in_dom0_gets_the_words_of_the_moment(host: FakeHost) -> None:
    host.answers["xl"] = Completed(b"done /a+b\n", b"", 0)
    session = FakeSession(ends())
    take(host, session, (GuestStep("true"), Dom0Step(("xl", "pause", "{domid}", "{other}"), "done {file}$")))  # type: ignore[arg-type]
    assert host.commands == [("xl", "pause", "5", "{other}")]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Dom0Step(("xl", "x"), "none"), "it said other than expected: some; more"),
        (Dom0Step(("xl", "x"), code=1), "it ended with 0: some; more"),
        (Dom0Step(("slow",), within=0.01), "it did not end within 0 s"),
    ],
)
def test_a_command_in_dom0_that_fails(host: FakeHost, step: Step, reason: str) -> None:
    host.answers["xl"] = Completed(b"some\n", b"more\n", 0)
    assert what_fails(host, FakeSession(), step) == f"step 1, {step}: {reason}"
    assert [job.killed for job in host.jobs] == [isinstance(step, Dom0Step) and step.argv == ("slow",)]


def test_a_command_that_is_tried_again_has_to_hold_in_the_end(host: FakeHost) -> None:
    answers = [Completed(b"", b"", 1), Completed(b"no", b"", 0), Completed(b"yes", b"", 0)]
    start = host.start

    def next_answer(argv: tuple[str, ...], *, stdin: bytes = b"") -> object:
        host.answers["xl"] = answers.pop(0)
        return start(argv)

    host.start = next_answer  # type: ignore[assignment,method-assign]
    take(host, FakeSession(), (Dom0Step(("xl",), "yes", again=True, within=5),))  # type: ignore[arg-type]
    assert not answers
    answers += [Completed(b"", b"", 1)] * 1000
    assert what_fails(host, FakeSession(), Dom0Step(("xl",), again=True, within=0.01)).endswith("it said nothing")


def test_a_program_that_dom0_does_not_have(host: FakeHost) -> None:
    def missing(argv: tuple[str, ...]) -> None:
        raise FileNotFoundError("no such program")

    host.start = missing  # type: ignore[assignment,method-assign]
    assert what_fails(host, FakeSession(), Dom0Step(("xyz",))) == "step 1, in dom0 `xyz`: no such program"


def test_the_guest_is_asked_in_its_shell(host: FakeHost) -> None:
    session = FakeSession(ends("one\ntwo\n"))
    take(host, session, (GuestStep("cat {file}", "(?s)^one\n.*two$"), GuestStep("ls", "^one$|two")))  # type: ignore[arg-type]
    assert session.said == ["1 cat /a+b", "2 ls"]
    refused = FakeSession(ends("sh: no\n", 127))
    assert what_fails(host, refused, GuestStep("ls")) == "step 1, in the guest `ls`: it ended with 127: sh: no"
    take(host, refused, (GuestStep("ls", code=127),))  # type: ignore[arg-type]


def test_what_the_guest_said_before_is_no_answer(host: FakeHost) -> None:
    session = FakeSession()
    session.text += "xenqemu-guest: end 1 0\n"
    assert "nothing came within 0 s" in what_fails(host, session, GuestStep("true", within=0.01))


def test_what_is_heard_came_since_the_step_before_began(host: FakeHost) -> None:
    session = FakeSession()
    take(host, session, (TypesStep("ab", "secret"), HearsStep("key=(ab|xy)")))  # type: ignore[arg-type]
    assert session.typed == [("ab", "secret")]
    reason = what_fails(host, session, TypesStep("cd"), HearsStep("key=ab", within=0.01))
    assert reason.endswith("nothing came within 0 s, but: key=cd")


def test_a_picture_has_colours(host: FakeHost) -> None:
    session = FakeSession()
    take(host, session, (PictureStep(2),))  # type: ignore[arg-type]
    assert "2 by 1 with 2 colours, and not 3" in what_fails(host, session, PictureStep(3, within=0.01))
    session.screens.append(Screen(3, 1, b"abcdefghi"))
    take(host, session, (PictureStep(3),))  # type: ignore[arg-type]


def test_a_host_that_fails_is_not_the_guests_fault(host: FakeHost) -> None:
    def fail(argv: tuple[str, ...]) -> None:
        raise HostError("dom0 has not answered for 60 s")

    host.start = fail  # type: ignore[assignment,method-assign]
    with pytest.raises(HostError, match=r"^dom0 has not"):
        take(host, FakeSession(), (Dom0Step(("xl",)),))  # type: ignore[arg-type]
