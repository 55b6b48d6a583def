"""The recording in the README: what it shows, how it is drawn, and that it is of today's commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.console import ROOT, commands
from tests.unit.scripts import load_script
from xenqemu.ui import format_seconds

PICTURE = ROOT / "docs" / "demo.svg"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def record() -> Any:
    return load_script("record")


def read(text: str) -> ElementTree.Element:
    """Return the picture, after checking that it is whole: everything that is used is there, and nothing is loaded."""
    top = ElementTree.fromstring(text)
    ids = [one.get("id") for one in top.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    assert {(one.get("href") or "").removeprefix("#") for one in top.iter(f"{SVG}use")} <= set(ids)
    assert not re.search(r"url\(|@import|<script|https?://(?!www\.w3\.org/2000/svg)", text)
    return top


def told(top: ElementTree.Element) -> list[str]:
    description = top.findtext(f"{SVG}desc") or ""
    return [line.removeprefix("$ ") for line in description.strip().splitlines()]


def films(top: ElementTree.Element) -> list[ElementTree.Element]:
    (film,) = (one for one in top.iter(f"{SVG}g") if one.get("class") == "film")
    return list(film)


def test_the_picture_is_of_the_readmes_commands() -> None:
    top = read(PICTURE.read_text())
    lines = [one.line for one in commands("README.md") if one.section == "From a VM config to a booted guest"]
    assert told(top) == lines, "run scripts/record"
    shown = "\n".join("".join(line.itertext()) for line in top.iter(f"{SVG}g"))
    for line in lines:
        assert line[:60] in shown
    assert "booted a guest under Xen" in shown
    assert f"](docs/{PICTURE.name})" in (ROOT / "README.md").read_text()


def test_the_picture_is_small_and_nobodys() -> None:
    assert PICTURE.stat().st_size < 200_000
    paths = set(re.findall(r"(?<![\w.&lt;])/(?:home|root|tmp|work|var|usr|opt)/[\w.-]+", PICTURE.read_text()))
    assert paths <= {"/home/me"}


def test_what_a_terminal_shows(record: Any) -> None:
    film = record.Film()
    said = (
        (0.1, b"\x1b[33mwarning: a < b & c\x1b[0m\r\n"),
        (50.0, b"half\rdone\x1b[90m\xe2\x94\x81\x1b[92m!\x1b[0m\r\n"),
        (99.0, b"\x1b[1mdist\x1b[0m\r\n"),
    )
    film.play(record.Ran("xenqemu build --out dist", said, 108.0))
    film.play(record.Ran("ls", ((0.01, b"x\r\n"),), 0.02))
    film.show(b"~$ ", 5.0)
    top = read(record.draw(film.frames, ["xenqemu build --out dist", "ls"]))
    assert told(top) == ["xenqemu build --out dist", "ls"]
    frames = films(top)
    assert len(frames) == len(film.frames)
    lines = {one.get("id"): "".join(one.itertext()) for one in top.iter(f"{SVG}g") if one.get("id")}
    last = [lines[(one.get("href") or "")[1:]] for one in frames[-1].iter(f"{SVG}use")]
    assert last == ["~$xenqemu build --out dist", "warning: a < b & c", "done━!", "dist", "~$ls", "x", "~$"]
    # every colour is one that the picture has
    style = top.findtext(f"{SVG}style") or ""
    classes = {name for one in top.iter(f"{SVG}text") for name in (one.get("class") or "").split()}
    assert {"brown", "green", "brightblack", "b"} <= classes
    assert {name for name in classes if f".{name}" not in style} == set()
    # the wait is told while it lasts, and it is shortened
    notes = ["".join(one.itertext()) for frame in frames for one in frame if one.get("class") == "note"]
    assert set(notes) == {f"xenqemu build takes {format_seconds(108)}"}
    assert sum(frame.seconds for frame in film.frames) < record.MOST + 5 + 3 * record.PAUSE + 3


def test_frames_are_in_order_and_the_last_one_is_what_stands_still(record: Any) -> None:
    film = record.Film()
    for number in range(30):
        film.show(f"{number}\r\n".encode(), 0.25)
    text = record.draw(film.frames, [])
    read(text)
    starts = [float(one) for one in re.findall(r"^ +([\d.]+)% { transform", text, re.MULTILINE)]
    assert starts == sorted(set(starts))
    assert (starts[0], starts[-1], len(starts)) == (0, 100, 31)
    ends = re.findall(r"translateX\(-(\d+)px\)", text)
    still = re.search(r"\.film { transform: translateX\(-(\d+)px\); }", text)
    assert still
    assert still[1] == ends[-1] == str(max(map(int, ends)))
    # moving is what takes a wish, and so is what is not known to be unwanted
    assert re.search(r"no-preference\) { \.film { animation: film [\d.]+s steps\(1, end\) infinite; } }", text)


def test_short_lived_pictures_are_left_out(record: Any) -> None:
    film = record.Film()
    for number in range(100):
        film.show(f"\r{number}".encode(), 0.01)
    assert len(film.frames) < 10
    assert sum(frame.seconds for frame in film.frames) == pytest.approx(1)


def test_a_command_on_a_terminal(record: Any, tmp_path: Path) -> None:
    script = 'stty size; [ -t 1 ] && [ -t 2 ] && pwd && echo "$WORD" >&2; exit 7'
    ran = record.run("the line", script, tmp_path, {"PATH": "/usr/bin:/bin", "WORD": "heard"})
    said = b"".join(data for _, data in ran.said)
    assert said == b"28 108\r\n/home/me\r\nheard\r\n"
    assert ran.line == "the line"
    assert [at for at, _ in ran.said] == sorted(at for at, _ in ran.said)
    assert ran.said[-1][0] <= ran.seconds
