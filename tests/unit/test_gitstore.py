"""The object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.trees import FILES, store_tree
from xenqemu.gitstore import GitStore, blobs_digest
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi


def test_a_checkout_has_the_files_with_their_modes_and_is_made_once(state: StateDir, quiet_ui: PlainUi) -> None:
    tree = store_tree(state, {**FILES, ".gitattributes": "* text eol=crlf ident\n", "id.txt": "$Id$\n"})
    store = GitStore.open(state)
    with store.index(tree.tree) as index:
        index.add("configure", b"#!/bin/sh\n", executable=True)
        commit = store.commit(index.write_tree(), None, "QEMU 10.2.2")
    path = store.checkout(commit, quiet_ui)
    assert path == state.trees / commit
    assert (path / "configure").stat().st_mode & 0o111
    assert not (path / "meson.build").stat().st_mode & 0o111
    assert (path / "id.txt").read_bytes() == b"$Id$\n"
    assert not (path / ".git").exists()
    before = path.stat().st_ino
    assert store.checkout(commit, quiet_ui) == path
    assert path.stat().st_ino == before


def test_objects_are_known_and_kept(state: StateDir) -> None:
    tree = store_tree(state, FILES)
    store = GitStore.open(state)
    commit = store.commit(tree.tree, None, "QEMU 10.2.2")
    assert store.has(commit)
    assert not store.has("0" * 40)
    store.keep(commit, "patched")
    assert (state.git / "refs/xenqemu/patched" / commit).read_text().strip() == commit


def test_commits_depend_on_content_alone(state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = GitStore.open(state).commit(store_tree(state, FILES).tree, None, "QEMU 10.2.2")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Somebody")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    other = StateDir(tmp_path / "other").create()
    assert GitStore.open(other).commit(store_tree(other, FILES).tree, None, "QEMU 10.2.2") == first


def test_files_are_read_from_the_index(state: StateDir) -> None:
    with GitStore.open(state).index(store_tree(state, FILES).tree) as index:
        assert index.read("meson.build") == FILES["meson.build"]
        assert index.read("nothing") is None


def test_the_digest_of_blobs_depends_on_paths_and_ids_but_not_on_order() -> None:
    assert blobs_digest({"a": "1", "b": "2"}) == blobs_digest({"b": "2", "a": "1"})
    assert blobs_digest({"a": "1"}) != blobs_digest({"a": "2"}) != blobs_digest({"b": "2"})
