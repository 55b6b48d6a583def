"""`xenqemu vm list`, `vm show` and `vm lint`."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
