"""What the page consists of. All text is as people read it; the templates only lay it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# How a cell or a tile is marked, beside its text: nothing is said by colour alone.
GOOD, BAD, NOTE = "good", "bad", "note"


@dataclass(frozen=True)
class Subject:
    """What a report is about: the program, its manifest, and the hash of the program as it is.

    `kept` is the folder of the artifact in the state directory, with its log and its times; None when that is gone.
    """

    binary: Path
    manifest: Mapping[str, Any]
    sha256: str
    kept: Path | None


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what it is sorted by where that is a number, and how long a bar is in parts of the longest."""

    text: str
    value: float | None = None
    share: float | None = None
    state: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its title; whether it has numbers, or words of a machine that are set in its type."""

    title: str
    number: bool = False
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a unique `name` and a caption; one that is `folded` shows that only, until it is opened."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = True

    @property
    def long(self) -> bool:
        """Whether it has more rows than are seen at once, so that it has a filter."""
        return len(self.rows) > 12


@dataclass(frozen=True)
class Fact:
    """A name and a value."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Words:
    """Some words of a command line, and what they are for."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Tile:
    """One of the figures at the top: the figure, what it is of, the section that has more."""

    figure: str
    caption: str
    section: str
    state: str = ""


@dataclass(frozen=True)
class FileChange:
    """How many lines a patch adds to a file and removes from it."""

    path: str
    added: int
    removed: int


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a description; one that is `fixed` keeps its lines as they are."""

    text: str
    fixed: bool


@dataclass(frozen=True)
class DiffPart:
    """Lines of a diff of one `kind`: `add`, `remove`, `head` or `same`."""

    kind: str
    text: str


@dataclass(frozen=True)
class Patch:
    """One patch of the series; `note` says why there is no more than its topic, or that it is not the one applied."""

    topic: str
    file: str
    subject: str = ""
    description: tuple[Paragraph, ...] = ()
    files: tuple[FileChange, ...] = ()
    diff: tuple[DiffPart, ...] = ()
    note: str = ""

    @property
    def added(self) -> int:
        """How many lines it adds."""
        return sum(file.added for file in self.files)

    @property
    def removed(self) -> int:
        """How many lines it removes."""
        return sum(file.removed for file in self.files)


@dataclass(frozen=True)
class Check:
    """A protection of the program: whether it is there."""

    name: str
    there: bool
    detail: str = ""


@dataclass(frozen=True)
class Phase:
    """A part of the build: where its bar begins and how long it is, in thousandths of the whole."""

    name: str
    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Drawn:
    """All commands of one kind: a title, and one path of SVG with a rectangle for each of them."""

    kind: str
    title: str
    text: str
    path: str


@dataclass(frozen=True)
class Timeline:
    """Where the time went: phases, then ninja's commands in as many `lanes` as ran at once."""

    phases: tuple[Phase, ...] = ()
    lanes: int = 0
    drawn: tuple[Drawn, ...] = ()
    marks: tuple[str, ...] = ()
    sentence: str = ""
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture as a `data:` address, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Log:
    """The end of one of a guest's logs."""

    title: str
    text: str


@dataclass(frozen=True)
class Guest:
    """What came of a guest: a word and its mark, by what sign or why not, facts, its screen, what it wrote."""

    name: str
    word: str
    state: str
    detail: str
    facts: tuple[Fact, ...] = ()
    screen: Picture | None = None
    logs: tuple[Log, ...] = ()


@dataclass(frozen=True)
class LabRun:
    """A run of the lab: its number, under which Xen, when, and its guests, those to look at first."""

    number: str
    xen: str
    when: str
    guests: tuple[Guest, ...]

    @property
    def good(self) -> int:
        """How many guests did as they should."""
        return sum(guest.state == GOOD for guest in self.guests)

    @property
    def state(self) -> str:
        """The mark of the whole: that of the guest which did worst."""
        return next((state for state in (BAD, NOTE) if any(guest.state == state for guest in self.guests)), GOOD)


@dataclass(frozen=True)
class ContractRun:
    """What came of the contract under one Xen: how many cases of each outcome, and all of them in `table`.

    `remarkable` are those that do not simply work.
    """

    xen: str
    when: str
    counts: tuple[Tile, ...]
    remarkable: Table
    table: Table


@dataclass(frozen=True)
class Page:
    """Everything on the page; the tuples in the order in which they are shown."""

    title: str
    lead: str
    version: str
    warning: str = ""
    tiles: tuple[Tile, ...] = ()
    inputs: tuple[Fact, ...] = ()
    flags: tuple[Words, ...] = ()
    input_tables: tuple[Table, ...] = ()
    patches: tuple[Patch, ...] = ()
    outputs: tuple[Fact, ...] = ()
    checks: tuple[Check, ...] = ()
    output_tables: tuple[Table, ...] = ()
    device_note: str = ""
    device_tables: tuple[Table, ...] = ()
    timeline: Timeline = field(default_factory=Timeline)
    contract: tuple[ContractRun, ...] = ()
    runs: tuple[LabRun, ...] = ()
