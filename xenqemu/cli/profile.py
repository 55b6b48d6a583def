"""`xenqemu profile`: what a device model can be made of."""

from __future__ import annotations

from pathlib import Path

import click

from xenqemu.cli import complete
from xenqemu.cli.common import json_option, print_json, print_table, session
from xenqemu.cli.help import CommandGroup, examples


@click.group("profile", cls=CommandGroup, epilog=examples("xenqemu profile list", "xenqemu profile show hvm"))
def command() -> None:
    """List and show device profiles."""


@command.command("list", epilog=examples("xenqemu profile list"))
@json_option
def list_(as_json: bool) -> None:
    """List the profiles."""
    from xenqemu.target.profile import list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        print_json({profile.name: profile.description for profile in profiles})
    else:
        print_table(("profile", "description"), [(profile.name, profile.description) for profile in profiles])


@command.command(
    "show", epilog=examples("xenqemu profile show hvm --for 10.0", "xenqemu profile show full --build dist")
)
@click.argument("name", shell_complete=complete.profiles)
@click.option(
    "--for",
    "version",
    metavar="VERSION",
    shell_complete=complete.releases,
    help="The QEMU to show it for.  [the newest supported one]",
)
@click.option(
    "--build",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Show what this build of it costs: a folder with a manifest.json.  [the one used last]",
)
@json_option
def show(name: str, version: str | None, build: Path | None, as_json: bool) -> None:
    """Show what profile NAME contains and what it costs.

    That is its devices with what in xl.cfg asks for each, the types that are left out, the features and options of
    configure, and, of a build that there is, sizes, libraries and types.
    """
    from xenqemu.profile_pipeline import contents_of, cost_of
    from xenqemu.target.profile import load_profile
    from xenqemu.versions import parse_version

    context = session(create=False)
    profile = load_profile(name)
    asked = parse_version(version) if version else None
    cost = cost_of(profile, asked, build, context.state)
    contents = contents_of(profile, asked or (cost.version if cost else None))
    if as_json:
        print_json({**contents.as_dict(), "cost": cost and cost.as_dict()})
        return
    print_table(("device types", "Kconfig", "asked for by"), contents.device_rows())
    print_table(("left out", "because"), contents.left_out_rows())
    print_table(("configure", f"for QEMU {contents.version}"), contents.configure_rows())
    if cost is None:
        context.ui.note(f"no build of it is there to measure: `xenqemu build --profile {name}` makes one")
    else:
        print_table(("cost", str(cost.binary)), cost.rows())
        print_table(("area", "bytes of code and data"), tuple(cost.areas.items()))


@command.command("diff", epilog=examples("xenqemu profile diff hvm full"))
@click.argument("one", shell_complete=complete.profiles)
@click.argument("other", shell_complete=complete.profiles)
@click.option(
    "--for",
    "version",
    metavar="VERSION",
    shell_complete=complete.releases,
    help="The QEMU to compare them for.  [the newest supported one]",
)
@json_option
def diff(one: str, other: str, version: str | None, as_json: bool) -> None:
    """Show in what two profiles differ: devices with what asks for them, features and options of configure."""
    from dataclasses import asdict

    from xenqemu.series.catalogue import load_series
    from xenqemu.target.compare import compare
    from xenqemu.target.profile import load_profile
    from xenqemu.versions import parse_version

    chosen = parse_version(version or load_series().supported[-1])
    differences = compare(load_profile(one), load_profile(other), chosen)
    if as_json:
        print_json({"qemu": str(chosen), "differences": [asdict(difference) for difference in differences]})
    else:
        print_table(
            ("kind", "name", one, other, "asked for by"),
            [(found.kind, found.name, found.one or "-", found.other or "-", found.xl) for found in differences],
        )
