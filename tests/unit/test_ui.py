"""What the user sees."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from xenqemu.rich_ui import RichUi
from xenqemu.ui import PlainUi, QuietUi, format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.4, "59 s"), (125, "2 min 5 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_steps_nest_and_show_their_time() -> None:
    stream = io.StringIO()
    ui = PlainUi(stream, verbose=True)
    with ui.step("outer"), ui.step("inner"):
        ui.note("by the way")
    assert ui.verbose
    assert stream.getvalue().splitlines() == [
        "outer ...",
        "  inner ...",
        "    by the way",
        "  inner: 0.0 s",
        "outer: 0.0 s",
    ]


def test_a_failed_step_claims_no_time() -> None:
    stream = io.StringIO()
    ui = PlainUi(stream)
    with pytest.raises(KeyError), ui.step("outer"):
        raise KeyError
    ui.warn("watch out")
    assert stream.getvalue().splitlines() == ["outer ...", "warning: watch out"]


def test_progress_in_a_log_is_a_line_a_tenth() -> None:
    stream = io.StringIO()
    with PlainUi(stream).progress("compile") as progress:
        for done in range(1001):
            progress.update(done, 1000, "file.c")
        progress.update(0, 0)
    lines = [line for line in stream.getvalue().splitlines() if "%" in line]
    assert lines[0] == "  compile: 100/1000 (10 %)"
    assert len(lines) == 10


def test_quiet_is_quiet_but_for_warnings() -> None:
    stream = io.StringIO()
    ui = QuietUi(stream)
    with ui.step("a"), ui.progress("b") as progress:
        progress.update(1, 2)
        ui.note("n")
    ui.warn("w")
    assert stream.getvalue() == "warning: w\n"


def test_a_terminal_gets_a_bar_and_no_markup_from_names() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    ui = RichUi(console)
    with ui.step("[bold]literal"), ui.progress("compile") as progress:
        progress.update(5, 10, "hw/xen/[x].c")
    ui.warn("w")
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]literal" in output
    assert "5/10" in output
    assert "warning: w" in output
