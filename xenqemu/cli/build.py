"""`xenqemu build`: the main job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from xenqemu.cli import complete
from xenqemu.cli.common import (
    OFFLOAD,
    SETTING_HELP,
    cc_option,
    jobs_option,
    json_option,
    offload,
    offload_options,
    parse_qemu,
    print_facts,
    print_json,
    session,
    source_options,
)
from xenqemu.cli.help import examples, suggest
from xenqemu.cli.reporting import report_options, reporting

_TEXT = ("qemu", "xen", "profile", "out", "cc")
_SWITCHES = ("dirty", "debug_info", "build_xen_libs")


@click.command(
    "build",
    epilog=examples(
        "xenqemu build",
        "xenqemu build --qemu distro:10.0 --xen xen-unstable/dist/install --profile full --out dm",
        "xenqemu build --qemu ~/src/qemu --dirty --debug-info --json",
    ),
)
@source_options
@click.option("--xen", metavar="WHERE", shell_complete=complete.wheres, help=f"{SETTING_HELP['xen']} [system]")
@click.option("--build-xen-libs", is_flag=True, default=None, help=SETTING_HELP["build-xen-libs"])
@click.option("--profile", metavar="NAME", shell_complete=complete.profiles, help=f"{SETTING_HELP['profile']} [hvm]")
@click.option("--out", metavar="DIR", help=f"{SETTING_HELP['out']} [./dist]")
@jobs_option
@cc_option
@offload_options
@click.option("--debug-info", is_flag=True, default=None, help=SETTING_HELP["debug-info"])
@click.option("--prefix", metavar="DIR", help="Install like a part of Xen below this prefix, instead of --out.")
@click.option("--libexec-bin", metavar="DIR", help="Where the binary goes then. [PREFIX/lib/xen/bin]")
@click.option("--share-dir", metavar="DIR", help="Where its data goes then. [PREFIX/share]")
@click.option("--destdir", metavar="DIR", help="Put before those folders, for packaging.")
@click.option("--dry-run", is_flag=True, help="Prepare the sources, say what would be built, and stop.")
@report_options
@json_option
def command(as_json: bool, dry_run: bool, junit: Path | None, summary: Path | None, **options: Any) -> None:
    """Build qemu-system-xen and print the path of the binary.

    The result is a relocatable tree in --out with manifest.json and build.log. Building the same inputs again does
    nothing and says so; an interrupted build goes on where it stopped.
    """
    from xenqemu.build.model import BuildOptions, Layout
    from xenqemu.pipeline import BuildRequest, Destination, carry_out, deliver, describe_plan, plan_build, report_build

    chosen = {name.replace("_", "-"): options[name] for name in (*_TEXT, *_SWITCHES, *OFFLOAD, "jobs")}
    context = session(chosen)
    settings = context.settings
    layout = Layout.for_xen(options["prefix"], options["libexec_bin"], options["share_dir"], options["destdir"])
    if layout is not None and options["out"] is not None:
        raise click.UsageError("--out goes without --prefix, --libexec-bin, --share-dir and --destdir")
    request = BuildRequest(
        qemu=parse_qemu(settings, options),
        xen=settings.text("xen"),
        profile=settings.text("profile"),
        options=BuildOptions(
            jobs=settings.number("jobs"),
            debug_info=settings.flag("debug-info"),
            cc=settings.optional_text("cc"),
            layout=layout or Layout(),
            offload=offload(settings),
        ),
        build_xen_libs=settings.flag("build-xen-libs"),
    )
    if layout is None:
        destination = Destination(out=Path(settings.text("out")).expanduser())
    else:
        destination = Destination(destdir=Path(options["destdir"] or "/"))
    destination.check()
    if dry_run:
        described = describe_plan(plan_build(request, context.state, context.ui), context.state)
        (print_json if as_json else print_facts)(described)
        return
    started = time.monotonic()
    with reporting("build", junit, summary) as tell:
        plan = plan_build(request, context.state, context.ui)
        binary = deliver(carry_out(plan, context.state, context.ui), plan, destination, context.ui)
        report = report_build(plan, binary, time.monotonic() - started)
        tell(report.results)
    if as_json:
        print_json(report.facts)
        return
    click.echo(binary)
    if layout is None:
        suggest(context.ui, "`xenqemu vm use CONFIG` points a guest at it, `xenqemu lab boot CONFIG` boots one with it")
