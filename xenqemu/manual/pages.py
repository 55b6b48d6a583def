"""Manual pages of a tree of click commands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from xenqemu.cli.help import example_lines
from xenqemu.errors import UsageError
from xenqemu.settings import SETTINGS
from xenqemu.state import write_atomic

# What groff_char(7) wants written otherwise, so that it is shown as it stands and can be copied to a shell.
_SPECIAL = {"\\": r"\e", "-": r"\-", "~": r"\(ti", "^": r"\(ha", "'": r"\(aq", "`": r"\(ga", '"': r"\(dq"}


@dataclass(frozen=True)
class _Command:
    """A command, the words that call it (`xenqemu vm use`), and the commands in it."""

    words: tuple[str, ...]
    context: click.Context
    below: tuple[_Command, ...]

    @property
    def page(self) -> str:
        """The name of its page."""
        return "-".join(self.words)

    @property
    def summary(self) -> str:
        """What it does, in a few words."""
        return self.context.command.get_short_help_str(limit=200).rstrip(".")

    @property
    def usage(self) -> str:
        """What follows its name."""
        return " ".join(self.context.command.collect_usage_pieces(self.context))

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """What its help says."""
        text = inspect.cleandoc(self.context.command.help or "").split("\f")[0]
        return tuple(" ".join(part.split()) for part in text.split("\n\n") if part.strip())

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Each option as it is written, with what it is for."""
        parameters = self.context.command.get_params(self.context)
        records = (one.get_help_record(self.context) for one in parameters if isinstance(one, click.Option))
        return tuple((names, " ".join(about.split())) for names, about in filter(None, records))

    @property
    def examples(self) -> tuple[str, ...]:
        """The examples of its help."""
        return example_lines(self.context.command)


def pages(root: click.Command, name: str = "xenqemu") -> Mapping[str, str]:
    """Return the manual pages of `root`, called `name`, and of all commands in it: troff by the names of the files."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 (troff, which `roff` and `prose` escape)
    )
    environment.filters |= {"roff": roff, "prose": prose}
    template = environment.get_template("page.1.j2")
    tree = _tree(root, (name,), None)
    settings = [(setting.variable, setting.help) for setting in SETTINGS]
    return {
        f"{command.page}.1": template.render(command=command, root=command is tree, name=name, settings=settings)
        for command in _all(tree)
    }


def write_pages(root: click.Command, folder: Path) -> tuple[Path, ...]:
    """Write the manual pages of `root` into `folder`, which is made, and return their paths.

    Raises `UsageError` when they cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in pages(root).items():
            write_atomic(folder / file, text.encode())
            written.append(folder / file)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", "name another folder") from error
    return tuple(written)


def _tree(command: click.Command, words: tuple[str, ...], parent: click.Context | None) -> _Command:
    context = click.Context(command, parent=parent, info_name=words[-1])
    names = command.list_commands(context) if isinstance(command, click.Group) else []
    inner = ((name, command.get_command(context, name)) for name in names if isinstance(command, click.Group))
    below = tuple(_tree(one, (*words, name), context) for name, one in inner if one is not None)
    return _Command(words, context, below)


def _all(command: _Command) -> Iterator[_Command]:
    yield command
    for one in command.below:
        yield from _all(one)


def roff(text: str) -> str:
    """Return `text` so that troff shows it as it stands."""
    shown = "".join(_SPECIAL.get(char, char) for char in text)
    return rf"\&{shown}" if shown.startswith((".", r"\(aq")) else shown


def prose(text: str) -> str:
    """Return `text` as troff, with what stands between backticks in bold."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(rf"\fB{roff(part)}\fR" if index % 2 else roff(part) for index, part in enumerate(parts))
