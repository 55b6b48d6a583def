"""`xenqemu contract`: everything that libxl can pass to a device model, and what a device model makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xenqemu.cli import complete
from xenqemu.cli.common import (
    LAB_XEN_HELP,
    DeviceModelName,
    device_model_option,
    json_option,
    print_json,
    print_table,
    session,
)
from xenqemu.cli.help import CommandGroup, examples
from xenqemu.cli.reporting import report_options, reporting
from xenqemu.errors import EXIT_LAB, EXIT_OK

_XEN_OPTION = click.option(
    "--xen", metavar="VERSION", shell_complete=complete.xens, help="4.17, 4.20.1: a release, or the newest of a series."
)


@click.group(
    "contract",
    cls=CommandGroup,
    epilog=examples(
        "xenqemu contract list --xen 4.20",
        "xenqemu contract check dist/bin/qemu-system-xen",
        "xenqemu contract run --dm distro",
    ),
)
def command() -> None:
    """List what xl can ask a device model for, and try it on one: without Xen, and under a real one."""


@command.command("list", epilog=examples("xenqemu contract list --xen 4.20"))
@_XEN_OPTION
@json_option
def list_(xen: str | None, as_json: bool) -> None:
    """List what libxl can pass: what causes it, since which Xen, and which QEMU changed it."""
    from xenqemu.contract.report import cause, entry_facts, passed
    from xenqemu.contract.table import entries_of, load

    entries = entries_of(load(), xen)
    if as_json:
        print_json({"entries": [entry_facts(entry) for entry in entries]})
        return
    print_table(
        ("entry", "kind", "xen", "cause", "passed", "changed by QEMU"),
        [
            (
                entry.id,
                entry.kind,
                entry.xen or "all",
                cause(entry),
                passed(entry),
                "; ".join(f"{change.qemu} {change.what}" for change in entry.changes),
            )
            for entry in entries
        ],
    )


@command.command(
    "check",
    epilog=examples(
        "xenqemu contract check dist/bin/qemu-system-xen --xen 4.17",
        "xenqemu contract check distro:4.20 --all --junit contract.xml",
    ),
)
@click.argument("binary", type=DeviceModelName())
@_XEN_OPTION
@click.option("--data", metavar="DIR", multiple=True, type=click.Path(path_type=Path), help="More data files (-L).")
@report_options
@click.option("--all", "everything", is_flag=True, help="Show what is taken, too.")
@json_option
def check(
    binary: Path | str,
    xen: str | None,
    data: tuple[Path, ...],
    junit: Path | None,
    summary: Path | None,
    everything: bool,
    as_json: bool,
) -> int:
    """Try everything that libxl can pass on BINARY, as far as that goes without Xen; exit 8 for a refusal.

    BINARY can be `distro` or `distro:4.17`: the device model that the distribution of that Xen ships with it.
    """
    from xenqemu.boot_pipeline import find_device_model
    from xenqemu.contract import check as contract_check
    from xenqemu.contract.model import Verdict, xen_name
    from xenqemu.contract.report import cause, counts, report_facts, results

    context = session(create=isinstance(binary, str))
    with reporting("contract check", junit, summary) as tell:
        path = find_device_model(binary, None, context.state, context.ui) or Path()
        report = contract_check(path, xen, context.ui, data=data)
        tell(results(report))
    if as_json:
        print_json(report_facts(report))
    else:
        shown = [row for row in report.results if everything or row.verdict in (Verdict.REFUSED, Verdict.GAP)]
        print_table(
            ("entry", "verdict", "cause", "message"),
            [(row.entry.id, row.verdict.value, cause(row.entry), row.message) for row in shown],
        )
        counted = ", ".join(f"{number} {verdict}" for verdict, number in counts(report).items() if number)
        click.echo(f"QEMU {report.qemu} for Xen {xen_name(report.xen)}: {counted}", err=True)
    return EXIT_LAB if report.refused else EXIT_OK


@command.command(
    "run",
    epilog=examples(
        "xenqemu contract run --dm dist/bin/qemu-system-xen",
        "xenqemu contract run acpi-off restrict --dm distro --xen 4.20 --json",
    ),
)
@click.argument("names", metavar="[CASE]...", nargs=-1, shell_complete=complete.cases)
@device_model_option
@click.option("--xen", metavar="XEN", shell_complete=complete.xens, help=LAB_XEN_HELP)
@click.option("--jobs", metavar="N", type=click.IntRange(1), help="Hosts at once.  [as processors and memory allow]")
@report_options
@click.option("--all", "everything", is_flag=True, help="Show what works, too.")
@json_option
def run(junit: Path | None, summary: Path | None, everything: bool, as_json: bool, **options: Any) -> int:
    """Boot a guest for each thing that xl can ask for, or the CASEs, in the lab; exit 8 when one surprises."""
    from xenqemu.boot_pipeline import find_device_model
    from xenqemu.contract import outcome
    from xenqemu.contract_pipeline import ContractRequest, run_contract
    from xenqemu.lab.viewed import table as figures_table

    context = session()
    with reporting("contract run", junit, summary) as tell:
        options["device_model"] = find_device_model(options["device_model"], options["xen"], context.state, context.ui)
        report = run_contract(ContractRequest(**options), context.state, context.ui)
        tell(outcome.results(report))
    if as_json:
        print_json(outcome.facts(report))
    else:
        print_table(*outcome.table(report, everything=everything))
        for one in (one for one in report.outcomes if one.figures):
            click.echo(f"\n{one.case.name}:")
            print_table(*figures_table(one.figures))
        for sentence in outcome.causes(report):
            context.ui.note(sentence)
        click.echo(outcome.sentence(report), err=True)
    return EXIT_LAB if report.unexpected else EXIT_OK
