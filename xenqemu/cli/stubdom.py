"""`xenqemu stubdom`: a domain of its own for a guest's device model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xenqemu.cli import complete
from xenqemu.cli.common import (
    OFFLOAD,
    SETTING_HELP,
    DeviceModelName,
    cc_option,
    jobs_option,
    json_option,
    offload,
    offload_options,
    parse_qemu,
    print_json,
    session,
    source_options,
)
from xenqemu.cli.help import CommandGroup, examples, suggest


@click.group(
    "stubdom",
    cls=CommandGroup,
    epilog=examples("xenqemu stubdom build", "xenqemu vm use my.cfg --stubdom", "xenqemu lab boot my.cfg"),
)
def command() -> None:
    """Make Linux stub domains: a device model that runs in a domain of its own, and not in dom0."""


@command.command(
    "build",
    epilog=examples(
        "xenqemu stubdom build",
        "xenqemu stubdom build --qemu distro:10.0 --xen distro:4.20 --out stubdom",
        "xenqemu stubdom build --dm dist/bin/qemu-system-xen",
    ),
)
@source_options
@click.option("--xen", metavar="WHERE", shell_complete=complete.wheres, help=f"{SETTING_HELP['xen']} [system]")
@click.option(
    "--profile", metavar="NAME", shell_complete=complete.profiles, help=f"{SETTING_HELP['profile']} [stubdom]"
)
@click.option(
    "--dm",
    "device_model",
    metavar="BINARY",
    type=DeviceModelName(),
    help="Take this device model (or `distro`) instead of building one.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where kernel, initramfs and manifest go.  [dist/stubdom]",
)
@jobs_option
@cc_option
@offload_options
@json_option
def build(as_json: bool, out: Path | None, device_model: Path | str | None, **options: Any) -> None:
    """Make a kernel and an initramfs with a device model, and print their paths.

    The kernel and the tools are those of the distribution that has the Xen which the device model is linked against.
    """
    from xenqemu.boot_pipeline import find_device_model
    from xenqemu.build.model import BuildOptions
    from xenqemu.pipeline import BuildRequest
    from xenqemu.stubdom_pipeline import StubdomRequest, build_stubdom
    from xenqemu.vm.stubdom import BUILT_HERE

    chosen = {name: options[name] for name in ("qemu", "dirty", "xen", "cc", "jobs")}
    context = session(chosen | {name.replace("_", "-"): options[name] for name in OFFLOAD})
    settings = context.settings
    request = StubdomRequest(
        build=BuildRequest(
            qemu=parse_qemu(settings, options),
            xen=settings.text("xen"),
            profile=options["profile"] or "stubdom",
            options=BuildOptions(
                jobs=settings.number("jobs"), cc=settings.optional_text("cc"), offload=offload(settings)
            ),
        ),
        out=out or BUILT_HERE,
        device_model=find_device_model(device_model, None, context.state, context.ui),
        refresh=options["refresh"],
    )
    report = build_stubdom(request, context.state, context.ui)
    if as_json:
        print_json(report.facts)
        return
    click.echo(report.made.kernel)
    click.echo(report.made.initramfs)
    suggest(context.ui, "`xenqemu vm use --stubdom CONFIG` makes a guest use it, `xenqemu lab boot CONFIG` boots it")
