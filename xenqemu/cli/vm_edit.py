"""`xenqemu vm use` and `vm revert`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xenqemu.cli import complete
from xenqemu.cli.common import ConfigPath, json_option, print_json, session
from xenqemu.cli.help import examples, suggest
from xenqemu.errors import EXIT_OK, EXIT_VM_CONFIG
from xenqemu.text import printable

if TYPE_CHECKING:
    from xenqemu.vm.result import FileResult

_PATH = ConfigPath()


@click.command(
    "use",
    epilog=examples(
        "xenqemu vm use my.cfg --dry-run",
        "xenqemu vm use --all-hvm /etc/xen --dm /opt/dm/bin/qemu-system-xen",
        "xenqemu vm use --stubdom my.cfg",
    ),
)
@click.argument("configs", metavar="[CONFIG]...", nargs=-1, type=_PATH)
@click.option(
    "--dm", metavar="BINARY", type=_PATH, help="This device model. [./dist/bin/qemu-system-xen, or the newest]"
)
@click.option(
    "--artifact",
    metavar="KEY",
    shell_complete=complete.artifacts,
    help="That of this artifact of `cache list`; the beginning of KEY will do.",
)
@click.option("--all-hvm", metavar="DIR", type=_PATH, help="Also every HVM guest's config in this folder.")
@click.option("--stubdom", is_flag=True, help="Have the device model run in the stub domain that was built.")
@click.option(
    "--stubdom-from",
    metavar="DIR",
    type=_PATH,
    help="The same, with what `stubdom build --out` was given. [./dist/stubdom]",
)
@click.option("--legacy", is_flag=True, help="Write only the obsolete device_model, which xl of today ignores.")
@click.option("--atomic", is_flag=True, help="All or nothing: if one config cannot be changed, none is.")
@click.option("--force", is_flag=True, help="Also PV and PVH guests, qemu-xen-traditional, files with hard links.")
@click.option("--dry-run", is_flag=True, help="Print what would change as a unified diff, and write nothing.")
@json_option
def use(
    configs: tuple[Path, ...],
    dm: Path | None,
    artifact: str | None,
    all_hvm: Path | None,
    stubdom_from: Path | None,
    as_json: bool,
    **flags: bool,
) -> int:
    """Point VM configs at a device model.

    CONFIG is an xl.cfg or a libvirt domain XML. Nothing else in it changes, what it was is kept for `vm revert`, and
    the same again changes nothing.
    """
    from xenqemu.vm.binary import choose_binary
    from xenqemu.vm.result import CHANGED
    from xenqemu.vm.stubdom import choose_stubdom
    from xenqemu.vm.use import UseRequest
    from xenqemu.vm.use import use as use_binary

    if not configs and all_hvm is None:
        raise click.UsageError("name VM configs, or a folder of them with --all-hvm")
    if dm is not None and artifact is not None:
        raise click.UsageError("--dm goes without --artifact")
    wants_stubdom = flags["stubdom"] or stubdom_from is not None
    if wants_stubdom and flags["legacy"]:
        raise click.UsageError("--legacy goes without a stub domain")
    context = session(create=not flags["dry_run"])
    binary = choose_binary(context.state, named=dm, key=artifact)
    request = UseRequest(
        binary=binary,
        configs=configs,
        all_hvm=all_hvm,
        stubdom=choose_stubdom(stubdom_from) if wants_stubdom else None,
        legacy=flags["legacy"],
        whole=flags["atomic"],
        force=flags["force"],
        dry_run=flags["dry_run"],
    )
    if not as_json:
        context.ui.note(f"device model: {binary.path} ({binary.origin})")
        if binary.key:
            context.ui.note("`xenqemu cache prune --all` removes it; `xenqemu build --out DIR` puts it elsewhere")
    results = use_binary(request, context.state, context.ui)
    facts = {"device_model": {"path": binary.path, "origin": binary.origin, "artifact": binary.key or None}}
    code = _report(results, facts, as_json=as_json, dry_run=request.dry_run)
    changed = [printable(result.path) for result in results if result.action == CHANGED]
    if changed and not as_json and not request.dry_run:
        suggest(
            context.ui,
            f"`xenqemu lab boot {changed[0]}` tries it, `xl create` on a Xen host",
            "`xenqemu vm revert` undoes it",
        )
    return code


@click.command("revert", epilog=examples("xenqemu vm revert my.cfg", "xenqemu vm revert --list"))
@click.argument("configs", metavar="[CONFIG]...", nargs=-1, type=_PATH)
@click.option("--force", is_flag=True, help="Also where someone edited it since; the edited version is kept elsewhere.")
@click.option("--dry-run", is_flag=True, help="Print what would change, and write nothing.")
@click.option("--list", "listing", is_flag=True, help="List the configs whose originals are kept.")
@click.option("--prune", "pruning", is_flag=True, help="Forget the originals of configs that do not exist any more.")
@json_option
def revert(configs: tuple[Path, ...], force: bool, dry_run: bool, listing: bool, pruning: bool, as_json: bool) -> int:
    """Give VM configs the bytes that they had before `vm use`."""
    from xenqemu.vm.revert import kept, prune
    from xenqemu.vm.revert import revert as revert_configs

    if bool(configs) + listing + pruning != 1:
        raise click.UsageError("name VM configs, or give one of --list and --prune")
    if (force and not configs) or (dry_run and listing):
        raise click.UsageError("--force goes with VM configs only, --dry-run also with --prune")
    context = session()
    if configs:
        results = revert_configs(configs, context.state, context.ui, force=force, dry_run=dry_run)
        return _report(results, {}, as_json=as_json, dry_run=dry_run)
    if pruning:
        rows: list[dict[str, object]] = [{"path": path} for path in prune(context.state, context.ui, dry_run=dry_run)]
        facts = {"forgotten": rows, "dry_run": dry_run}
    else:
        rows = [{"path": original.path, "since": original.since} for original in kept(context.state)]
        facts = {"originals": rows}
    if as_json:
        print_json(facts)
    else:
        for row in rows:
            click.echo(printable(row["path"]))
    return EXIT_OK


COMMANDS: tuple[click.Command, ...] = (use, revert)


def _report(results: Sequence[FileResult], facts: dict[str, Any], *, as_json: bool, dry_run: bool) -> int:
    if as_json:
        print_json({**facts, "dry_run": dry_run, "files": [asdict(result) for result in results]})
    else:
        for result in results:
            _print_result(result, dry_run=dry_run)
    return EXIT_VM_CONFIG if any(result.failed for result in results) else EXIT_OK


def _print_result(result: FileResult, *, dry_run: bool) -> None:
    if result.hint:
        click.echo(f"xenqemu: {result.reason}\n  {result.hint}", err=True)
    elif dry_run and result.diff:
        click.echo(result.diff, nl=False)
    else:
        reason = f": {result.reason}" if result.reason else ""
        click.echo(f"{printable(result.path)}: {result.action}{reason}", err=dry_run or result.failed)
    for note in result.notes:
        click.echo(f"  {printable(result.path)}: {note}" if result.failed or dry_run else f"  {note}", err=dry_run)
