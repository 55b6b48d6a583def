"""`xenqemu vm`: VM configs."""

from __future__ import annotations

import click

from xenqemu.cli import vm_edit, vm_look


@click.group("vm")
def command() -> None:
    """Point VM configs (xl.cfg, libvirt domain XML) at a device model; list, show, check and revert them."""


for _command in (*vm_look.COMMANDS, *vm_edit.COMMANDS):
    command.add_command(_command)
