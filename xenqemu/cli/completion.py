"""`xenqemu completion`: what makes a shell complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from xenqemu.cli.help import examples

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    "completion",
    epilog=examples(
        'eval "$(xenqemu completion bash)"',
        "xenqemu completion bash > ~/.local/share/bash-completion/completions/xenqemu",
        "xenqemu completion zsh > ~/.zfunc/_xenqemu",
        "xenqemu completion fish > ~/.config/fish/completions/xenqemu.fish",
    ),
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options and the names that exist.

    Completed are profiles, lab cases, releases of QEMU and Xen, artifacts, topics of the series, guests with logs and
    VM configs. In bash and zsh, eval what is printed, or put it where the shell looks for completions.
    """
    click.echo(_SHELLS[shell](ctx.find_root().command, {}, "xenqemu", "_XENQEMU_COMPLETE").source())
