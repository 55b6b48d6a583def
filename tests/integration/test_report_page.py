"""The page of `xenqemu report` in a real browser: nothing is loaded, nothing overflows, everything can be reached."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.integration.conftest import Run
from tests.unit.reported import KEY, guest, make_artifact, make_picture, make_run, program_sha256
from xenqemu.build.ninja_log import Step, dump_steps
from xenqemu.resources import data_dir
from xenqemu.series.catalogue import load_series, select
from xenqemu.state import StateDir
from xenqemu.versions import parse_version

PHONE, DESK = 360, 1280
FOCUSABLE = "a[href], button, input, summary, pre[tabindex='0']"
# Whatever is in a closed part cannot be reached, nor has it to be.
VISIBLE = "element => element.checkVisibility({visibilityProperty: true})"
FOCUS = """() => {
  const at = document.activeElement;
  const style = getComputedStyle(at);
  return [at.dataset.place ?? at.outerHTML.slice(0, 80), style.outlineStyle, at.getBoundingClientRect().x];
}"""
CONTRAST = """() => {
  const luminance = (rgb) => {
    const part = (value) => { const c = value / 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
    return .2126 * part(rgb[0]) + .7152 * part(rgb[1]) + .0722 * part(rgb[2]);
  };
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || ["STYLE", "SCRIPT"].includes(element.tagName)) continue;
    const [one, other] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    if (ratio < 4.5) poor.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...poor];
}"""


@dataclass
class Watched:
    """A page, and what it said and asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(xenqemu: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with something in every part of it, as the real command writes it; XENQEMU_TEST_REPORT names another."""
    if named := os.environ.get("XENQEMU_TEST_REPORT"):
        return Path(named)
    folder = tmp_path_factory.mktemp("report")
    state = StateDir(folder / "state").create()
    series = load_series()
    patches = [
        {"topic": topic.name, "file": path.relative_to(data_dir("patches")).as_posix(), "sha256": "0"}
        for topic, path in select(series, parse_version(series.supported[-1]))
    ]
    areas = {f"hw/area{number}": 1000 * number for number in range(30)}
    artifact = make_artifact(
        state,
        patches=patches,
        configure=[f"--disable-feature-{number}" for number in range(90)],
        libraries={f"library-{number}": "1.2.3" for number in range(20)},
        cost={"areas": areas, "program": {"text": 5_000_000, "data": 100, "bss": 10}},
    )
    steps = [Step(7 * n, 7 * n + 40 + n % 90, f"libsystem.a.p/hw_area{n % 30}_file{n}.c.o") for n in range(900)]
    (artifact / "steps.json").write_bytes(dump_steps(steps))
    model = artifact / "tree/bin/qemu-system-xen"
    runs = state.lab / "runs"
    failed = {"booted": False, "reason": "the device model exited: " + "x" * 200, "log": ["oops"], "memory": None}
    run = make_run(state, 1, model, guest(runs / "1", model), guest(runs / "1", model, "late", **failed))
    make_picture(run / "boot-sector.png")
    make_run(state, 2, model)
    state.remember("contract", program_sha256(), {"runs": {"4.20.3": {"xen": "4.20.3", "cases": contract_cases()}}})
    xenqemu("report", KEY, "--out", folder / "page.html", state=state.root)
    return folder / "page.html"


def contract_cases() -> list[dict[str, Any]]:
    kinds = ("works", "works", "gap", "fails", "not here")
    return [
        {
            "case": f"case-{number}",
            "outcome": kinds[number % 5],
            "summary": "what it tries, in some words " * 3,
            "detail": "'up xen=4.20 memory=65147 disk=ok pci=6' on the serial port",
            "reason": "known",
            "reference": "docs/features/qemu-deprivilege.pandoc",
            "seconds": number,
        }
        for number in range(40)
    ]


@pytest.fixture
def visit(browser: Browser, report: Path) -> Iterator[Any]:
    """Open the page: `visit(width, scheme)`."""
    opened = []

    def open_page(width: int = DESK, scheme: Any = "light", *, everything: bool = False, **more: Any) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **more)
        opened.append(context)
        watched = Watched(context.new_page())
        watched.page.on("console", lambda message: watched.said.append(message.text))
        watched.page.on("pageerror", lambda error: watched.said.append(str(error)))
        watched.page.on("request", lambda request: watched.asked.append(request.url))
        watched.page.goto(report.as_uri())
        if everything:
            watched.page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        return watched

    yield open_page
    for context in opened:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_at_a_width_in_a_scheme(visit: Any, report: Path, tmp_path: Path, width: int, scheme: str) -> None:
    watched = visit(width, scheme, everything=True)
    page = watched.page
    assert watched.said == []
    assert [url for url in watched.asked if not url.startswith("data:")] == [report.as_uri()]
    wide = f"[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > {width}"
    wide += " && !e.closest('pre')).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(wide) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    narrow = "[...document.querySelectorAll('caption, summary, h2, h3, p, dd')].filter(e => e.checkVisibility() &&"
    narrow += " !e.matches('.unseen') && e.getBoundingClientRect().width < 80).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(narrow) == []
    assert page.evaluate(CONTRAST) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 3 * 128) == (scheme == "light")
    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_a_page_is_small(report: Path) -> None:
    assert report.stat().st_size < 1_000_000


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_moves_while_the_page_comes_up(browser: Browser, report: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.add_init_script(
        "window.moved = 0; new PerformanceObserver(list => list.getEntries().forEach(e => window.moved += e.value))"
        ".observe({type: 'layout-shift', buffered: true})"
    )
    page.goto(report.as_uri())
    page.wait_for_timeout(300)
    assert page.evaluate("window.moved") == 0
    page.close()


def test_tab_reaches_everything_in_its_order_and_shows_where_it_is(visit: Any) -> None:
    page = visit().page
    wanted = [element for element in page.query_selector_all(FOCUSABLE) if element.evaluate(VISIBLE)]
    for number, element in enumerate(wanted):
        element.evaluate("(element, number) => element.dataset.place = number", number)
    places = []
    for _ in wanted:
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        places.append(focus[0])
        assert focus[1] == "solid", focus
        assert focus[2] >= 0, focus
    assert places == [str(number) for number in range(len(wanted))]
    assert len(wanted) > 40


def test_the_first_tab_skips_to_the_content(visit: Any) -> None:
    page = visit().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_parts_open_and_tables_are_sorted_from_the_keyboard(visit: Any) -> None:
    watched = visit()
    page = watched.page
    table = page.locator("#table-contract-0")
    page.locator("summary", has_text="All cases").press("Enter")
    column = "rows => rows.map(row => row.cells[{}].dataset.value ?? row.cells[{}].textContent)"

    def cells(number: int) -> list[str]:
        found: list[str] = table.locator("tbody tr").evaluate_all(column.format(number, number))
        return found

    took = table.locator("thead button").last
    took.press("Enter")
    times = [float(said) for said in cells(4)]
    assert all(one >= other for one, other in pairwise(times))
    took.press("Space")
    assert [float(said) for said in cells(4)] == sorted(times)
    assert table.locator("thead th").last.get_attribute("aria-sort") == "ascending"
    table.locator("thead button").first.press("Enter")
    assert cells(0) == sorted(cells(0))
    assert table.locator("[aria-sort]").count() == 1
    assert watched.said == []


def test_tables_and_the_series_can_be_filtered(visit: Any) -> None:
    page = visit().page
    page.locator("summary", has_text="All cases").click()
    page.get_by_label("Filter").locator("visible=true").last.fill("case-1 works")
    shown = page.locator("#table-contract-0 tbody tr:visible")
    assert shown.count() == len([n for n in range(40) if str(n).startswith("1") and n % 5 < 2])
    assert page.locator("output[for='filter-contract-0']").inner_text() == f"{shown.count()} of 40"
    page.locator("#filter-patches").fill("acpi")
    patches = page.locator("#patches > details:visible")
    assert 0 < patches.count() < 10
    page.locator("#filter-patches").fill("")
    assert patches.count() == page.locator("#patches > details").count() > 30
    page.get_by_role("button", name="Open all").click()
    assert page.locator("#patches > details[open]").count() == patches.count()
    page.get_by_role("button", name="Open all").click()
    assert page.locator("#patches > details[open]").count() == 0


def test_a_link_to_what_is_closed_opens_it(visit: Any, report: Path) -> None:
    page = visit().page
    assert not page.locator("#table-sections").is_visible()
    page.goto(report.as_uri() + "#table-sections")
    assert page.locator("#table-sections").is_visible()


def test_the_page_without_javascript(visit: Any) -> None:
    page = visit(java_script_enabled=False).page
    assert page.locator("h1").inner_text() == "qemu-system-xen"
    assert not page.locator("#filter-patches").is_visible()
    page.locator("#patches summary").first.click()
    assert page.locator("#patches > details[open]").count() == 1


def test_the_page_has_the_names_that_a_screen_reader_tells(visit: Any) -> None:
    page = visit().page
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    names = [element.inner_text() for element in page.get_by_role("heading", level=2).all()]
    assert names == [
        *("What went in", "The series", "What came out", "Devices"),
        *("Where the time went", "The contract", "Guests"),
    ]
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, a, summary')].filter(e => e.checkVisibility() &&"
        " !(e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert json.loads(json.dumps(unnamed)) == []
