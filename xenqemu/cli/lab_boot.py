"""`xenqemu lab boot` and `lab cases`."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
