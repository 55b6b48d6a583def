"""`xenqemu lab prepare` and `lab shell`."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
