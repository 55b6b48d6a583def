"""`xenqemu xen`: a Xen to build against."""

from __future__ import annotations

import click

from xenqemu.cli import complete
from xenqemu.cli.common import json_option, print_json, print_table, session
from xenqemu.cli.help import CommandGroup, examples
from xenqemu.errors import EXIT_MISSING, EXIT_OK


@click.group("xen", cls=CommandGroup, epilog=examples("xenqemu xen info", "xenqemu xen info xen-unstable/dist/install"))
def command() -> None:
    """Look at a Xen that a device model can be built against."""


@command.command("info", epilog=examples("xenqemu xen info", "xenqemu xen info distro:4.20 --json"))
@click.argument("where", default="system", shell_complete=complete.wheres)
@json_option
def info(where: str, as_json: bool) -> int:
    """Show version and libraries of the Xen at WHERE, and whether QEMU can use it.

    WHERE is `system`, a prefix, a source tree, or `distro:4.20`: the source of that Xen in the package archive.
    """
    from xenqemu import xen

    context = session()
    tree = xen.find_packaged(where, context.state, context.ui)
    report = xen.inspect(where, context.state, tree=tree)
    data = xen.describe(report)
    if as_json:
        print_json(data)
    else:
        for name in ("location", "origin", "version", "usable"):
            click.echo(f"{name}: {data[name]}")
        print_table(
            ("library", "soname", "path"),
            [(library["name"], library["soname"], library["path"]) for library in data["libraries"]],
        )
        for reason in data["reasons"]:
            click.echo(f"missing: {reason}", err=True)
    return EXIT_OK if data["usable"] else EXIT_MISSING
