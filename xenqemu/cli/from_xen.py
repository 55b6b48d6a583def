"""`xenqemu from-xen`: what the scripts of a subproject's folder call; see `xenqemu.cli.subproject`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xenqemu.cli.common import Session, jobs_option, offload, session

if TYPE_CHECKING:
    from xenqemu.build.model import BuildOptions


@click.group("from-xen", hidden=True)
def command() -> None:
    """Do what Xen's build asks of a subproject."""


@command.command("configure")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def _configure(source: Path, words: tuple[str, ...]) -> None:
    """Configure the subproject SOURCE in the current folder with the flags WORDS of QEMU's configure."""
    from xenqemu.subproject.folder import read_subproject
    from xenqemu.subproject_pipeline import configure

    context = session({})
    configure(source, words, read_subproject(source), _options(context), context.state, context.ui)


@command.command("make")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--install", metavar="DESTDIR", type=click.Path(path_type=Path))
@jobs_option
def _make(folder: Path, install: Path | None, jobs: int | None) -> None:
    """Build what FOLDER was configured for, and install it below DESTDIR."""
    from xenqemu.subproject_pipeline import make

    context = session({"jobs": jobs})
    program = make(folder, _options(context), context.state, context.ui, install)
    if program is not None:
        click.echo(program)


def _options(context: Session) -> BuildOptions:
    from xenqemu.build.model import BuildOptions

    settings = context.settings
    return BuildOptions(
        jobs=settings.number("jobs"),
        debug_info=settings.flag("debug-info"),
        cc=settings.optional_text("cc"),
        offload=offload(settings),
    )
