"""`xenqemu profile`: what a device model can be made of."""

from __future__ import annotations

import click

from xenqemu.cli.common import json_option, print_json, print_table


@click.group("profile")
def command() -> None:
    """List and show device profiles."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the profiles."""
    from xenqemu.target.profile import list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        print_json({profile.name: profile.description for profile in profiles})
    else:
        print_table(("profile", "description"), [(profile.name, profile.description) for profile in profiles])


@command.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the devices of profile NAME and what in xl.cfg asks for each."""
    from xenqemu.target.profile import load_profile

    devices = load_profile(name).devices
    if as_json:
        print_json(
            {"devices": [{"types": device.types, "kconfig": device.kconfig, "xl": device.xl} for device in devices]}
        )
    else:
        print_table(
            ("device types", "Kconfig", "asked for by"),
            [(" ".join(device.types), " ".join(device.kconfig), device.xl) for device in devices],
        )


@command.command("diff")
@click.argument("one")
@click.argument("other")
@click.option("--for", "version", metavar="VERSION", help="The QEMU to compare them for.  [the newest supported one]")
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
