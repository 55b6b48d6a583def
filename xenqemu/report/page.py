"""The page as HTML: one file that needs no other, and that a browser is told to load nothing for."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xenqemu.report.model import Page
from xenqemu.report.timeline import LANE, WIDTH
from xenqemu.text import printable

_STYLE, _SCRIPT = "style.css", "page.js"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("xenqemu.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )


def _clean(value: object) -> object:
    """Return text that HTML can have: no control characters, no bytes that are no UTF-8 (section 13.1.4, Text)."""
    return printable(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def render(page: Page) -> str:
    """Return `page` as HTML.

    Its policy (Content-Security-Policy) allows the style and the script in it by their hashes, pictures that are in it,
    and nothing else: whatever a log or a manifest brings along, no request leaves the page.
    """
    environment = _environment()
    style, script = (_resource(environment, name) for name in (_STYLE, _SCRIPT))
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; base-uri 'none'"
    return environment.get_template("page.html.j2").render(
        page=page,
        policy=policy,
        style=Markup(style),  # noqa: S704 - the project's own file
        script=Markup(script),  # noqa: S704 - the project's own file
        timeline_width=WIDTH,
        lane=LANE,
    )


def _resource(environment: Environment, name: str) -> str:
    assert environment.loader is not None  # noqa: S101 - it was given above
    return environment.loader.get_source(environment, name)[0].strip("\n") + "\n"


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
