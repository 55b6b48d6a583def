"""`xenqemu explain`: why a guest did not start, in a sentence."""

from __future__ import annotations

import click

from xenqemu.cli import complete
from xenqemu.cli.common import json_option, print_json, session
from xenqemu.cli.help import examples
from xenqemu.errors import EXIT_LAB, EXIT_OK

_EXAMPLES = examples(
    "xenqemu explain my-guest",
    "xl -vvv create my.cfg 2>&1 | xenqemu explain - /var/log/xen/qemu-dm-my-guest.log",
    "xenqemu explain /var/log/xen --json",
    "xenqemu explain",
)


@click.command("explain", epilog=_EXAMPLES)
@click.argument("names", metavar="[NAME|LOG|DIR]...", nargs=-1, shell_complete=complete.guests)
@json_option
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Say why a guest did not start or boot, from the logs of xl, libxl, the device model and the guest.

    NAME is a guest's: its logs are looked for where xl, libxl and libvirt put them, then in the lab's runs. LOGs are
    read together, as of one guest; - is standard input. DIR is a folder of logs, as /var/log/xen. With nothing named,
    the lab's last run. Ends with 8 when something failed and the cause is not known; then the lines that matter follow.
    """
    from xenqemu.explain.report import text
    from xenqemu.explain_pipeline import explain_named

    found = explain_named(names, session(create=False).state)
    if as_json:
        print_json({"explanations": [one.as_dict() for one in found]})
    else:
        click.echo("\n".join(map(text, found)))
    return EXIT_LAB if any(one.failed and not one.known for one in found) else EXIT_OK
