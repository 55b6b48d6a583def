"""`xenqemu lab`: real guests under a real Xen, in an emulated host."""

from __future__ import annotations

import click

from xenqemu.cli import lab_boot, lab_host, lab_soak
from xenqemu.cli.help import CommandGroup, examples


@click.group(
    "lab",
    cls=CommandGroup,
    epilog=examples("xenqemu lab boot my.cfg", "xenqemu lab cases boot-sector", "xenqemu lab shell --xen 4.20"),
)
def command() -> None:
    """Boot real guests with a device model, under a real Xen in an emulated host."""


for _command in (*lab_host.COMMANDS, *lab_boot.COMMANDS, *lab_soak.COMMANDS):
    command.add_command(_command)
