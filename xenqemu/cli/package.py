"""`xenqemu package`: a build as something that package managers, or tar, put on other machines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xenqemu.cli import complete
from xenqemu.cli.common import json_option, print_json, session
from xenqemu.cli.help import CommandGroup, examples

if TYPE_CHECKING:
    from xenqemu.package import Build, Packaged, PackageRequest
    from xenqemu.state import StateDir

F = TypeVar("F", bound=Callable[..., Any])
_FOLDER = click.Path(file_okay=False, path_type=Path)


def _package_options(function: F) -> F:
    for decorate in reversed(
        (
            click.option(
                "--from",
                "folder",
                metavar="DIR",
                type=_FOLDER,
                help="What `build --out` was given.  [./dist, else the newest artifact]",
            ),
            click.option(
                "--artifact",
                metavar="KEY",
                shell_complete=complete.artifacts,
                help="An artifact of the state directory, instead.",
            ),
            click.option("--out", metavar="DIR", type=_FOLDER, default=".", show_default=True, help="Where it goes."),
            click.option("--name", metavar="NAME", default="", help="The package's.  [xenqemu-system-xen[-PROFILE]]"),
            click.option("--revision", metavar="TEXT", default="1", show_default=True, help="Of this QEMU's package."),
            json_option,
        )
    ):
        function = decorate(function)
    return function


@click.group("package", cls=CommandGroup, epilog=examples("xenqemu package tar", "xenqemu package deb --out packages"))
def command() -> None:
    """Make a package of a build; the same build gives the same bytes. SOURCE_DATE_EPOCH sets the date of its files."""


@command.command("tar", epilog=examples("xenqemu package tar", "xenqemu package tar --from dist --out packages"))
@_package_options
def tar(as_json: bool, folder: Path | None, artifact: str | None, **options: Any) -> None:
    """Write a tarball (.tar.xz) that can be unpacked anywhere."""
    from xenqemu.package import package_tar

    context = session()
    build, request = _planned(context.state, folder, artifact, options)
    _print((package_tar(build, request, context.ui),), as_json=as_json)


@command.command(
    "deb",
    epilog=examples(
        "xenqemu package deb --maintainer 'Ann Other <ann@example.org>'",
        "xenqemu package deb --from dist --revision 2 --out packages",
    ),
)
@_package_options
@click.option("--maintainer", metavar="TEXT", help="Who answers for it: 'Name <address>'.  [DEBFULLNAME, DEBEMAIL]")
def deb(as_json: bool, folder: Path | None, artifact: str | None, maintainer: str | None, **options: Any) -> None:
    """Write a Debian package, which is installed beside the distribution's device model and not over it."""
    from xenqemu.package import package_deb

    context = session()
    if maintainer is None and os.environ.get("DEBEMAIL"):
        maintainer = f"{os.environ.get('DEBFULLNAME', '')} <{os.environ['DEBEMAIL']}>".strip()
    build, request = _planned(context.state, folder, artifact, {**options, "maintainer": maintainer or ""})
    _print(package_deb(build, request, context.state, context.ui), as_json=as_json)


def _planned(
    state: StateDir, folder: Path | None, artifact: str | None, options: dict[str, Any]
) -> tuple[Build, PackageRequest]:
    from xenqemu.package import PackageRequest, find_build
    from xenqemu.package.built import source_date

    if folder is not None and artifact is not None:
        raise click.UsageError("--from goes without --artifact")
    build = find_build(state, folder=folder, key=artifact)
    return build, PackageRequest(date=source_date(build), **options)


def _print(made: tuple[Packaged, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({"packages": [one.as_dict() for one in made]})
    else:
        for one in made:
            click.echo(one.path)
