"""Results as JUnit XML, as annotations and as Markdown, from made-up ones and from the commands themselves."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from xenqemu.cli.main import _run as run_cli
from xenqemu.cli.reporting import reporting
from xenqemu.errors import BuildError, MissingError
from xenqemu.lab.result import GuestResult, Report
from xenqemu.lab.soak import SoakItem, SoakReport
from xenqemu.matrix_pipeline import Cell, CellResult, report
from xenqemu.results import (
    Check,
    Outlets,
    Results,
    Status,
    annotation,
    error_annotations,
    junit,
    summary,
    write_results,
)
from xenqemu.results.summary import cell

CHECKS = (
    Check("a.b", "good", seconds=1.25),
    Check("a.b", "bad", Status.FAILED, "it | broke", "more\nof it", 2, "dir/my.cfg", 7),
    Check("a.b", "none", Status.ERROR, "no \udcff host"),
    Check("a.b", "gap", Status.SKIPPED, "known"),
)
RESULTS = Results("some *things*", CHECKS, 61.5, {"Xen": "4.17", "path": "/a_b"})
ANY = st.text(st.characters(codec=None))
MARKS = st.text("|\\`*_[]<>&;#!~-a1 \n")
MARKDOWN = MarkdownIt("commonmark").enable("table")
STATUSES = st.sampled_from(Status)
RANDOM = st.builds(
    Results,
    ANY,
    st.lists(st.builds(Check, ANY, ANY, STATUSES, ANY, ANY, st.floats(0, 9), ANY), max_size=5).map(tuple),
    st.floats(0, 1e6),
    st.dictionaries(ANY, ANY, max_size=3),
)


def on_github(folder: Path) -> dict[str, str]:
    return {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(folder)}


def test_junit_has_every_check_with_its_outcome() -> None:
    suite = ElementTree.fromstring(junit(RESULTS))
    counted = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")}
    assert counted == {"tests": "4", "failures": "1", "errors": "1", "skipped": "1", "time": "61.500"}
    good, bad, none, gap = suite.iter("testcase")
    assert (good.get("name"), good.get("classname"), good.get("time"), len(good)) == ("good", "a.b", "1.250", 0)
    assert (bad[0].tag, bad[0].get("message"), bad[0].text) == ("failure", "it | broke", "more\nof it")
    assert bad.get("file") == "dir/my.cfg"
    assert (none[0].tag, none[0].get("message")) == ("error", "no \\xff host")
    assert (gap[0].tag, gap[0].get("message")) == ("skipped", "known")
    assert [one.get("value") for one in suite.iter("property")] == ["4.17", "/a_b"]


@given(RANDOM)
def test_any_text_makes_xml_that_a_strict_parser_takes(results: Results) -> None:
    suite = ElementTree.fromstring(junit(results))
    assert len(list(suite.iter("testcase"))) == len(results.checks)


@given(RANDOM)
def test_any_text_makes_one_line_of_each_annotation(results: Results) -> None:
    lines = error_annotations(results, {"GITHUB_ACTIONS": "true"})
    assert len(lines) == sum(not check.status.ok for check in results.checks)
    assert all("\n" not in line and "\r" not in line and line.startswith("::error ") for line in lines)


@given(ANY, ANY)
def test_the_runner_reads_an_annotation_as_it_was_meant(title: str, message: str) -> None:
    # As ActionCommand.TryParseV2 reads it: the properties end at the next `::`, and are split at commas.
    line = annotation("error", title, message)
    head, data = line.removeprefix("::").split("::", 1)
    _, _, words = head.partition(" ")
    found = dict(word.split("=", 1) for word in words.split(",") if word)
    shown = {"title": title} if title else {}
    assert set(found) == set(shown)

    def read(text: str) -> str:
        for escape, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(escape, char)
        return text

    clean = max(title + message + " ") < "\ud800" or not any("\ud800" <= c <= "\udfff" for c in title + message)
    if clean:
        assert read(data) == message
        assert read(found.get("title", "")) == title


def test_an_annotation_names_the_file_in_the_repository(tmp_path: Path) -> None:
    inside = Check("g", "n", Status.FAILED, "50% off:\nyes, no", file=str(tmp_path / "vm/my,a.cfg"), line=7)
    outside = Check("g", "m", Status.ERROR, file="/etc/xen/other.cfg")
    lines = error_annotations(Results("t", (inside, outside, CHECKS[0], CHECKS[3]), 1), on_github(tmp_path))
    assert lines == (
        "::error file=vm/my%2Ca.cfg,line=7,title=t%3A n::50%25 off:%0Ayes, no",
        "::error title=t%3A m::error",
    )
    assert error_annotations(RESULTS, {}) == ()


def test_the_summary_has_what_failed_first_and_what_passed_folded() -> None:
    text = summary(RESULTS)
    assert text.startswith("## some \\*things\\*: failed\n")
    assert "1 passed, 1 failed, 1 error, 1 skipped in 1 min 1 s\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["", "Xen", "path", "check", "none", "bad", "gap", "check", "good"]
    assert "| bad | failed | 2.0 s | it &#124; broke |\n" in text
    passed = summary(Results("t", tuple(Check("g", str(n)) for n in range(1200)), 1))
    assert "<details>\n<summary>1200 passed</summary>" in passed
    assert "700 more are left out here." in passed
    assert len(summary(Results("t", tuple(Check("g", "n" * 999, message="\\" * 999) for n in range(999)), 1))) < 1 << 20


@settings(deadline=None)
@given(st.lists(MARKS | ANY, min_size=2, max_size=2))
def test_any_text_makes_markdown_that_shows_it(texts: list[str]) -> None:
    # The text of a cell, as a reader of tables shows it, is the text with its white space and escapes made plain.
    page = f"| {cell(texts[0])} | {cell(texts[1])} |\n| --- | --- |\n"
    tokens = MARKDOWN.parse(page)
    shown = ["".join(t.content for t in token.children or ()) for token in tokens if token.type == "inline"]
    plain = [cell(text).replace("&#124;", "|") for text in texts]
    assert [text.strip() for text in shown] == [_unescaped(text).strip() for text in plain]


def _unescaped(text: str) -> str:
    out, escaped = "", False
    for char in text:
        if char == "\\" and not escaped:
            escaped = True
            continue
        out, escaped = out + char, False
    return out


def test_results_go_to_files_and_are_added_to_the_page_of_a_job(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text("before\n")
    outlets = Outlets(tmp_path / "j.xml", tmp_path / "s.md", {"GITHUB_STEP_SUMMARY": str(page)})
    write_results(RESULTS, outlets)
    write_results(RESULTS, outlets)
    assert (tmp_path / "j.xml").read_bytes() == junit(RESULTS)
    assert (tmp_path / "s.md").read_text() == summary(RESULTS)
    assert page.read_text() == "before\n" + 2 * summary(RESULTS)
    write_results(RESULTS, Outlets(environment={}))


@pytest.mark.parametrize(
    ("outlets", "hint"),
    [
        (Outlets(junit=Path("/nowhere/j.xml"), environment={}), "--junit"),
        (Outlets(summary=Path("/nowhere/s.md"), environment={}), "--summary"),
        (Outlets(environment={"GITHUB_STEP_SUMMARY": "/nowhere/p"}), "unset GITHUB_STEP_SUMMARY"),
    ],
)
def test_a_place_that_cannot_be_written(outlets: Outlets, hint: str) -> None:
    with pytest.raises(MissingError, match="cannot be written") as error:
        write_results(RESULTS, outlets)
    assert hint in error.value.hint


def test_what_ends_a_command_is_reported_too(tmp_path: Path) -> None:
    path = tmp_path / "j.xml"
    with pytest.raises(BuildError), reporting("build", path, None):
        raise BuildError("it does not compile", "look here")
    (error,) = ElementTree.parse(path).getroot().iter("error")
    assert (error.get("message"), error.text) == ("it does not compile", "look here")
    with pytest.raises(KeyboardInterrupt), reporting("build", path, None):
        raise KeyboardInterrupt
    assert b'message="KeyboardInterrupt"' in path.read_bytes()
    with pytest.raises(BuildError, match="first"), reporting("build", Path("/nowhere/j"), None):
        raise BuildError("first")
    with pytest.raises(BuildError), reporting("build", path, None) as tell:  # noqa: PT012
        tell(RESULTS)
        assert path.read_bytes() == junit(RESULTS)
        raise BuildError("after the results")
    assert path.read_bytes() == junit(RESULTS)


def test_guests_as_results(tmp_path: Path) -> None:
    guests = (
        GuestResult("up", "up.cfg", booted=True, sign="login", create_seconds=1, boot_seconds=2.5),
        GuestResult("down", "down.cfg", reason="panic", log=("last words",), notes=("a note",)),
        GuestResult("bad", "bad.cfg", reason="no disk: x"),
        GuestResult("odd", "odd.cfg", booted=True, sign="login"),
        GuestResult("", "late.cfg", tried=False, reason="not tried: host"),
    )
    results = Report("4.17.5", 5.0, guests, tmp_path).results({"bad": "no disk", "odd": "x"})
    assert [(one.name, one.status.value, one.message, one.seconds) for one in results.checks] == [
        ("up", "passed", "login", 3.5),
        ("down", "failed", "panic", 0.0),
        ("bad", "passed", "fails as it should: no disk: x", 0.0),
        ("odd", "failed", "it boots, and should not (login)", 0.0),
        ("late.cfg", "error", "not tried: host", 0.0),
    ]
    assert results.checks[1].details == "a note\nlast words"
    assert results.seconds == 8.5
    assert results.facts["Xen"] == "4.17.5"
    assert Report("", None, guests[:1], tmp_path).results({}).title == "guests"


def test_a_soak_as_results() -> None:
    items = (SoakItem("processes", 5, 5, 0), SoakItem("files", 1, 2, 0, ("a file",)))
    results = SoakReport("4.17.5", "/dm", 9, 2, 60.0, items, Path("/run")).results()
    assert [(one.name, one.status.value, one.message) for one in results.checks] == [
        ("processes", "passed", "5 before, 5 after"),
        ("files", "failed", "1 before, 2 after"),
    ]


def test_a_matrix_as_results() -> None:
    one = Cell("10.2", "4.17", "hvm")
    good = CellResult(one, Path("x"), "k", True, 4_000_000, 60, 3, 20)
    results = (
        good,
        CellResult(one, problem="it does not compile\nerror: x", exit_code=6),
        CellResult(one, Path("x"), size=4_000_000, booted=1, boot_seconds=9, guests=(("a", "panic"),), exit_code=8),
        CellResult(one, Path("x"), size=4_000_000, boot_seconds=9, problem="no host", exit_code=8),
    )
    checks = report(results, 100).checks
    assert [(check.group, check.name, check.status.value, check.message) for check in checks] == [
        ("matrix.build", "10.2-4.17-hvm", "passed", "4.0 MB, built before"),
        ("matrix.boot.10_2-4_17-hvm", "3 of 3 guests", "passed", "booted"),
        ("matrix.build", "10.2-4.17-hvm", "failed", "it does not compile"),
        ("matrix.build", "10.2-4.17-hvm", "passed", "4.0 MB"),
        ("matrix.boot.10_2-4_17-hvm", "a", "failed", "panic"),
        ("matrix.boot.10_2-4_17-hvm", "1 of 2 guests", "passed", "booted"),
        ("matrix.build", "10.2-4.17-hvm", "passed", "4.0 MB"),
        ("matrix.boot.10_2-4_17-hvm", "guests", "error", "no host"),
    ]


def test_a_build_reports_itself(
    qemu: Path, fake_xen: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "page.md")
    build = ["build", "--qemu", str(qemu), "--xen", str(fake_xen), "--profile", "tiny.toml", "--junit", "j.xml"]
    assert run_cli([*build, "--summary", "s.md", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["qemu"], facts["profile"], facts["cached"]) == ("10.2.2", "tiny", False)
    assert facts["size"] == Path(facts["binary"]).stat().st_size
    assert ElementTree.parse("j.xml").getroot().get("failures") == "0"
    assert Path("s.md").read_text() == Path("page.md").read_text()
    assert "build of QEMU 10.2.2 for Xen 4.20, profile tiny: passed" in Path("s.md").read_text()
    (qemu / "main.c").write_text("int main(void) { return undeclared; }\n")
    assert run_cli(build) == 6
    assert ElementTree.parse("j.xml").getroot().get("errors") == "1"
    assert "## build: failed" in Path("page.md").read_text()


def test_an_error_is_annotated_on_stderr(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run_cli(["build", "--profile", "hmv", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["exit_code"] == 2
    assert "::error title=xenqemu%2C exit code 2::there is no profile 'hmv'%0A" in captured.err


def test_lint_is_annotated_at_its_lines(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in on_github(project).items():
        monkeypatch.setenv(name, value)
    (project / "my.cfg").write_text('name = "a"\ntype = "hvm"\nbios = "none"\n')
    assert run_cli(["vm", "lint", "my.cfg", "--elsewhere", "--json"]) == 7
    captured = capsys.readouterr()
    assert json.loads(captured.out)["configs"][0]["failed"] is True
    assert "::error file=my.cfg,line=3,title=unknown-bios::bios = " in captured.err


Terminal = Callable[..., tuple[int, str]]


@pytest.fixture
def on_a_terminal(project: Path) -> Terminal:
    """Run the real entry point with stdout and stderr on a terminal, and return its exit code and what that shows."""

    def run(*words: str, environment: Mapping[str, str]) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        code = "import sys; from xenqemu.cli.main import main; sys.exit(main())"
        env = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path), **environment}
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env
        )
        os.close(theirs)
        shown = b""
        until = time.monotonic() + 60
        while time.monotonic() < until and select.select([ours], [], [], until - time.monotonic())[0]:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            shown += part
        os.close(ours)
        return process.wait(10), shown.decode()

    return run


@pytest.mark.parametrize(
    ("words", "environment", "coloured"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": ""}, True),
        ((), {"NO_COLOR": "1"}, False),
        (("--no-color",), {}, False),
        (("--no-color",), {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    on_a_terminal: Terminal, words: tuple[str, ...], environment: dict[str, str], coloured: bool
) -> None:
    code, shown = on_a_terminal(*words, "profile", "list", environment=environment)
    assert code == 0
    assert "hvm" in shown
    assert ("\x1b[1m" in shown) is coloured
    assert ("\x1b[" in shown) is coloured


def test_without_a_terminal_nothing_is_asked_and_nothing_drawn(project: Path) -> None:
    code = "import sys; from xenqemu.cli.main import main; sys.exit(main())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    for words in (["profile", "list"], ["build", "--qemu", "none"], ["lab", "shell", "--xen", "1"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=60
        )
        assert b"\x1b" not in done.stdout + done.stderr
        assert done.returncode in (0, 2, 3, 5)
