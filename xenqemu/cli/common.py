"""What the commands share: settings from options, the user interface that fits, results as JSON or as tables."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from xenqemu.archive.naming import names_packaged
from xenqemu.cli import complete
from xenqemu.settings import SETTINGS, Settings, Value, resolve
from xenqemu.source.model import QemuSource
from xenqemu.state import StateDir
from xenqemu.text import decodable
from xenqemu.ui import PlainUi, QuietUi, Ui

if TYPE_CHECKING:
    from xenqemu.build.model import Offload

F = TypeVar("F", bound=Callable[..., Any])
SETTING_HELP = {setting.name: setting.help for setting in SETTINGS}


@dataclass(frozen=True)
class Session:
    """What a command works with."""

    settings: Settings
    state: StateDir
    ui: Ui


def session(options: Mapping[str, Value] | None = None, *, create: bool = True, using: bool = True) -> Session:
    """Return the session for the current command; `options` are its own settings by name.

    The state directory is made (unless `create` is off) and in use until the command ends (unless `using` is off), so
    that nothing in it is pruned meanwhile.
    """
    current = click.get_current_context()
    root = current.find_root().obj or {}
    settings = resolve({"state-dir": root.get("state_dir") or None, **(options or {})})
    state, ui = StateDir(settings.state_dir), _ui(root)
    if create:
        state.create()
        if using:
            current.with_resource(state.using(ui))
    return Session(settings, state, ui)


def _ui(context: Mapping[str, bool]) -> Ui:
    if context.get("quiet"):
        return QuietUi()
    verbose = bool(context.get("verbose"))
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from xenqemu.rich_ui import RichUi, terminal

        return RichUi(terminal(stderr=True, colour=_colour(context)), verbose=verbose)
    return PlainUi(verbose=verbose)


def _colour(context: Mapping[str, bool]) -> bool:
    """Whether a terminal may have colours: NO_COLOR forbids them whatever its value, but for an empty one."""
    return not context.get("no_color") and not os.environ.get("NO_COLOR")


def source_options(function: F) -> F:
    """Give a command the options that name a QEMU."""
    for decorate in reversed(
        (
            click.option(
                "--qemu", metavar="SOURCE", shell_complete=complete.qemus, help=f"{SETTING_HELP['qemu']} [distro]"
            ),
            click.option("--dirty/--no-dirty", default=None, help=SETTING_HELP["dirty"]),
            click.option("--sha256", metavar="HEX", help="the tarball's SHA-256"),
            click.option("--signature", metavar="FILE", type=click.Path(path_type=Path), help="its detached signature"),
            click.option("--keyring", metavar="FILE", type=click.Path(path_type=Path), help="who may have signed it"),
            click.option("--refresh", is_flag=True, help="ask the archive for what it has now (--qemu distro)"),
        )
    ):
        function = decorate(function)
    return function


def parse_qemu(settings: Settings, options: Mapping[str, Any]) -> QemuSource:
    """Return the QEMU that the settings and the options of `source_options` name."""
    from xenqemu.source import parse_source

    return parse_source(
        settings.text("qemu"),
        dirty=settings.flag("dirty"),
        sha256=options.get("sha256"),
        signature=options.get("signature"),
        keyring=options.get("keyring"),
        refresh=bool(options.get("refresh")),
    )


class Words(click.ParamType[tuple[str, ...]]):
    """Words with commas between them."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the words of `value`."""
        words = value if isinstance(value, tuple) else tuple(word.strip() for word in str(value).split(","))
        if not all(words):
            self.fail(f"'{value}' has an empty place", param, ctx)
        return words


def matrix_options(*, qemu: str, boot: str, boot_default: str | None = None) -> Callable[[F], F]:
    """Give a command the options that span a matrix; `qemu` and `boot` are the help of those that differ in it."""

    def decorate(function: F) -> F:
        for name, parameter, completes, default, text in (
            ("--boot", "boot", complete.case_list, boot_default or (), boot),
            ("--profile", "profiles", complete.profile_list, "hvm", SETTING_HELP["profile"]),
            ("--xen", "xens", complete.xen_list, "system", "4.17,4.20, or as build takes it."),
            ("--qemu", "qemus", complete.release_list, None, qemu),
        ):
            function = click.option(
                name,
                parameter,
                metavar="LIST",
                type=Words(),
                shell_complete=completes,
                default=default,
                help=text,
            )(function)
        return function

    return decorate


class ConfigPath(click.Path):
    """The path of a VM config, or of what goes with one.

    What cannot be read is told of by the command, which goes on with the other files. An empty one would be the
    current folder to `Path`, and is what a shell makes of a variable that is not set.
    """

    def __init__(self) -> None:
        super().__init__(readable=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `value` as a path; an empty one is a usage error."""
        if value in ("", b""):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the VM configs here and in the usual folders, or what makes the shell complete a file."""
        return complete.configs(ctx, param, incomplete)


class DeviceModelName(click.Path):
    """A device model's file, or `distro`, `distro:4.17` for the one that the distribution of that Xen ships with it."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path, or the text of a name."""
        return value if isinstance(value, str) and names_packaged(value) else super().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the names of packaged ones, or what makes the shell complete a file."""
        return complete.device_models(ctx, param, incomplete)


device_model_option = click.option(
    "--dm",
    "device_model",
    metavar="BINARY",
    type=DeviceModelName(),
    help="The device model, or `distro`.  [the newest that was built]",
)
LAB_XEN_HELP = "4.17, 4.20, or a built Xen tree.  [the one that it is linked against]"
jobs_option = click.option("-j", "--jobs", metavar="N", type=click.IntRange(min=1), help=SETTING_HELP["jobs"])
cc_option = click.option("--cc", metavar="COMMAND", help=SETTING_HELP["cc"])
OFFLOAD = ("launcher", "remote_cache", "distribute", "hosts")


def offload_options(function: F) -> F:
    """Give a command the options that say who takes compiles off this machine's compiler."""
    for name, metavar in zip(reversed(OFFLOAD), ("LIST", "ENGINE", "URL", "NAME"), strict=True):
        setting = name.replace("_", "-")
        function = click.option(f"--{setting}", metavar=metavar, help=SETTING_HELP[setting])(function)
    return function


def offload(settings: Settings) -> Offload:
    """Return what the settings of `offload_options` say."""
    from xenqemu.build.model import Offload

    return Offload(
        launcher=settings.text("launcher"),
        remote_cache=settings.optional_text("remote-cache"),
        engine=settings.optional_text("distribute"),
        hosts=settings.optional_text("hosts"),
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def print_json(data: object) -> None:
    """Print `data` as JSON on stdout; paths and versions become text, with bytes that are no UTF-8 as escapes."""
    click.echo(json.dumps(_portable(data), indent=2))


def _portable(value: object) -> object:
    """Return `value` with nothing in it that a strict reader of JSON refuses, as lone surrogates are."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(_portable(name)): _portable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(inner) for inner in value]
    return decodable(value)


def print_facts(data: Mapping[str, Any], prefix: str = "") -> None:
    """Print nested `data` as lines `name: value` on stdout, inner names behind a dot."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            print_facts(value, f"{prefix}{name}.")
        else:
            click.echo(f"{prefix}{name}: {' '.join(value) if isinstance(value, list) else value}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout: drawn on a terminal, tab-separated into a pipe, where other tools read it."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(str(cell) for cell in row))
        return
    from rich.table import Table
    from rich.text import Text

    from xenqemu.rich_ui import terminal

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    terminal(stderr=False, colour=_colour(click.get_current_context().find_root().obj or {})).print(table)
