"""`xenqemu lab prepare` and `lab shell`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xenqemu.cli import complete
from xenqemu.cli.common import DeviceModelName, json_option, print_facts, print_json, print_table, session
from xenqemu.cli.help import examples
from xenqemu.cli.lab_options import host_options
from xenqemu.errors import EXIT_LAB, EXIT_OK

if TYPE_CHECKING:
    from xenqemu.lab.spare import HostWish

_XEN_HELP = "4.17, 4.20, or a built Xen tree.  [the system's if it is one of them, else the newest]"


@click.command(
    "prepare", epilog=examples("xenqemu lab prepare --xen distro:4.20", "xenqemu lab prepare --xen-tree ../xen")
)
@click.option("--xen", metavar="XEN", shell_complete=complete.xens, help=_XEN_HELP)
@click.option(
    "--xen-tree",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Take hypervisor and toolstack from DIR/dist/install.",
)
@click.option("--refresh", is_flag=True, help="Ask the package archive for what it has now.")
@json_option
def prepare(xen: str | None, xen_tree: str | None, refresh: bool, as_json: bool) -> None:
    """Get hypervisor, dom0 kernel and toolstack of a distribution, and make a virtual host of them.

    With --xen-tree, hypervisor and toolstack are those of a Xen tree in which `make dist-xen dist-tools` was run.
    The other commands of the lab take such a tree as --xen; they prepare it when it has been built again.
    """
    from xenqemu.lab.base import describe
    from xenqemu.lab.base import prepare as prepare_base
    from xenqemu.lab.recipe import default_series

    if xen and xen_tree:
        raise click.UsageError("--xen goes without --xen-tree")
    context = session()
    named = str(Path(xen_tree).absolute()) if xen_tree else xen or default_series()
    base = describe(prepare_base(named, context.state, context.ui, refresh=refresh))
    if as_json:
        print_json(base)
        return
    print_facts({name: value for name, value in base.items() if name != "packages"})
    print_table(("package", "version"), sorted(base["packages"].items()))


@click.command(
    "shell",
    epilog=examples("xenqemu lab shell --dm dist/bin/qemu-system-xen", 'echo "xl info" | xenqemu lab shell --xen 4.20'),
)
@click.option("--xen", metavar="XEN", shell_complete=complete.xens, help=_XEN_HELP)
@click.option(
    "--dm",
    "device_model",
    metavar="BINARY",
    type=DeviceModelName(),
    help="A device model (`distro`: the distribution's own), to be there at the same path and as the toolstack's own.",
)
@host_options
def shell(xen: str | None, device_model: Path | str | None, host: HostWish | None) -> int:
    """Start a virtual host and open a dom0 prompt on this terminal; Ctrl-] or `exit` ends it.

    Without a terminal the commands on standard input are run instead.
    """
    from xenqemu.boot_pipeline import find_device_model, open_host
    from xenqemu.lab.shell import attach_terminal, run_script

    script = None if sys.stdin.isatty() and sys.stdout.isatty() else sys.stdin.buffer.read()
    context = session()
    model = find_device_model(device_model, xen, context.state, context.ui)
    with open_host(xen, model, context.state, context.ui, host) as opened:
        if script is None:
            context.ui.note("dom0 is up; Ctrl-] or `exit` ends it")
            attach_terminal(opened, sys.stdin.fileno(), sys.stdout.fileno())
            return EXIT_OK
        code = run_script(opened, script, sys.stdout.buffer).code
    if code:
        context.ui.warn(f"the commands ended with exit code {code}")
    return EXIT_LAB if code else EXIT_OK


COMMANDS: tuple[click.Command, ...] = (prepare, shell)
