"""`xenqemu ci`: pipelines for CI systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xenqemu.ci import CiRequest, load_systems, render, write_pipeline
from xenqemu.cli.common import json_option, matrix_options, print_json
from xenqemu.cli.help import CommandGroup, examples


@click.group("ci", cls=CommandGroup, epilog=examples("xenqemu ci init github --git https://example.org/xenqemu.git"))
def command() -> None:
    """Write pipelines that build and boot device models."""


@command.command(
    "init",
    epilog=examples(
        "xenqemu ci init github --git https://example.org/xenqemu.git",
        "xenqemu ci init gitlab --qemu 10.0,10.2 --xen 4.17,4.20 --shards 2 --out ci.yml",
    ),
)
@click.argument("system", type=click.Choice(sorted(load_systems())))
@matrix_options(
    qemu="Releases or sources.  [the newest supported one]",
    boot="Cases or groups.  [boot-sector]",
    boot_default="boot-sector",
)
@click.option("--no-boot", is_flag=True, help="Boot nothing.")
@click.option("--git", metavar="URL", default="", help="Where the pipeline gets xenqemu.  [a variable to be set]")
@click.option("--ref", metavar="REF", default="main", show_default=True, help="A branch, a tag or a commit there.")
@click.option("--image", metavar="NAME", default="debian:12", show_default=True, help="The container it runs in.")
@click.option("--shards", metavar="N", type=click.IntRange(1), help="Jobs.  [one a combination, up to four]")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="[where the system looks]")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def init(system: str, out: Path | None, force: bool, no_boot: bool, as_json: bool, **options: Any) -> None:
    """Write a pipeline that builds every combination, boots guests with each, and keeps results, reports and logs."""
    from xenqemu.series.catalogue import load_series

    chosen = load_systems()[system]
    options["qemus"] = options["qemus"] or (str(load_series().supported[-1]),)
    request = CiRequest(**{**options, "boot": () if no_boot else options["boot"]})
    path = out or chosen.file
    write_pipeline(path, render(chosen, request), force=force)
    if as_json:
        print_json({"file": path.absolute(), "jobs": request.jobs, "combinations": request.combinations})
    else:
        click.echo(path)
