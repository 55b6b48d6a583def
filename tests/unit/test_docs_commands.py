"""Every command of README and docs is one: with options that there are, and targets that the Makefile has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.unit.commandlines import calls, check_calls

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.name: path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# In Xen's own tree.
XENS_TARGETS = {"dist-xen", "dist-tools", "subdir-all-qemu-xen-dir", "subdir-install-qemu-xen-dir"}


def commands(page: Path) -> list[str]:
    """Return the lines of the page that somebody is to type, without comments."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s+#\s.*", "", line) for line in lines]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_commands_of_a_page(name: str) -> None:
    for line in commands(PAGES[name]):
        check_calls(line)
        words = shlex.split(line)
        if words[0] == "make":
            named = {word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]+", word)} - {"xenqemu", "tools"}
            assert named <= TARGETS | XENS_TARGETS, line


def test_pages_have_commands() -> None:
    assert sum(bool(calls(line)) for page in PAGES.values() for line in commands(page)) > 50


def test_a_wrong_one_is_found() -> None:
    for line in ("xenqemu bild", "true && xenqemu build --frobs", "xenqemu vm use --dm"):
        with pytest.raises(Exception, match=r"bild|frobs|--dm"):
            check_calls(line)
