"""`xenqemu doctor`: what this machine has and lacks."""

from __future__ import annotations

from dataclasses import asdict

import click

from xenqemu.cli.common import json_option, print_json, print_table, session
from xenqemu.cli.help import examples
from xenqemu.errors import EXIT_MISSING, EXIT_OK


@click.command("doctor", epilog=examples("xenqemu doctor", "xenqemu doctor --json"))
@json_option
def command(as_json: bool) -> int:
    """Check compilers, headers, tools and disk space, and say how to get what is missing."""
    from xenqemu.doctor import apt_command, examine

    checks = examine(session(create=False).state)
    complete = all(check.found for check in checks if check.required)
    install = apt_command(checks)
    if as_json:
        print_json({"complete": complete, "install": install, "checks": [asdict(check) for check in checks]})
        return EXIT_OK if complete else EXIT_MISSING
    print_table(
        ("", "what", "found", "needed for"),
        [
            ("ok" if check.found else "MISSING" if check.required else "-", check.name, check.detail, check.needed_for)
            for check in checks
        ],
    )
    if install:
        click.echo(f"\nto install what is missing:\n  {install}")
    return EXIT_OK if complete else EXIT_MISSING
