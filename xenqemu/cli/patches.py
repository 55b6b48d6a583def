"""`xenqemu patches`: the series."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from xenqemu.cli import complete
from xenqemu.cli.common import json_option, parse_qemu, print_json, print_table, session, source_options
from xenqemu.cli.help import CommandGroup, examples
from xenqemu.errors import EXIT_OK, EXIT_PATCH


@click.group(
    "patches",
    cls=CommandGroup,
    epilog=examples("xenqemu patches list --for 10.2", "xenqemu patches check --qemu ~/src/qemu@master"),
)
def command() -> None:
    """List, check, export and maintain the xen-dm patch series."""


@command.command("list", epilog=examples("xenqemu patches list --for 10.2"))
@click.option(
    "--for", "version", metavar="VERSION", shell_complete=complete.releases, help="Only what applies to this QEMU."
)
@json_option
def list_(version: str | None, as_json: bool) -> None:
    """List the topics and the file of each, for one QEMU or for all that are supported."""
    from xenqemu.series.listing import list_series

    table = list_series(version)
    if as_json:
        print_json({"versions": table.versions, "topics": [asdict(row) for row in table.rows]})
    else:
        print_table(
            ("topic", *table.versions, "summary"),
            [(row.topic, *(file or "-" for file in row.files), row.summary) for row in table.rows],
        )


@command.command(
    "check",
    epilog=examples(
        "xenqemu patches check --qemu distro:10.0", "xenqemu patches check --qemu ~/src/qemu@master --json"
    ),
)
@source_options
@json_option
def check(as_json: bool, **options: Any) -> int:
    """Apply the series to a QEMU in a scratch index and show how each hunk goes in."""
    from xenqemu.pipeline import check_patches

    context = session({"qemu": options["qemu"], "dirty": options["dirty"]})
    report = check_patches(parse_qemu(context.settings, options), context.state, context.ui)
    if as_json:
        failed = [{"topic": entry.topic, "file": entry.file, "error": entry.error.message} for entry in report.failed]
        applied = [asdict(entry) for entry in report.applied]
        print_json({"version": report.version, "listed": report.listed, "applied": applied, "failed": failed})
    else:
        rows: list[tuple[object, ...]] = [
            (patch.topic, patch.file, hunk.path, hunk.number, hunk.offset, hunk.fuzz, "ok")
            for patch in report.applied
            for hunk in patch.hunks
        ]
        rows += [(entry.topic, entry.file, "", "", "", "", "FAILED") for entry in report.failed]
        print_table(("topic", "patch", "file", "hunk", "offset", "fuzz", "result"), rows)
        for entry in report.failed:
            click.echo(f"xenqemu: {entry.error.message}\n  {entry.error.hint}", err=True)
    return EXIT_PATCH if report.failed else EXIT_OK


@command.command("export", epilog=examples("xenqemu patches export series --qemu distro:10.2"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--profile",
    metavar="NAME",
    shell_complete=complete.profiles,
    help="The profile whose target files the last patch adds.",
)
@source_options
@json_option
def export(folder: Path, profile: str | None, as_json: bool, **options: Any) -> None:
    """Write the series to FOLDER as patches for `git am`, with a `series` file for quilt."""
    from xenqemu.pipeline import export_patches

    context = session({"qemu": options["qemu"], "dirty": options["dirty"], "profile": profile})
    source = parse_qemu(context.settings, options)
    paths = export_patches(source, context.settings.text("profile"), folder, context.state, context.ui)
    if as_json:
        print_json({"folder": folder, "patches": [path.name for path in paths]})
    else:
        for path in paths:
            click.echo(path)


@command.command("checkout", epilog=examples("xenqemu patches checkout work --qemu distro:10.2"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--profile",
    metavar="NAME",
    shell_complete=complete.profiles,
    help="The profile whose target files the last commit adds.",
)
@source_options
def checkout(folder: Path, profile: str | None, **options: Any) -> None:
    """Make FOLDER a git work tree of a QEMU with the series on it, one commit a topic."""
    from xenqemu.pipeline import checkout_patches

    context = session({"qemu": options["qemu"], "dirty": options["dirty"], "profile": profile})
    source = parse_qemu(context.settings, options)
    checkout_patches(source, context.settings.text("profile"), folder, context.state, context.ui)
    click.echo(folder)


@command.command(
    "refresh",
    epilog=examples(
        "xenqemu patches refresh work", "xenqemu patches refresh work --topic 040-acpi-without-cxl --split"
    ),
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--topic",
    metavar="NAME",
    shell_complete=complete.topics,
    help="The topic that changes which are not committed belong to.",
)
@click.option("--split", is_flag=True, help="Give this QEMU version a file of its own; other versions keep theirs.")
@json_option
def refresh(folder: Path, topic: str | None, split: bool, as_json: bool) -> None:
    """Write what was changed in the work tree FOLDER (of `patches checkout`) back into the series."""
    from xenqemu.pipeline import refresh_patches

    context = session()
    results = refresh_patches(folder, topic, split, context.state)
    if as_json:
        print_json({"topics": [asdict(result) for result in results]})
        return
    print_table(("topic", "patch", "result"), [(result.topic, result.file, result.action) for result in results])
    for result in results:
        if result.also_for:
            context.ui.warn(
                f"{result.file} is also used for QEMU {', '.join(result.also_for)}: run `patches check` there"
            )
        if result.action == "missing":
            context.ui.warn(f"the work tree has no commit for {result.topic}; its file was left as it is")
