"""The entry point: finds the command, and turns every outcome into a message and an exit code in one place."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import click

import xenqemu
from xenqemu.cli.help import CommandGroup, examples
from xenqemu.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, MissingError, XenqemuError, is_disk_full

# Each command's module is imported when it is called, which keeps `--help` and a build with nothing to do quick.
_COMMANDS = {
    "build": ("build", "Build qemu-system-xen from an upstream QEMU and a Xen."),
    "matrix": ("matrix", "Build, and boot, every combination of QEMUs, Xens and profiles."),
    "vm": ("vm", "Point VM configs at a device model; list, show, check and revert them."),
    "stubdom": ("stubdom", "Make Linux stub domains: a device model in a domain of its own."),
    "lab": ("lab", "Boot real guests under a real Xen, in an emulated host."),
    "explain": ("explain", "Say why a guest did not start or boot, from the logs of xl and the device model."),
    "contract": ("contract", "List what xl can ask a device model for, and check one against it."),
    "ci": ("ci", "Write pipelines for CI systems."),
    "package": ("package", "Make a Debian package or a tarball of a build."),
    "patches": ("patches", "List, check, export and maintain the patch series."),
    "xen": ("xen", "Look at a Xen that a device model can be built against."),
    "bench": ("bench", "Measure builds and device models beside others: time, size, memory, instructions."),
    "report": ("report", "Write a page about a build: what went in, what came out, what came of it."),
    "profile": ("profile", "List and show device profiles."),
    "cache": ("cache", "List and prune what is kept in the state directory."),
    "doctor": ("doctor", "Check what this machine has and lacks for a build."),
    "config": ("config", "Show the settings and where each comes from."),
    "subproject": ("subproject", "Make a folder that Xen's own build takes for a QEMU source."),
    "completion": ("completion", "Make bash, zsh or fish complete commands, options and names."),
    "man": ("man", "Write the manual pages."),
}
# What only scripts call that xenqemu has written: not listed.
_INNER = {"from-xen": ("from_xen", "Configure, build and install for Xen's build.")}


class _LazyGroup(CommandGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = (_COMMANDS | _INNER).get(cmd_name)
        if known is None:
            return None
        module = importlib.import_module(f"xenqemu.cli.{known[0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("xenqemu doctor", "xenqemu build", "xenqemu vm use my.cfg", "xenqemu lab boot my.cfg")
    + "\n\nExit codes: 0 done, 1 bug, 2 usage, 3 source, 4 patch, 5 missing, 6 build, 7 VM config, 8 lab, "
    "130 interrupted.",
)
@click.version_option(xenqemu.__version__, prog_name="xenqemu")
@click.option("--state-dir", metavar="DIR", help="Where xenqemu keeps sources, trees and artifacts.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
@click.option("-v", "--verbose", is_flag=True, help="Show details.")
@click.option("-q", "--quiet", is_flag=True, help="Show warnings and results only.")
@click.option("--no-color", is_flag=True, help="No colours on a terminal, as with NO_COLOR in the environment.")
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Build a lean Xen device model, qemu-system-xen, from an upstream QEMU."""
    ctx.obj = options


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with one of the codes of `xenqemu.errors`."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    for name in ("stdout", "stderr"):  # closed by the caller: Python has None for them
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (for as long as the process lives)
    try:
        result = cli.main(arguments, prog_name="xenqemu", standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return _fail(arguments, EXIT_INTERRUPTED, "interrupted", "run the same command again: it goes on from there")
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        return _fail(arguments, EXIT_USAGE, error.format_message(), context.get_usage() if context else "")
    except XenqemuError as error:
        return _fail(arguments, error.exit_code, error.message, error.hint)
    except (BrokenPipeError, SystemExit):
        # The reader of our output has gone, as `| head` does; click makes SystemExit of it, and of nothing else here.
        # Python would complain once more on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        if is_disk_full(error):
            where = error.filename or "in the state directory, or where the output goes"
            full = MissingError(f"no space left: {where}", "free some, or choose another place with --state-dir")
            return _fail(arguments, full.exit_code, full.message, full.hint)
        return _bug(arguments, error)
    except Exception as error:  # the last resort: whatever comes here is our bug
        return _bug(arguments, error)
    return result if isinstance(result, int) else EXIT_OK


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A build that is asked to end (a CI job that is cancelled) stops as it does for Ctrl-C, and can go on later.
    raise KeyboardInterrupt


def _bug(arguments: list[str], error: Exception) -> int:
    if "--debug" in arguments:
        traceback.print_exception(error)
    hint = "this is a bug in xenqemu; run again as `xenqemu --debug ...` for the traceback and report it"
    return _fail(arguments, EXIT_BUG, f"{type(error).__name__}: {error}", hint)


def _annotate(code: int, message: str, hint: str) -> None:
    """Have the error shown on the page of a job of GitHub Actions, where this is one."""
    from xenqemu.results import annotation, on_github

    if on_github(os.environ):
        text = "\n".join(filter(None, (message, hint)))
        sys.stderr.write(annotation("error", f"xenqemu, exit code {code}", text) + "\n")


def _fail(arguments: list[str], code: int, message: str, hint: str) -> int:
    with contextlib.suppress(OSError):  # nobody reads, or the disk is full: the exit code tells all the same
        sys.stderr.write(f"xenqemu: {message}\n")
        if hint:
            sys.stderr.write(f"  {hint}\n")
        _annotate(code, message, hint)
    if "--json" in arguments:
        text = json.dumps({"error": {"exit_code": code, "message": message, "hint": hint}}) + "\n"
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:  # Python would try once more on exit, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
