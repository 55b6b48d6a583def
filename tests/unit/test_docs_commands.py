"""Every command of README and docs is one, with options and targets that there are, and some test executes it."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests import console
from tests.console import ELSEWHERE, EXECUTED, PAGES, ROOT, Command, Elsewhere, Executed, alike, commands, execute, told
from tests.unit.commandlines import calls, check_calls

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# In Xen's own tree.
XENS_TARGETS = {"dist-xen", "dist-tools", "subdir-all-qemu-xen-dir", "subdir-install-qemu-xen-dir"}
ALL = [command for name in sorted(PAGES) for command in commands(name)]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_commands_of_a_page(name: str) -> None:
    for line in (command.line for command in commands(name)):
        check_calls(line)
        words = shlex.split(line)
        if words[0] == "make":
            named = {word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]+", word)} - {"xenqemu", "tools"}
            assert named <= TARGETS | XENS_TARGETS, line


def test_pages_have_commands() -> None:
    assert sum(bool(calls(command.line)) for command in ALL) > 50


def test_a_wrong_one_is_found() -> None:
    for line in ("xenqemu bild", "true && xenqemu build --frobs", "xenqemu vm use --dm"):
        with pytest.raises(Exception, match=r"bild|frobs|--dm"):
            check_calls(line)


# ---- what executes them ----


def unaccounted(lines: list[Command]) -> list[Command]:
    """Return those that no test executes and that are not said to be executed elsewhere, or are both or twice."""
    executed = {one: sum(entry.has(one) for entry in EXECUTED) for one in lines}
    elsewhere = {one: sum(entry.has(one) for entry in ELSEWHERE) for one in lines}
    # A line that takes too long for its page's test may stand among others of a page that has one.
    return [one for one in lines if elsewhere[one] > 1 or (executed[one] != 1 and not elsewhere[one])]


def test_every_command_is_executed() -> None:
    assert unaccounted(ALL) == []
    tests = {entry.test for entry in EXECUTED}
    run = [command for test in tests for _, command in told(test)]
    assert len(run) > 45
    assert len(run) == sum(not any(entry.has(one) for entry in ELSEWHERE) for one in ALL)


@pytest.mark.parametrize(
    "new",
    [
        Command("new.md", "", "xenqemu doctor"),
        Command("README.md", "A new section", "xenqemu doctor"),
        Command("CONTRIBUTING.md", "", "make docs"),
    ],
)
def test_a_new_command_that_nothing_executes_is_found(new: Command) -> None:
    assert unaccounted([*ALL, new]) == [new]


def test_a_new_command_of_a_page_with_a_test_is_executed() -> None:
    new = Command("packaging.md", "A new section", "xenqemu doctor")
    assert [entry.test for entry in EXECUTED if entry.has(new)] == ["tests/integration/test_pages.py::test_packaging"]


@pytest.mark.parametrize("one", EXECUTED, ids=lambda one: f"{one.page}-{one.section}")
def test_what_is_executed_is_on_the_page(one: Executed) -> None:
    lines = [command.line for held, command in told(one.test) if held is one]
    assert lines
    assert exists(one.test)
    for word in one.replace or {}:
        assert any(word in line for line in lines), f"{one.page} has no {word} any more"
    for words in one.exits or {}:
        assert any(line.startswith(words) for line in lines), f"{one.page} has no {words} any more"


@pytest.mark.parametrize("one", ELSEWHERE, ids=lambda one: one.line)
def test_what_is_executed_elsewhere_is_on_its_pages_and_what_does_it_is_there(one: Elsewhere) -> None:
    for page in one.pages:
        assert one.line in {command.line for command in commands(page)}, f"{page} does not have it any more"
    assert one.by
    for by in one.by:
        assert exists(by), by
    assert one.why


def exists(by: str) -> bool:
    """Whether there is what `by` names: a test, a phase of .ci/run, or a workflow that runs .ci/run."""
    if "::" in by:
        path, _, name = by.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        return name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    file, _, phase = by.partition(" ")
    text = (ROOT / file).read_text()
    if phase:
        looped = re.findall(r"^for tests in (.*); do$", text, re.MULTILINE)
        return phase in {*re.findall(r"^phase (\S+)", text, re.MULTILINE), *" ".join(looped).split()}
    return "bash .ci/run" in text


@pytest.mark.parametrize("by", ["tests/lab/test_pages.py::test_nothing", ".ci/run nothing", "README.md nothing"])
def test_what_is_not_there_is_found(by: str) -> None:
    assert not exists(by)


def test_outputs_are_compared_without_what_varies() -> None:
    one = "booted a guest under Xen 4.17.5: boot-sector, 23 s, 22 MB (memory=56955)\n/home/me/dist/bin/x"
    other = "booted a guest under Xen 4.20.1: boot-sector, 5 s, 9 MB (memory=1)\n/tmp/y/dist/bin/x"
    assert alike(one) == alike(other)
    assert alike(one) != alike(other.replace("boot-sector", "boot-disk"))


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: tuple[str, str], **more: Any) -> str:
    """Execute lines of a page, each with what it says there."""
    entry = Executed("a.md", "a test", replace={"/path/to/it": "$PWD/it"}, exits={"exit_7": 7})
    told_ = tuple((entry, Command("a.md", "", line, said)) for line, said in lines)
    monkeypatch.setattr(console, "told", lambda test: told_)
    reader = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return execute("a test", folder, reader, before={"exit_7": "exit_7() { (exit 7); }"}, **more)


def test_commands_are_executed_in_one_shell_as_a_reader_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = (
        ("mkdir -p /path/to/it ~/other", ""),
        ("cd it", ""),
        ("echo one; echo a note >&2", "a note\none"),
        ("exit_7", ""),
        ('echo "EXAMPLE" > here', ""),
    )
    said = run(monkeypatch, tmp_path, *lines, instead={"EXAMPLE": "it's"}, after="echo the end >&2")
    assert (tmp_path / "it/here").read_text() == "it's\n"
    assert (tmp_path / "other").is_dir()
    assert "$ cd it\n" in said
    assert "the end" in said


@pytest.mark.parametrize(
    "line",
    [("false", ""), ("true; false", ""), ("echo one", "two"), ("echo one; echo two", "one"), ("echo one", "one\ntwo")],
)
def test_what_is_not_as_on_the_page_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: tuple[str, str]
) -> None:
    with pytest.raises(AssertionError):
        run(monkeypatch, tmp_path, ("true", ""), line)
