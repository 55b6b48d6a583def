"""`xenqemu cache`: what is kept in the state directory."""

from __future__ import annotations

from dataclasses import asdict

import click

from xenqemu.cli.common import json_option, print_json, print_table, session


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


@click.group("cache")
def command() -> None:
    """List and prune what is kept in the state directory."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the artifacts, the most recently used first."""
    from xenqemu.build import list_artifacts

    context = session()
    artifacts = list_artifacts(context.state)
    if as_json:
        print_json({"state": context.state.root, "artifacts": [asdict(entry) for entry in artifacts]})
        return
    print_table(
        ("key", "QEMU", "profile", "Xen", "size", "last used"),
        [
            (entry.key[:12], entry.version, entry.profile, entry.xen, _size(entry.size), entry.last_used)
            for entry in artifacts
        ],
    )


@command.command("prune")
@click.option(
    "--keep", metavar="N", type=click.IntRange(min=0), default=10, show_default=True, help="Artifacts to keep."
)
@click.option("--all", "everything", is_flag=True, help="Also remove downloads and all artifacts.")
@json_option
def prune(keep: int, everything: bool, as_json: bool) -> None:
    """Remove old artifacts, abandoned builds and trees that nothing refers to, once no other run uses them.

    Artifacts that VM configs point at since `vm use` stay, unless --all removes them, with a warning.
    """
    from xenqemu.vm.artifacts import prune as prune_state

    context = session(using=False)
    freed = prune_state(context.state, context.ui, keep=0 if everything else keep, everything=everything)
    if as_json:
        print_json({"freed_bytes": freed})
    else:
        click.echo(f"freed {_size(freed)}")
