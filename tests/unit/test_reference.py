"""The reference of the documentation, and what is written by hand beside it."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from xenqemu import errors
from xenqemu.cli.main import cli
from xenqemu.manual.commands import command_tree, every_command
from xenqemu.manual.reference import cell, reference
from xenqemu.settings import SETTINGS
from xenqemu.target.profile import list_profiles

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_command_and_option_is_there() -> None:
    page = reference(cli)["commands.md"]
    for command in every_command(command_tree(cli)):
        section = page.partition(f"\n## {' '.join(command.words)}\n")[2].partition("\n## ")[0]
        assert command.usage in section
        for names, about in command.options:
            assert f"| `{cell(names)}` | {cell(about)} |" in section
        assert all(line in section for line in command.examples)


def test_what_only_scripts_call_is_not_there() -> None:
    assert "from-xen" not in reference(cli)["commands.md"]


def test_every_setting_and_profile_is_there() -> None:
    pages = reference(cli)
    for setting in SETTINGS:
        assert f"| `{setting.name}` | `{setting.variable}` |" in pages["settings.md"]
    for name in list_profiles():
        assert f"\n## {name}\n" in pages["device-profiles.md"]
    assert "xen-platform" in pages["device-profiles.md"]


def test_tables_are_tables() -> None:
    for text in reference(cli).values():
        kinds = [token.type for token in MarkdownIt("commonmark").enable("table").parse(text)]
        assert kinds.count("table_open") == len(re.findall(r"^\| --- \|", text, re.MULTILINE))
        assert "html_block" not in kinds


@given(st.text())
def test_a_cell_stays_one(text: str) -> None:
    row = f"| a | {cell(text)} |"
    tokens = MarkdownIt("commonmark").enable("table").parse(f"| x | y |\n| --- | --- |\n{row}\n")
    assert sum(token.type == "td_open" for token in tokens) == 2


def test_exit_codes_are_those_of_the_page() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)}
    assert told == {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
