"""A tree of click commands as data, for manual pages and for the reference."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from xenqemu.cli.help import example_lines


@dataclass(frozen=True)
class Command:
    """A command, the words that call it (`xenqemu vm use`), and the commands in it."""

    words: tuple[str, ...]
    context: click.Context
    below: tuple[Command, ...]

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


def command_tree(root: click.Command, name: str = "xenqemu") -> Command:
    """Return `root`, called `name`, with all commands in it."""
    return _tree(root, (name,), None)


def every_command(command: Command) -> Iterator[Command]:
    """Yield `command` and all that are in it, each before its own."""
    yield command
    for one in command.below:
        yield from every_command(one)


def _tree(command: click.Command, words: tuple[str, ...], parent: click.Context | None) -> Command:
    context = click.Context(command, parent=parent, info_name=words[-1])
    names = command.list_commands(context) if isinstance(command, click.Group) else []
    inner = ((name, command.get_command(context, name)) for name in names if isinstance(command, click.Group))
    below = tuple(_tree(one, (*words, name), context) for name, one in inner if one is not None)
    return Command(words, context, below)
