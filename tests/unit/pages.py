"""A page of HTML, read as strictly as a test can: every element closed, every reference to something that is there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "input", "img", "br", "hr", "path", "rect"}
LOADED = ("src", "href", "srcset", "action", "poster", "data")


@dataclass
class Reading:
    """What a page has: its text, its ids, what refers to them, and how often which element is there."""

    text: str = ""
    ids: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    tags: Counter[str] = field(default_factory=Counter)
    headings: list[int] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    styled: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Reading()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        page, given = self.page, dict(attrs)
        assert len(given) == len(attrs), f"an attribute twice: {tag} {attrs}"
        page.tags[tag] += 1
        if tag in ("h1", "h2", "h3", "h4"):
            page.headings.append(int(tag[1]))
        page.ids += [value or "" for name, value in attrs if name == "id"]
        for name in ("for", "aria-labelledby", "data-rows", "data-items", "data-open"):
            page.references += (given.get(name) or "").split()
        for name, value in attrs:
            if name in LOADED and tag != "button":
                (page.references if (value or "").startswith("#") else page.loaded).append((value or "").lstrip("#"))
        if tag == "img" and not (given.get("alt") and given.get("width") and given.get("height")):
            page.unnamed.append(tag)
        if "style" in given or any(name.startswith("on") for name in given):
            page.styled.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.page.text += data


def read_page(html: str) -> Reading:
    """Return what `html` has; fails for elements that are not closed, and for what HTML does not allow in text."""
    assert html.lstrip().startswith("<!DOCTYPE html>")
    assert not [char for char in html if (char < " " and char not in "\n\t") or "\ud800" <= char <= "\udfff"]
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader.page


def check_page(page: Reading) -> None:
    """Fail for a page with a dangling reference, anything that is loaded, or headings that leave a level out."""
    assert [name for name, times in Counter(page.ids).items() if times > 1] == []
    assert sorted(set(page.references) - set(page.ids)) == []
    assert [address for address in page.loaded if not address.startswith("data:")] == []
    assert (page.unnamed, page.styled) == ([], [])
    assert page.tags["main"] == page.tags["h1"] == page.tags["header"] == page.tags["footer"] == 1
    assert all(after <= before + 1 for before, after in pairwise(page.headings))
