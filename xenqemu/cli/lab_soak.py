"""`xenqemu lab soak`."""

from __future__ import annotations

from pathlib import Path

import click

from xenqemu.cli import complete
from xenqemu.cli.common import LAB_XEN_HELP, device_model_option, json_option, print_json, print_table, session
from xenqemu.cli.help import examples
from xenqemu.cli.reporting import report_options, reporting
from xenqemu.errors import EXIT_LAB, EXIT_OK


@click.command("soak", epilog=examples("xenqemu lab soak --cycles 20 --saves 5 --dm dist/bin/qemu-system-xen"))
@click.option("--cycles", metavar="N", type=click.IntRange(0), default=100, show_default=True, help="Guests.")
@click.option("--saves", metavar="N", type=click.IntRange(0), default=20, show_default=True, help="Saves of one guest.")
@device_model_option
@click.option("--xen", metavar="XEN", shell_complete=complete.xens, help=LAB_XEN_HELP)
@report_options
@json_option
def soak(
    cycles: int,
    saves: int,
    device_model: Path | str | None,
    xen: str | None,
    junit: Path | None,
    summary: Path | None,
    as_json: bool,
) -> int:
    """Create, run and destroy guests, save and restore one, and say what is left of it in dom0; exit 8 for a leak."""
    from xenqemu.boot_pipeline import find_device_model
    from xenqemu.state_pipeline import SoakRequest, run_soak

    context = session()
    with reporting("lab soak", junit, summary) as tell:
        model = find_device_model(device_model, xen, context.state, context.ui)
        report = run_soak(SoakRequest(model, xen, cycles, saves), context.state, context.ui)
        tell(report.results())
    if as_json:
        print_json(report.as_dict())
    else:
        print_table(*report.table())
    for item in report.leaks:
        names = f": {', '.join(item.new)}" if item.new else ""
        context.ui.warn(f"leaked: {item.name}, {item.before:.0f} before and {item.after:.0f} after{names}")
    return EXIT_LAB if report.leaks else EXIT_OK


COMMANDS: tuple[click.Command, ...] = (soak,)
