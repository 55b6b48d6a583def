"""`xenqemu vm list`, `vm show` and `vm lint`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xenqemu.cli import complete
from xenqemu.cli.common import ConfigPath, Session, json_option, print_facts, print_json, print_table, session
from xenqemu.cli.help import examples
from xenqemu.errors import EXIT_OK, EXIT_VM_CONFIG
from xenqemu.text import printable

if TYPE_CHECKING:
    from xenqemu.vm.lint import Finding, LintReport

_PATH = ConfigPath()
_DISK_COLUMNS = ("vdev", "target", "format", "backend", "writable", "cdrom", "why")
_VIF_COLUMNS = ("type", "model", "bridge", "mac", "script")


@click.command("list", epilog=examples("xenqemu vm list", "xenqemu vm list /etc/xen my.cfg --json"))
@click.argument("paths", nargs=-1, type=_PATH, metavar="[PATH]...")
@json_option
def list_(paths: tuple[Path, ...], as_json: bool) -> None:
    """List the VM configs that are or are in PATH: their type, their device model, what is wrong with them.

    Without PATH those in /etc/xen and /etc/libvirt/libxl.
    """
    from xenqemu.vm.catalogue import list_guests

    entries = list_guests(paths, _looking().state)
    if as_json:
        print_json({"configs": [asdict(entry) for entry in entries]})
        return
    print_table(
        ("config", "name", "type", "device model", "problems"),
        [
            tuple(map(printable, (entry.path, entry.name, entry.type, entry.device_model or entry.origin, problems)))
            for entry in entries
            for problems in ("; ".join(entry.problems) or "-",)
        ],
    )


@click.command("show", epilog=examples("xenqemu vm show my.cfg"))
@click.argument("config", type=_PATH)
@json_option
def show(config: Path, as_json: bool) -> None:
    """Show what the toolstack will make of CONFIG: type, device model, disks, network, screen, settings not known."""
    from xenqemu.vm.describe import describe, without_blanks
    from xenqemu.vm.guest import read_guest
    from xenqemu.vm.lint import lint_guest

    context = _looking()
    guest = read_guest(config)
    facts = describe(guest)
    report = lint_guest(guest, context.state, ask=False)
    if as_json:
        print_json({**facts, "findings": [asdict(finding) for finding in report.findings]})
        return
    tables = ("disks", "vifs", "files")
    print_facts(without_blanks({name: value for name, value in facts.items() if name not in tables}))
    _print_rows("disks", _DISK_COLUMNS, facts["disks"])
    _print_rows("network", _VIF_COLUMNS, facts["vifs"])
    _print_rows("files", ("key", "path", "problem"), facts["files"])
    click.echo("\nwhat is wrong with it, no device model asked:")
    _print_findings(report.findings)


@click.command("lint", epilog=examples("xenqemu vm lint my.cfg --dm dist/bin/qemu-system-xen --xen 4.20"))
@click.argument("configs", nargs=-1, required=True, type=_PATH, metavar="CONFIG...")
@click.option("--dm", type=_PATH, metavar="BINARY", help="Ask this device model instead of the config's own.")
@click.option(
    "--xen",
    default="",
    metavar="VERSION",
    shell_complete=complete.xens,
    help="The toolstack's Xen [the one that runs, else BINARY's].",
)
@click.option("--elsewhere", is_flag=True, help="CONFIG is for another machine: look for none of its files here.")
@json_option
def lint(configs: tuple[Path, ...], dm: Path | None, xen: str, elsewhere: bool, as_json: bool) -> int:
    """Say what the device model, or the Xen, will refuse of each CONFIG, before a guest finds out.

    The device model is started to be asked, without a guest. Ends with 7 when there is an error in a CONFIG.
    """
    from xenqemu.vm.binary import choose_binary
    from xenqemu.vm.lint import lint_config

    state = _looking(create=True).state
    binary = choose_binary(state, named=dm).path if dm else None
    reports = [lint_config(config, state, binary=binary, xen=xen, here=not elsewhere) for config in configs]
    _annotate(reports)
    if as_json:
        print_json({"configs": [{**asdict(report), "failed": report.failed} for report in reports]})
    else:
        for report in reports:
            model = report.device_model or f"none asked ({report.origin})"
            click.echo(printable(f"{report.path}: device model {model}, Xen {report.xen or 'of any version'}"))
            _print_findings(report.findings)
    return EXIT_VM_CONFIG if any(report.failed for report in reports) else EXIT_OK


def _looking(*, create: bool = False) -> Session:
    """Return the session of a command that changes no config; one that asks no device model keeps nothing either."""
    from xenqemu.vm.transaction import tell_unfinished

    context = session(create=create)
    tell_unfinished(context.state, context.ui)
    return context


def _print_rows(title: str, columns: tuple[str, ...], rows: list[Mapping[str, Any]]) -> None:
    if rows:
        click.echo(f"\n{title}:")
        print_table(columns, [[printable(row[column]) for column in columns] for row in rows])


def _annotate(reports: Sequence[LintReport]) -> None:
    """Have what was found shown beside the lines of the configs, in a job of GitHub Actions."""
    from xenqemu.results import annotation, inside, on_github

    if not on_github(os.environ):
        return
    for report in reports:
        file = inside(str(report.path), os.environ)
        for finding in report.findings:
            if finding.severity != "hint":
                text = f"{finding.message}\n{finding.hint}"
                click.echo(annotation(finding.severity, finding.rule, text, file, finding.line), err=True)


def _print_findings(findings: Sequence[Finding]) -> None:
    for finding in findings:
        place = f"line {finding.line}: " if finding.line else ""
        click.echo(f"{finding.severity}: {place}{printable(finding.message)} [{finding.rule}]")
        click.echo(f"  {printable(finding.hint)}")
    if not findings:
        click.echo("nothing to say")


COMMANDS: tuple[click.Command, ...] = (list_, show, lint)
