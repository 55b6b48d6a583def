"""The reference of the documentation: pages that are made of what they describe, so that they cannot differ from it."""

from __future__ import annotations

from collections.abc import Mapping

import click

from xenqemu.manual.commands import command_tree, every_command
from xenqemu.profile_pipeline import contents_of
from xenqemu.settings import SETTINGS
from xenqemu.target.profile import list_profiles, load_profile
from xenqemu.templates import text_environment


def reference(root: click.Command) -> Mapping[str, str]:
    """Return Markdown pages about every command of `root`, every setting and every profile, by their file names."""
    environment = text_environment("xenqemu.manual")
    environment.filters["cell"] = cell
    profiles = [contents_of(load_profile(name), None) for name in list_profiles()]
    values: dict[str, dict[str, object]] = {
        "commands": {"commands": tuple(every_command(command_tree(root)))},
        "settings": {"settings": SETTINGS},
        "device-profiles": {"profiles": profiles},
    }
    return {f"{name}.md": environment.get_template(f"{name}.md.j2").render(**given) for name, given in values.items()}


def cell(text: object) -> str:
    """Return `text` so that it stays within a cell of a table, with nothing in it that would be HTML."""
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
