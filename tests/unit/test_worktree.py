"""Out of the series into a work tree or an export, and back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.test_series import AT_10, two_topics
from tests.unit.trees import FILES, store_tree
from xenqemu.errors import PatchError, SourceError, UsageError
from xenqemu.gitstore import GitStore, blobs_digest
from xenqemu.series.apply import apply_series
from xenqemu.series.catalogue import load_series
from xenqemu.series.export import export_series
from xenqemu.series.model import PatchedTree, Series
from xenqemu.series.worktree import checkout_series, refresh_series
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi


def git(folder: Path, *words: str, stdin: str = "") -> str:
    identity = ("-c", "user.name=Dev", "-c", "user.email=dev@example.invalid", "-c", "core.editor=true")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *words], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return two_topics(tmp_path)


@pytest.fixture
def patched(series: Series, state: StateDir, quiet_ui: PlainUi) -> PatchedTree:
    return apply_series(series, store_tree(state, FILES), state, quiet_ui)


@pytest.fixture
def work_tree(patched: PatchedTree, state: StateDir, tmp_path: Path) -> Path:
    return checkout_series("patched", patched.commit, patched.version, tmp_path / "work", state)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_work_tree_has_a_commit_a_topic_and_is_clean(work_tree: Path) -> None:
    assert git(work_tree, "log", "--format=%s").splitlines() == ["vl: no v5", "meson: ten in words", "QEMU 10.2.2"]
    assert git(work_tree, "status", "--porcelain") == ""
    assert (work_tree / "meson.build").read_text() == AT_10


def test_nothing_is_put_over_a_folder_that_is_there(patched: PatchedTree, state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").touch()
    with pytest.raises(UsageError, match="there already"):
        checkout_series("patched", patched.commit, patched.version, tmp_path / "work", state)


def test_an_untouched_work_tree_changes_nothing(series: Series, work_tree: Path, state: StateDir) -> None:
    before = snapshot(series.folder)
    assert [result.action for result in refresh_series(series, work_tree, state)] == ["unchanged", "unchanged"]
    assert snapshot(series.folder) == before


def test_an_amended_commit_rewrites_its_topic_and_applies_again(
    series: Series, work_tree: Path, state: StateDir, quiet_ui: PlainUi
) -> None:
    (work_tree / "system/vl.c").write_text(FILES["system/vl.c"].replace("int v5;\nint v6;\n", ""))
    git(work_tree, "commit", "--quiet", "--all", "--amend", "--no-edit")
    results = refresh_series(series, work_tree, state)
    assert [(result.topic, result.action) for result in results] == [("010-a", "unchanged"), ("020-b", "rewritten")]
    assert results[1].also_for == ("7.2", "10.0")
    again = apply_series(load_series(series.folder), store_tree(state, FILES), state, quiet_ui)
    tree = GitStore.open(state).repo().git.rev_parse(f"{again.commit}^{{tree}}")
    assert tree == git(work_tree, "rev-parse", "HEAD^{tree}").strip()


def test_split_leaves_other_versions_what_they_had(
    series: Series, state: StateDir, tmp_path: Path, quiet_ui: PlainUi
) -> None:
    patched = apply_series(series, store_tree(state, FILES, "10.0.3"), state, quiet_ui)
    work = checkout_series("patched", patched.commit, patched.version, tmp_path / "middle", state)
    (work / "system/vl.c").write_text("int v1;\n")
    git(work, "commit", "--quiet", "--all", "--amend", "--no-edit")
    before = (series.folder / "020-b/7.2.patch").read_bytes()
    results = refresh_series(series, work, state, split=True)
    assert [(result.file, result.action) for result in results] == [
        ("010-a/7.2.patch", "unchanged"),
        ("020-b/10.0.patch", "rewritten"),
        ("020-b/10.2.patch", "kept"),
    ]
    assert (series.folder / "020-b/7.2.patch").read_bytes() == before
    assert (series.folder / "020-b/10.2.patch").read_bytes() == before
    assert (series.folder / "020-b/10.0.patch").read_bytes() != before


def test_commits_of_one_topic_become_one_patch(
    series: Series, work_tree: Path, state: StateDir, quiet_ui: PlainUi
) -> None:
    (work_tree / "meson.build").write_text(AT_10.replace("line 20\n", "line twenty\n"))
    git(work_tree, "commit", "--quiet", "--all", "-m", "more\n\nFor it.\n\nXenqemu-Topic: 020-b")
    assert [result.action for result in refresh_series(series, work_tree, state)] == ["unchanged", "rewritten"]
    again = apply_series(load_series(series.folder), store_tree(state, FILES), state, quiet_ui)
    tree = GitStore.open(state).repo().git.rev_parse(f"{again.commit}^{{tree}}")
    assert tree == git(work_tree, "rev-parse", "HEAD^{tree}").strip()


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("more\n\nFor it.\n\nXenqemu-Topic: 010-a", "010-a has commits that are apart"),
        ("more\n\nFor it.\n\nXenqemu-Topic: ../../x", "is no name for a topic"),
        ("more", "no description"),
    ],
)
def test_nothing_is_written_when_anything_is_wrong(
    message: str, complaint: str, series: Series, work_tree: Path, state: StateDir
) -> None:
    (work_tree / "system/vl.c").write_text("int v1;\n")
    git(work_tree, "commit", "--quiet", "--all", "--amend", "--no-edit")
    (work_tree / "meson.build").write_text("x\n")
    git(work_tree, "commit", "--quiet", "--all", "-m", message)
    before = snapshot(series.folder)
    with pytest.raises(PatchError, match=complaint):
        refresh_series(series, work_tree, state)
    assert snapshot(series.folder) == before


def test_files_that_git_does_not_know_are_named(series: Series, work_tree: Path, state: StateDir) -> None:
    (work_tree / "new.c").touch()
    with pytest.raises(UsageError, match=r"git does not know: new\.c"):
        refresh_series(series, work_tree, state, topic="010-a")


def test_uncommitted_changes_need_a_topic_and_go_into_it(
    series: Series, work_tree: Path, state: StateDir, quiet_ui: PlainUi
) -> None:
    (work_tree / "meson.build").write_text(AT_10.replace("line 20\n", "line twenty\n"))
    with pytest.raises(UsageError, match="not committed"):
        refresh_series(series, work_tree, state)
    with pytest.raises(UsageError, match="no topic 099-z"):
        refresh_series(series, work_tree, state, topic="099-z")
    head, status = git(work_tree, "rev-parse", "HEAD"), git(work_tree, "status", "--porcelain")
    results = refresh_series(series, work_tree, state, topic="010-a")
    assert [(result.topic, result.action) for result in results] == [("010-a", "rewritten"), ("020-b", "unchanged")]
    assert (git(work_tree, "rev-parse", "HEAD"), git(work_tree, "status", "--porcelain")) == (head, status)
    again = apply_series(load_series(series.folder), store_tree(state, FILES), state, quiet_ui)
    content = GitStore.open(state).repo().git.show(f"{again.commit}:meson.build")
    assert "line twenty" in content


def test_a_commit_without_a_topic_becomes_one_after_the_one_before_it(
    series: Series, work_tree: Path, state: StateDir, quiet_ui: PlainUi
) -> None:
    (work_tree / "meson.build").write_text(AT_10.replace("line 20\n", "line twenty\n"))
    git(work_tree, "commit", "--quiet", "--all", "-m", 'meson: "twenty" too\n\nBecause it reads better.')
    results = refresh_series(series, work_tree, state)
    assert [(result.topic, result.action) for result in results][2] == ("030-twenty-too", "new")
    changed = load_series(series.folder)
    assert [topic.name for topic in changed.topics] == ["010-a", "020-b", "030-twenty-too"]
    again = apply_series(changed, store_tree(state, FILES), state, quiet_ui)
    assert "twenty" in GitStore.open(state).repo().git.show(f"{again.commit}:meson.build")


def test_a_new_topic_in_the_middle_is_listed_there(series: Series, work_tree: Path, state: StateDir) -> None:
    git(work_tree, "reset", "--quiet", "--hard", "HEAD~1")
    (work_tree / "meson.build").write_text(AT_10.replace("line 20\n", "line twenty\n"))
    git(work_tree, "commit", "--quiet", "--all", "-m", "meson: twenty\n\nBecause it reads better.")
    results = refresh_series(series, work_tree, state)
    assert [(result.topic, result.action) for result in results] == [
        ("010-a", "unchanged"),
        ("015-twenty", "new"),
        ("020-b", "missing"),
    ]
    assert [topic.name for topic in load_series(series.folder).topics] == ["010-a", "015-twenty", "020-b"]


def test_changes_that_conflict_with_a_later_topic_are_refused(series: Series, work_tree: Path, state: StateDir) -> None:
    (work_tree / "system/vl.c").write_text(FILES["system/vl.c"].replace("int v4;\nint v5;\n", "int v45;\n"))
    with pytest.raises(PatchError, match="do not fit topic 010-a"):
        refresh_series(series, work_tree, state, topic="010-a")


def test_what_is_no_work_tree_of_the_series_is_refused(
    series: Series, work_tree: Path, state: StateDir, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(SourceError, match="no git work tree"):
        refresh_series(series, tmp_path / "plain", state)
    git(tmp_path / "plain", "init", "--quiet")
    git(tmp_path / "plain", "commit", "--quiet", "--allow-empty", "-m", "something")
    with pytest.raises(SourceError, match="no commit of a pristine QEMU"):
        refresh_series(series, tmp_path / "plain", state)
    (work_tree / ".git" / "rebase-merge").mkdir()
    with pytest.raises(SourceError, match="rebase-merge"):
        refresh_series(series, work_tree, state)


def test_generated_files_go_their_own_way(
    series: Series, patched: PatchedTree, state: StateDir, tmp_path: Path
) -> None:
    store = GitStore.open(state)
    with store.index(patched.commit) as index:
        blob = index.add("configs/t.mak", b"A=1\n")
        message = f"Add target\n\nRendered.\n\nXenqemu-Generated: {blobs_digest({'configs/t.mak': blob})}"
        commit = store.commit(index.write_tree(), patched.commit, message)
    store.keep(commit, "target")
    work = checkout_series("target", commit, patched.version, tmp_path / "work", state)
    assert [result.action for result in refresh_series(series, work, state)] == ["unchanged", "unchanged"]
    (work / "configs/t.mak").write_text("A=2\n")
    git(work, "commit", "--quiet", "--all", "--amend", "--no-edit")
    with pytest.raises(PatchError, match="generated files was changed"):
        refresh_series(series, work, state)


def test_an_export_applies_with_git_am_and_lists_itself_for_quilt(
    patched: PatchedTree, state: StateDir, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    paths = export_series(patched.base, patched.commit, folder, state)
    assert (folder / "series").read_text().splitlines() == [path.name for path in paths]
    assert [path.name for path in paths] == ["0001-meson-ten-in-words.patch", "0002-vl-no-v5.patch"]
    work = tmp_path / "upstream"
    for path, text in FILES.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    git(work, "init", "--quiet")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", "upstream")
    git(work, "am", "--quiet", *map(str, paths))
    tree = GitStore.open(state).repo().git.rev_parse(f"{patched.commit}^{{tree}}")
    assert git(work, "rev-parse", "HEAD^{tree}").strip() == tree


def test_an_export_replaces_an_earlier_one_and_nothing_else(
    patched: PatchedTree, state: StateDir, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    export_series(patched.base, patched.commit, folder, state)
    (folder / "README").touch()
    export_series(patched.base, patched.patches[0].commit, folder, state)
    assert sorted(path.name for path in folder.iterdir()) == [
        *(".xenqemu-export", "0001-meson-ten-in-words.patch", "README", "series")
    ]


def test_a_distributions_own_patches_are_safe(patched: PatchedTree, state: StateDir, tmp_path: Path) -> None:
    folder = tmp_path / "debian/patches"
    folder.mkdir(parents=True)
    (folder / "series").write_text("my-fix.patch\n")
    (folder / "my-fix.patch").write_text("fix\n")
    before = snapshot(folder)
    with pytest.raises(UsageError, match="something else"):
        export_series(patched.base, patched.commit, folder, state)
    assert snapshot(folder) == before


def test_places_that_cannot_be_written_are_named(patched: PatchedTree, state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        export_series(patched.base, patched.commit, tmp_path / "file/x", state)
    with pytest.raises(UsageError, match="cannot be written: "):
        checkout_series("patched", patched.commit, patched.version, tmp_path / "file/x", state)
