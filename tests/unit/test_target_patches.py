"""The patches that are delivered: their form, and the rules for what may be in them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from unidiff.patch import PatchSet

from xenqemu.resources import data_dir

PATCHES = data_dir("patches")
SERIES = tomllib.loads((PATCHES / "series.toml").read_text())
FILES = sorted(PATCHES.glob("*/*.patch"))


def test_folders_are_the_topics_in_order() -> None:
    names = [topic["name"] for topic in SERIES["topic"]]
    assert names == sorted(path.name for path in PATCHES.iterdir() if path.is_dir())


@pytest.mark.parametrize("topic", SERIES["topic"], ids=lambda topic: topic["name"])
def test_a_file_for_every_supported_version(topic: dict[str, str]) -> None:
    files = [Version(path.stem) for path in (PATCHES / topic["name"]).glob("*.patch")]
    needed = [v for v in map(Version, SERIES["versions"]["supported"]) if v in SpecifierSet(topic.get("versions", ""))]
    assert needed
    assert all(any(file <= version for file in files) for version in needed)
    used = {max(file for file in files if file <= version) for version in needed}
    assert used == set(files)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_form(path: Path) -> None:
    text = path.read_text()
    head, _, rest = text.partition("\n---\n")
    subject, blank, *body = head.split("\n")
    assert subject.startswith("Subject: ")
    assert len(subject) <= 80
    assert blank == ""
    assert "Toolstack:" in head
    assert all(len(line) <= 80 for line in body)
    diff = PatchSet(rest[rest.index("diff --git ") :])
    for file in diff:
        assert not file.is_added_file, "new files belong into targets/"
        assert not file.is_removed_file
        assert f" {file.path} " in rest.partition("diff --git ")[0], "the diffstat names every file"
        assert file.added <= 30
