"""`xenqemu lab`: real guests under a real Xen, in an emulated host."""

from __future__ import annotations

import click

from xenqemu.cli import lab_boot, lab_host, lab_soak


@click.group("lab")
def command() -> None:
    """Boot real guests with a device model, under a real Xen in an emulated host."""


for _command in (*lab_host.COMMANDS, *lab_boot.COMMANDS, *lab_soak.COMMANDS):
    command.add_command(_command)
