"""Ninja's log: read, kept, read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.build.ninja_log import Step, dump_steps, load_steps, parse_ninja_log, read_ninja_log

HEAD = "# ninja log v7\n"
NAMES = st.text(st.characters(exclude_characters="\t\n", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
TIMES = st.integers(0, 2**31)


def line(start: int, end: int, output: str, command: str = "c0ffee") -> str:
    return f"{start}\t{end}\t1795390331343985747\t{output}\t{command}\n"


@st.composite
def runs(draw: st.DrawFn) -> list[Step]:
    """Steps as one ninja ends them: ends never go back."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000), NAMES), max_size=30))
    end, steps = 0, []
    for took, later, name in pairs:
        end += later
        steps.append(Step(max(0, end - took), end, name))
    return steps


def test_commands_come_in_the_order_of_their_start() -> None:
    log = HEAD + line(5, 20, "a.o", "1") + line(0, 30, "b.o", "2") + line(30, 40, "prog", "3")
    assert parse_ninja_log(log) == (Step(0, 30, "b.o"), Step(5, 20, "a.o"), Step(30, 40, "prog"))
    assert Step(5, 20, "a.o").milliseconds == 15


def test_a_command_with_two_outputs_is_one_step() -> None:
    log = HEAD + line(1, 9, "qapi.c", "1") + line(1, 9, "qapi.h", "1") + line(1, 9, "other.h", "2")
    assert parse_ninja_log(log) == (Step(1, 9, "other.h"), Step(1, 9, "qapi.c"))


def test_a_second_run_of_ninja_follows_the_first() -> None:
    log = HEAD + line(0, 100, "pch.h") + line(0, 50, "a.o") + line(40, 90, "b.o")
    assert parse_ninja_log(log) == (Step(0, 100, "pch.h"), Step(100, 150, "a.o"), Step(140, 190, "b.o"))


def test_a_log_that_was_tidied_up_is_one_run() -> None:
    log = HEAD + "".join(line(0, 1000 - number, f"{number}.o", str(number)) for number in range(100))
    steps = parse_ninja_log(log)
    assert len(steps) == 100
    assert max(step.end for step in steps) == 1000


@pytest.mark.parametrize("head", ["", "# ninja log v4\n", "# ninja log v99\n", "something else\n", "# ninja log v7 \n"])
def test_what_is_no_known_log_gives_nothing(head: str) -> None:
    assert parse_ninja_log(head + line(0, 1, "a")) == ()


@pytest.mark.parametrize(
    "broken",
    [
        "1\t2\t3\ta.o\n",
        "1\t2\t3\t\tc\n",
        "x\t2\t3\ta.o\tc\n",
        "9\t2\t3\ta.o\tc\n",
        "-1\t2\t3\ta.o\tc\n",
        "1\t2\t3\ta.o",
    ],
)
def test_a_line_that_is_cut_short_is_left_out(broken: str) -> None:
    assert parse_ninja_log(HEAD + line(0, 1, "first") + broken) == (Step(0, 1, "first"),)


@given(runs())
def test_a_run_is_found_as_it_was(steps: list[Step]) -> None:
    log = HEAD + "".join(line(step.start, step.end, step.output, str(n)) for n, step in enumerate(steps))
    assert sorted(parse_ninja_log(log), key=repr) == sorted(steps, key=repr)


@given(st.text() | st.text().map(lambda text: HEAD + text))
def test_any_text_is_taken(text: str) -> None:
    steps = parse_ninja_log(text)
    assert all(0 <= step.start <= step.end for step in steps)
    assert list(steps) == sorted(steps, key=lambda step: step.start)


@given(st.lists(st.builds(lambda start, took, name: Step(start, start + took, name), TIMES, TIMES, NAMES)))
def test_steps_are_kept_as_they_were(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    path = tmp_path_factory.mktemp("steps") / "steps.json"
    path.write_bytes(dump_steps(steps))
    assert load_steps(path) == tuple(steps)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": 2, "steps": []}', '{"format": 1}', '{"format": 1, "steps": [[2, 1, "a"], [1, 2], 3]}'],
)
def test_a_file_that_is_none_of_ours_gives_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "steps.json"
    path.write_text(content)
    assert load_steps(path) == ()


def test_a_folder_without_a_log_gives_nothing(tmp_path: Path) -> None:
    assert read_ninja_log(tmp_path) == ()
    assert load_steps(tmp_path / "steps.json") == ()
    (tmp_path / ".ninja_log").write_text(HEAD + line(0, 1, "a"))
    assert read_ninja_log(tmp_path) == (Step(0, 1, "a"),)
    assert json.loads(dump_steps(read_ninja_log(tmp_path)))["steps"] == [[0, 1, "a"]]
