"""`xenqemu lab boot` and `lab cases`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from xenqemu.cli import complete
from xenqemu.cli.common import LAB_XEN_HELP, ConfigPath, DeviceModelName, json_option, print_json, print_table, session
from xenqemu.cli.help import examples, suggest
from xenqemu.cli.lab_options import host_options
from xenqemu.cli.reporting import report_options, reporting
from xenqemu.errors import EXIT_LAB, EXIT_OK
from xenqemu.ui import Ui

F = TypeVar("F", bound=Callable[..., Any])


def _boot_options(function: F) -> F:
    for decorate in reversed(
        (
            click.option(
                "--dm",
                "device_model",
                metavar="BINARY",
                type=DeviceModelName(),
                help="The device model, or `distro`.  [what the config names, else the newest that was built]",
            ),
            click.option(
                "--xen",
                metavar="XEN",
                shell_complete=complete.xens,
                help=LAB_XEN_HELP,
            ),
            click.option("--timeout", metavar="S", type=click.FloatRange(1), help="Seconds for each guest."),
            click.option("--show-console", is_flag=True, help="Show on stderr what the guests write."),
            click.option("--keep", is_flag=True, help="Leave guests running, and the host up until Ctrl-C."),
            host_options,
            report_options,
            json_option,
        )
    ):
        function = decorate(function)
    return function


@click.command(
    "boot",
    epilog=examples(
        "xenqemu lab boot my.cfg --screenshot screen.png",
        'xenqemu lab boot my.cfg --dm dist/bin/qemu-system-xen --xen 4.20 --expect "login:" --json',
    ),
)
@click.argument("configs", metavar="CONFIG...", nargs=-1, required=True, type=ConfigPath())
@click.option("--expect", metavar="REGEX", default="", help="What a guest has to write, as the only sign.")
@click.option("--screenshot", metavar="FILE.png", type=click.Path(dir_okay=False, path_type=Path), help="A picture.")
@click.option("--write", "writable", is_flag=True, help="Let guests write to their disks.  [writes are thrown away]")
@_boot_options
def boot(
    configs: tuple[Path, ...],
    as_json: bool,
    show_console: bool,
    keep: bool,
    junit: Path | None,
    summary: Path | None,
    **options: Any,
) -> int:
    """Boot each xl.cfg in a virtual Xen host, and say by what sign it has booted or why it has not."""
    from xenqemu.boot_pipeline import BootRequest, boot_configs, find_device_model

    context = session()
    with reporting("lab boot", junit, summary) as tell:
        options["device_model"] = find_device_model(options["device_model"], options["xen"], context.state, context.ui)
        request = BootRequest(heard=_console if show_console else None, keep=keep, **options)
        with boot_configs(configs, request, context.state, context.ui) as booted:
            tell(booted.report.results({}))
            return _report(booted, {}, context.ui, as_json=as_json, keep=keep)


@click.command(
    "cases",
    epilog=examples(
        "xenqemu lab cases",
        "xenqemu lab cases boot-sector sound --dm distro",
        "xenqemu lab cases boot-sector --save guests",
    ),
)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete.cases)
@click.option("--list", "list_only", is_flag=True, help="List the cases.")
@click.option(
    "--save", metavar="DIR", type=click.Path(path_type=Path), help="Write their configs and files, and boot nothing."
)
@_boot_options
def cases(
    names: tuple[str, ...],
    list_only: bool,
    save: Path | None,
    as_json: bool,
    show_console: bool,
    keep: bool,
    junit: Path | None,
    summary: Path | None,
    **options: Any,
) -> int:
    """Boot the lab's own guests: the basic ones, or those called NAME, which can be a group's."""
    from xenqemu.boot_pipeline import BootRequest, boot_cases, find_device_model, save_cases
    from xenqemu.lab.cases import BASIC, find_cases, load_cases

    chosen = find_cases(names or (BASIC,)) if names or not list_only else load_cases()
    if list_only:
        if as_json:
            print_json(
                {
                    "cases": [
                        {"name": case.name, "group": case.group, "summary": case.summary, "boots": case.boots}
                        for case in chosen
                    ]
                }
            )
        else:
            print_table(("case", "group", "what it tries"), [(case.name, case.group, case.summary) for case in chosen])
        return EXIT_OK
    context = session()
    if save is not None:
        saved = save_cases(chosen, save, options["xen"], context.state, context.ui)
        if as_json:
            print_json({"saved": saved})
        else:
            click.echo("\n".join(map(str, saved)))
        return EXIT_OK
    with reporting("lab cases", junit, summary) as tell:
        options["device_model"] = find_device_model(options["device_model"], options["xen"], context.state, context.ui)
        request = BootRequest(heard=_console if show_console else None, keep=keep, **options)
        with boot_cases(chosen, request, context.state, context.ui) as booted:
            fails = {case.name: case.fails for case in chosen if not case.boots}
            tell(booted.report.results(fails))
            return _report(booted, fails, context.ui, as_json=as_json, keep=keep)


def _console(text: str) -> None:
    click.echo(text, err=True, nl=False)


def _report(booted: Any, fails: dict[str, str], ui: Ui, *, as_json: bool, keep: bool) -> int:
    """Print what came of a run, keep its host if that is wanted, and return the exit code."""
    from xenqemu.lab.result import Report
    from xenqemu.lab.viewed import table as figures_table

    report: Report = booted.report
    ok = report.as_wanted(fails)
    if as_json:
        print_json(report.as_dict())
    elif len(report.guests) == 1 and report.ok:
        click.echo(report.sentence)
    else:
        print_table(*report.table(fails))
    for guest in report.guests if not as_json else ():
        if guest.figures:
            click.echo(f"\n{guest.name}:")
            print_table(*figures_table(guest.figures))
    for guest in report.guests:
        if guest.name not in fails and not guest.booted:
            ui.warn(f"{guest.name or guest.config}: {guest.reason}")
            for sentence in filter(None, (guest.cause, guest.remedy)):
                ui.note(f"  {sentence}")
            for line in guest.log:
                ui.note(f"  {line}")
    if not ok:
        ui.note(f"logs: {report.run}")
        suggest(ui, f"`xenqemu explain {report.run}` says all that they tell")
    elif not as_json and not keep:
        suggest(
            ui, "`xl create` on a Xen host starts it the same way; `xenqemu contract run` tries all that xl can ask for"
        )
    if keep and booted.host is not None:
        _hold(booted.host, ui)
    return EXIT_OK if ok else EXIT_LAB


def _hold(host: Any, ui: Ui) -> None:
    """Keep the host: with a dom0 prompt on a terminal, else until Ctrl-C."""
    from xenqemu.lab.shell import attach_terminal

    with suppress(KeyboardInterrupt):
        if sys.stdin.isatty() and sys.stdout.isatty():
            ui.note("the guests stay up: this is dom0, `xl list` shows them, `exit` or Ctrl-] ends the host")
            attach_terminal(host, sys.stdin.fileno(), sys.stdout.fileno())
        else:
            ui.note("the guests stay up until Ctrl-C")
            signal.pause()


COMMANDS: tuple[click.Command, ...] = (boot, cases)
