"""Lines of shell in helps and documents, held against the commands that there are."""

from __future__ import annotations

import re
import shlex

import click

from xenqemu.cli.main import cli


def calls(line: str) -> list[list[str]]:
    """Return the calls of xenqemu in a line of shell."""
    line = re.sub(r'^eval "\$\((.*)\)"$', r"\1", line)
    parts = [shlex.split(re.sub(r"\s2?>.*", "", part)) for part in re.split(r"\s(?:\||&&)\s", line)]
    return [part for part in parts if part[0] == "xenqemu"]


def check_calls(line: str) -> None:
    """Fail unless every call of xenqemu in `line` names a command, and options that it has."""
    for words in calls(line):
        target: click.Command = cli
        rest = words[1:]
        while isinstance(target, click.Group):
            context = click.Context(target)
            _, rest, _ = target.make_parser(context).parse_args(rest)
            inner = target.get_command(context, rest[0])
            assert inner is not None, line
            target, rest = inner, rest[1:]
        # Raises for an option that there is not, or that lacks its value.
        target.make_parser(click.Context(target)).parse_args(rest)
