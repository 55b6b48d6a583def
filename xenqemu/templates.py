"""Jinja2 for text that is no HTML: scripts, makefiles, Markdown, YAML, troff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def text_environment(source: str | Path, **options: Any) -> Environment:
    """Return an environment for the templates in `templates/` of the package `source`, or in the folder `source`.

    Nothing is escaped: what goes in has to come quoted for where it stands. A name that is not given is an error, and a
    line with nothing but a statement leaves nothing behind. `options` are further ones of `jinja2.Environment`.
    """
    from jinja2 import Environment, FileSystemLoader, PackageLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(source) if isinstance(source, Path) else PackageLoader(source),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (no HTML)
        **options,
    )
