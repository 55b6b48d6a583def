"""Manual pages of a tree of click commands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import click

from xenqemu.errors import UsageError
from xenqemu.manual.commands import command_tree, every_command
from xenqemu.settings import SETTINGS
from xenqemu.state import write_atomic
from xenqemu.templates import text_environment

# What groff_char(7) wants written otherwise, so that it is shown as it stands and can be copied to a shell.
_SPECIAL = {"\\": r"\e", "-": r"\-", "~": r"\(ti", "^": r"\(ha", "'": r"\(aq", "`": r"\(ga", '"': r"\(dq"}


def pages(root: click.Command, name: str = "xenqemu") -> Mapping[str, str]:
    """Return the manual pages of `root`, called `name`, and of all commands in it: troff by the names of the files."""
    environment = text_environment("xenqemu.manual")
    environment.filters |= {"roff": roff, "prose": prose}
    template = environment.get_template("page.1.j2")
    tree = command_tree(root, name)
    settings = [(setting.variable, setting.help) for setting in SETTINGS]
    return {
        f"{command.page}.1": template.render(command=command, root=command is tree, name=name, settings=settings)
        for command in every_command(tree)
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


def roff(text: str) -> str:
    """Return `text` so that troff shows it as it stands."""
    shown = "".join(_SPECIAL.get(char, char) for char in text)
    return rf"\&{shown}" if shown.startswith((".", r"\(aq")) else shown


def prose(text: str) -> str:
    """Return `text` as troff, with what stands between backticks in bold."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(rf"\fB{roff(part)}\fR" if index % 2 else roff(part) for index, part in enumerate(parts))
