"""`xenqemu report`: a build and what came of it on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xenqemu.cli.common import json_option, print_json, session
from xenqemu.cli.help import examples


@click.command(
    "report",
    epilog=examples(
        "xenqemu report --open",
        "xenqemu report dist --out page.html",
        "xenqemu report dist/bin/qemu-system-xen --contract contract.json",
    ),
)
@click.argument("named", metavar="[BUILD]", required=False)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    default="xenqemu-report.html",
    help="Where the page goes.  [xenqemu-report.html]",
)
@click.option(
    "--contract",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `contract run --json` printed elsewhere, for this device model.",
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@json_option
def command(show: bool, as_json: bool, **options: Any) -> None:
    """Write one HTML page, which needs nothing else, about a build and its runs; print where it is.

    BUILD is a program that xenqemu has built, its folder, or the key of an artifact; the newest one unless given.
    """
    from xenqemu.report_pipeline import ReportRequest, open_page, write_report

    context = session(create=False)
    written = write_report(ReportRequest(**options), context.state, context.ui)
    if as_json:
        print_json(written.as_dict())
    else:
        click.echo(written.path)
    if show:
        open_page(written.path, context.ui)
