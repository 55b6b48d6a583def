"""`xenqemu config`: the settings."""

from __future__ import annotations

import click

from xenqemu.cli.common import json_option, print_json, print_table, session
from xenqemu.cli.help import CommandGroup, examples


@click.group("config", cls=CommandGroup, epilog=examples("xenqemu config show"))
def command() -> None:
    """Show the settings: xenqemu.toml, XENQEMU_* variables and options."""


@command.command("show", epilog=examples("xenqemu config show", "xenqemu --state-dir /srv/xenqemu config show --json"))
@json_option
def show(as_json: bool) -> None:
    """Show every setting, its value and where the value comes from."""
    from xenqemu.build.remote import public_url

    resolved = session(create=False).settings
    rows = [
        (
            name,
            public_url(str(entry.value)) if entry.setting.is_secret and entry.value else entry.value,
            entry.origin,
            entry.setting.help,
        )
        for name, entry in resolved.values.items()
    ]
    if as_json:
        print_json({name: {"value": value, "from": origin} for name, value, origin, _ in rows})
    else:
        shown = {"state-dir": str(resolved.state_dir)}
        print_table(
            ("setting", "value", "from", "meaning"),
            [(name, shown.get(name, "-" if value is None else value), *rest) for name, value, *rest in rows],
        )
