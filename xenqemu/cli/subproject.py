"""`xenqemu subproject`: a QEMU source for Xen's own build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xenqemu.cli import complete
from xenqemu.cli.common import SETTING_HELP, json_option, parse_qemu, print_facts, print_json, session, source_options
from xenqemu.cli.help import examples, suggest


@click.command(
    "subproject",
    epilog=examples(
        "xenqemu subproject ../device-model",
        "xenqemu subproject ../device-model --qemu ../qemu@master --profile full",
    ),
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@source_options
@click.option("--profile", metavar="NAME", shell_complete=complete.profiles, help=f"{SETTING_HELP['profile']} [hvm]")
@json_option
def command(folder: Path, as_json: bool, **options: Any) -> None:
    """Make DIR what Xen's tools/Makefile takes as QEMU_UPSTREAM_LOC.

    Xen's build then builds and installs qemu-system-xen, and qemu-system-i386 as another name of it, where libxl
    looks for the device model of a VM whose config names none. Nothing in Xen's tree is changed.
    """
    from xenqemu.subproject.model import Subproject
    from xenqemu.subproject_pipeline import create, describe

    context = session({name: options[name] for name in ("qemu", "dirty", "profile")})
    root = click.get_current_context().find_root().obj or {}
    chosen = root.get("state_dir")
    subproject = Subproject(
        parse_qemu(context.settings, options), context.settings.text("profile"), Path(chosen) if chosen else None
    )
    create(folder, subproject, context.state, context.ui)
    described = describe(subproject, folder)
    if as_json:
        print_json(described)
        return
    print_facts({name: value for name, value in described.items() if name != "next"})
    suggest(context.ui, f"`{described['next']}` in a Xen tree")
