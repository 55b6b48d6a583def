"""`xenqemu vm`: VM configs."""

from __future__ import annotations

import click

from xenqemu.cli import vm_edit, vm_look
from xenqemu.cli.help import CommandGroup, examples


@click.group(
    "vm",
    cls=CommandGroup,
    epilog=examples("xenqemu vm list", "xenqemu vm lint my.cfg --dm dist/bin/qemu-system-xen", "xenqemu vm use my.cfg"),
)
def command() -> None:
    """Point VM configs (xl.cfg, libvirt domain XML) at a device model; list, show, check and revert them."""


for _command in (*vm_look.COMMANDS, *vm_edit.COMMANDS):
    command.add_command(_command)
