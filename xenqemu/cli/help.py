"""What makes the commands easy to learn: examples in every help, and the nearest name for a misspelt one."""

from __future__ import annotations

import difflib

import click

from xenqemu.errors import UsageError
from xenqemu.ui import Ui


def examples(*lines: str) -> str:
    """Return the epilog of a command's help with `lines` as examples."""
    # click keeps the lines of a paragraph that begins with this.
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def example_lines(command: click.Command) -> tuple[str, ...]:
    """Return the examples of `command`, none where its help has none."""
    head, _, rest = (command.epilog or "").partition("Examples:\n")
    return tuple(line.strip() for line in rest.split("\n\n")[0].splitlines()) if rest and head.strip() == "\b" else ()


def suggest(ui: Ui, *steps: str) -> None:
    """Tell what can be done next."""
    ui.note(f"next: {'; '.join(steps)}")


class CommandGroup(click.Group):
    """A group of commands that names the nearest one for a name that is none of them."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` begin with. Raises `UsageError` when there is none of that name."""
        name = args[0]
        # click itself tells of an option here, and of nothing at all while a shell completes.
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        known = self.list_commands(ctx)
        close = difflib.get_close_matches(name, known, n=3)
        path = ctx.command_path
        likely = f"did you mean {' or '.join(f'`{path} {one}`' for one in close)}?" if close else ""
        raise UsageError(
            f"there is no command `{path} {name}`",
            likely or f"there is: {', '.join(known)}; `{path} --help` says what each does",
        )
