"""The results as a page: tables and plots between two marks of a Markdown file whose other text is written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xenqemu.bench.model import Figure, Results, floor_of, judge
from xenqemu.bench.report import measured_figures, row_table, shown, table, verdict_table
from xenqemu.errors import UsageError
from xenqemu.state import write_atomic

BEGIN = "<!-- measured: what is between this line and the last one is written by `xenqemu bench --page` -->"
END = "<!-- end of what is measured -->"
_LABEL, _WIDTH, _VALUE = 250, 420, 170
_BAR, _GAP, _HEAD = 16, 4, 26
_PLOTS = {
    "build-cpu": "Processor time of builds",
    "size": "Sizes of the binary",
    "counts": "What is in it",
    "memory": "Memory of the device model with a guest",
    "start": "Instructions at a guest's start",
}


@dataclass(frozen=True)
class Bar:
    """One bar of a plot: where it is, how long, whose (`place` among the contenders), and what is written at it."""

    y: int
    width: float
    place: int
    label: str
    text: str


@dataclass(frozen=True)
class Plot:
    """A picture of the figures of one kind: a heading and bars for each of them, longest is the largest value."""

    name: str
    title: str
    height: int
    headings: tuple[tuple[int, str], ...]
    bars: tuple[Bar, ...]


def plots(results: Results) -> tuple[Plot, ...]:
    """Return the plots of what was measured."""
    found = []
    for name, title in _PLOTS.items():
        chosen = [figure for figure in measured_figures(results) if figure.plot == name]
        if chosen:
            found.append(_plot(name, title, chosen, results))
    return tuple(found)


def _plot(name: str, title: str, chosen: list[Figure], results: Results) -> Plot:
    y, headings, bars = _HEAD, [], []
    for figure in chosen:
        values = [(place, results.value(one.name, figure.name)) for place, one in enumerate(results.contenders)]
        there = [(place, value) for place, value in values if value is not None]
        largest = max(value for _, value in there) or 1
        headings.append((y + _BAR, figure.title.replace("`", "")))
        y += _HEAD
        for place, value in there:
            label = results.contenders[place].title
            bars.append(Bar(y, round(_WIDTH * value / largest, 1), place, label, figure.show(value)))
            y += _BAR + _GAP
        y += _GAP
    return Plot(name, title, y + _GAP, tuple(headings), tuple(bars))


def render_svg(plot: Plot) -> str:
    """Return the plot as SVG that fits a light and a dark page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("xenqemu.bench", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    layout = {"label": _LABEL, "full": _LABEL + _WIDTH + _VALUE, "thickness": _BAR}
    return environment.get_template("bars.svg.j2").render(plot=plot, **layout)


def write_page(page: Path, results: Results) -> tuple[Path, ...]:
    """Put the results into the Markdown file `page`, and plots into a folder of its name; return what was written.

    Raises `UsageError` when the file is not there, or lacks the marks.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{page} cannot be read: {error.strerror}", "name a page with the two marks") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{page} has no place for results", f"put these lines there: {BEGIN} {END}")
    folder = page.with_suffix("")
    written = []
    drawn = plots(results)
    for plot in drawn:
        folder.mkdir(exist_ok=True)
        path = folder / f"{plot.name}.svg"
        write_atomic(path, render_svg(plot).encode())
        written.append(path)
    body = "\n".join(_body(results, drawn, folder.name))
    write_atomic(page, f"{before}{BEGIN}\n\n{body}\n{END}{after}".encode())
    return (page, *written)


def _body(results: Results, drawn: tuple[Plot, ...], folder: str) -> Iterator[str]:
    yield from (f"- {name}: {value}" for name, value in results.facts.items())
    yield from ("", "### Targets", "", *_markdown(*verdict_table(results)), "")
    for verdict in judge(results):
        explained = floor_of(verdict.target) if verdict.reached is False else ""
        if verdict.reached is False:
            at_most = f"{shown(verdict)}, {verdict.target.at_most:g} wanted"
            yield from (f"#### The floor of: {verdict.figure.title} ({at_most})", "")
            yield from (explained or "Not explained yet.", "")
    yield from ("### Figures", "", "In brackets: in parts of the guide's build.", "", *_markdown(*table(results)), "")
    for plot in drawn:
        yield from (f"![{plot.title}]({folder}/{plot.name}.svg)", "")
    yield from (f"- **{one.title}**: {one.summary}" for one in results.contenders if one.summary)
    if results.rows:
        yield from ("", "### xenqemu itself", "", *_markdown(*row_table(results)))
    if results.missing:
        yield from ("", "### Not measured", "", *(f"- {text}" for text in results.missing))


def _markdown(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    for cells in (columns, ("---",) * len(columns), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
