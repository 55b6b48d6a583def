"""`xenqemu man`: the manual pages."""

from __future__ import annotations

from pathlib import Path

import click

from xenqemu.cli.common import json_option, print_json
from xenqemu.cli.help import examples


@click.command(
    "man", epilog=examples("xenqemu man ~/.local/share/man/man1", "xenqemu man && man -l man/xenqemu-vm-use.1")
)
@click.argument("folder", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default=Path("man"))
@json_option
@click.pass_context
def command(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Write the manual pages into DIR (without it, ./man), one for each command, and print their paths.

    In ~/.local/share/man/man1 and /usr/local/share/man/man1 `man xenqemu-vm-use` finds them.
    """
    from xenqemu.manual import write_pages

    written = write_pages(ctx.find_root().command, folder)
    if as_json:
        print_json({"pages": written})
    else:
        click.echo("\n".join(map(str, written)))
