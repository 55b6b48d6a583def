"""What mkdocs.yml leaves to a program: reference pages, pages from the top folder, links to files of the source."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from posixpath import join, normpath
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

_TOP = ("CHANGELOG.md", "CONTRIBUTING.md")
_LINK = re.compile(r"\[([^\]\[]+)\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    from xenqemu.cli.main import cli
    from xenqemu.manual.reference import reference

    for name in _TOP:
        files.append(File.generated(config, name, content=(_ROOT / name).read_text(encoding="utf-8")))
    for name, text in reference(cli).items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make links to files of the source, which the site does not have, the names of those files.

    A link to what is not there at all stays as it is: `mkdocs build --strict` ends with it.
    """
    here = "" if page.file.src_uri in _TOP else "docs"

    def site(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = normpath(join(here, target))
        known = next((name for name in (path.removeprefix("docs/"), path) if files.get_file_from_path(name)), None)
        if known is not None:
            return f"[{text}]({known}{anchor})"
        if path == "README.md":
            return f"[{text}](index.md)"
        if (_ROOT / path).exists():
            return text if text.startswith("`") else f"`{text}`"
        return match[0]

    return _LINK.sub(site, markdown)
