"""`xenqemu cache`: what is kept in the state directory."""

from __future__ import annotations

from dataclasses import asdict

import click

from xenqemu.cli.common import json_option, print_json, print_table, session
from xenqemu.cli.help import CommandGroup, examples


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


@click.group("cache", cls=CommandGroup, epilog=examples("xenqemu cache list", "xenqemu cache prune --keep 3"))
def command() -> None:
    """List and prune what is kept in the state directory."""


@command.command("list", epilog=examples("xenqemu cache list --json"))
@json_option
def list_(as_json: bool) -> None:
    """List the artifacts, the most recently used first, and the lab's virtual hosts."""
    from xenqemu.build import list_artifacts
    from xenqemu.lab.stored import list_bases

    context = session()
    artifacts, bases = list_artifacts(context.state), list_bases(context.state)
    if as_json:
        facts = {"artifacts": [asdict(entry) for entry in artifacts], "bases": [asdict(base) for base in bases]}
        print_json({"state": context.state.root, **facts})
        return
    print_table(
        ("key", "QEMU", "profile", "Xen", "size", "last used"),
        [
            (entry.key[:12], entry.version, entry.profile, entry.xen, _size(entry.size), entry.last_used)
            for entry in artifacts
        ],
    )
    if bases:
        click.echo()
        print_table(
            ("virtual host", "Xen", "size", "needed"),
            [(base.key, base.xen, _size(base.size), "yes" if base.current else "no") for base in bases],
        )


@command.command("prune", epilog=examples("xenqemu cache prune --keep 3", "xenqemu cache prune --all"))
@click.option(
    "--keep", metavar="N", type=click.IntRange(min=0), default=10, show_default=True, help="Artifacts to keep."
)
@click.option("--all", "everything", is_flag=True, help="Also remove downloads, logs and all artifacts.")
@json_option
def prune(keep: int, everything: bool, as_json: bool) -> None:
    """Remove old artifacts, virtual hosts and abandoned builds, and unused trees, once no other run uses them.

    Artifacts that VM configs point at since `vm use` stay, unless --all removes them, with a warning.
    """
    from xenqemu.boot_pipeline import prune_cache

    context = session(using=False)
    freed = prune_cache(context.state, context.ui, keep=0 if everything else keep, everything=everything)
    if as_json:
        print_json({"freed_bytes": freed})
    else:
        click.echo(f"freed {_size(freed)}")
