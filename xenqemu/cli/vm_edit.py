"""`xenqemu vm use` and `vm revert`."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
