"""Git checkouts: what is taken, what is refused, and that nothing in them changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.fake_qemu import GIT_ENV, git, write_checkout
from tests.unit.test_source_forms import listing, obtained
from xenqemu.errors import MissingError, SourceError
from xenqemu.source import obtain, parse_source
from xenqemu.source.gitio import GitRepo, reading, user_env
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    write_checkout(tmp_path / "checkout")
    return tmp_path / "checkout"


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return times, mode and content of every file, git's own included."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mtime_ns, status.st_mode, content)
    return found


def test_a_checkout_is_never_touched(checkout: Path, state: StateDir) -> None:
    (checkout / "hw/i386/Kconfig").touch()  # git status would now refresh the index
    before = everything(checkout)
    obtained(checkout, state)
    obtained(f"{checkout}@v10.2.2", state)
    (checkout / "new.c").write_text("new\n")
    before |= {str(checkout / "new.c"): everything(checkout)[str(checkout / "new.c")]}
    obtained(checkout, state, dirty=True)
    with pytest.raises(SourceError):
        obtained(checkout, state)
    assert everything(checkout) == before


@pytest.mark.parametrize("change", ["edit", "stage", "delete", "add", "untracked", "mode"])
def test_uncommitted_changes_are_an_error_and_dirty_takes_them(change: str, checkout: Path, state: StateDir) -> None:
    clean = obtained(checkout, state)
    file = checkout / "hw/i386/Kconfig"
    if change in ("edit", "stage"):
        file.write_text("changed\n")
    elif change == "delete":
        file.unlink()
    elif change == "mode":
        file.chmod(0o755)
    else:
        file = checkout / "hw/new.c"
        file.write_text("new\n")
    if change in ("stage", "add"):
        git("add", "-A", cwd=checkout)
    with pytest.raises(SourceError, match=rf"uncommitted changes: {file.relative_to(checkout)}") as caught:
        obtained(checkout, state)
    assert "--dirty" in caught.value.hint
    assert "@HEAD" in caught.value.hint
    assert obtained(f"{checkout}@HEAD", state).tree == clean.tree
    dirty = obtained(checkout, state, dirty=True)
    assert dirty.tree != clean.tree
    assert dirty.origin["dirty"] == "true"
    assert len(dirty.origin["diff_sha256"]) == 64
    assert dirty.origin["commit"] == clean.origin["commit"]
    assert obtained(checkout, state, dirty=True) == dirty
    assert ("hw/new.c" in listing(dirty)) == (change in ("add", "untracked"))
    assert ("hw/i386/Kconfig" in listing(dirty)) == (change != "delete")


def test_dirty_without_changes_is_the_clean_tree(checkout: Path, state: StateDir) -> None:
    assert obtained(checkout, state, dirty=True).tree == obtained(checkout, state).tree


def test_ignored_files_and_other_repositories_inside_do_not_count(checkout: Path, state: StateDir) -> None:
    clean = obtained(checkout, state)
    (checkout / "subprojects/packagecache").mkdir()
    (checkout / "subprojects/packagecache/x.tar.gz").write_text("ignored")
    (checkout / "roms/seabios/x").write_text("in a submodule that a build does not use")
    assert obtained(checkout, state).tree == clean.tree
    git("init", "--quiet", checkout / "inner", cwd=checkout)
    (checkout / "inner/x").write_text("x")
    assert obtained(checkout, state, dirty=True).tree == clean.tree


def test_more_changes_than_are_shown(checkout: Path, state: StateDir) -> None:
    for number in range(6):
        (checkout / f"n{number}").write_text("x")
    with pytest.raises(SourceError, match="n0, n1, n2, n3 and 2 more"):
        obtained(checkout, state)


@pytest.mark.parametrize(
    ("marker", "name"),
    [
        ("rebase-merge", "a rebase"),
        ("rebase-apply", "a rebase"),
        ("rebase-apply/applying", "git am"),
        ("MERGE_HEAD", "a merge"),
        ("CHERRY_PICK_HEAD", "a cherry-pick"),
        ("REVERT_HEAD", "a revert"),
        ("BISECT_LOG", "a bisect"),
    ],
)
def test_operations_in_progress(marker: str, name: str, checkout: Path, state: StateDir) -> None:
    path = checkout / ".git" / marker
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if marker.startswith("rebase-") and "/" not in marker else path.write_text("x")
    with pytest.raises(SourceError, match=f"in the middle of {name}"):
        obtained(checkout, state)
    with pytest.raises(SourceError, match=f"in the middle of {name}"):
        obtained(checkout, state, dirty=True)
    assert obtained(f"{checkout}@HEAD", state).tree


def test_a_real_rebase_that_stopped(checkout: Path, state: StateDir) -> None:
    git("checkout", "--quiet", "-b", "topic", cwd=checkout)
    for branch, text in (("topic", "one\n"), ("main", "two\n")):
        git("checkout", "--quiet", branch, cwd=checkout)
        (checkout / "hw/i386/Kconfig").write_text(text)
        git("commit", "--quiet", "-am", branch, cwd=checkout)
    with pytest.raises(AssertionError):
        git("rebase", "topic", cwd=checkout)
    with pytest.raises(SourceError, match="in the middle of a rebase"):
        obtained(checkout, state)
    (checkout / ".git/rebase-merge").rename(checkout / "elsewhere")
    with pytest.raises(SourceError, match=r"hw/i386/Kconfig is not merged"):
        obtained(checkout, state)


def test_a_ref_that_does_not_exist(checkout: Path, state: StateDir) -> None:
    with pytest.raises(SourceError, match=r"no branch, tag or commit 'v10\.2\.3'") as caught:
        obtained(f"{checkout}@v10.2.3", state)
    assert "v10.2.2" in caught.value.hint
    with pytest.raises(SourceError) as caught:
        obtained(f"{checkout}@--output=x", state)
    assert "git branch -a" in caught.value.hint
    with pytest.raises(SourceError, match="names no ref"):
        obtained(f"{checkout}@", state)


def test_refs_of_all_kinds(checkout: Path, state: StateDir) -> None:
    commit = git("rev-parse", "HEAD", cwd=checkout)
    for ref in ("main", "v10.2.2", commit, commit[:10], "HEAD@{0}", "refs/heads/main"):
        tree = obtained(f"{checkout}@{ref}", state)
        assert tree.origin["commit"] == commit
        assert tree.origin["ref"] == ref


def test_an_empty_repository(tmp_path: Path, state: StateDir) -> None:
    git("init", "--quiet", tmp_path / "x.git", "--bare", cwd=tmp_path)
    with pytest.raises(SourceError, match="has no commit yet"):
        obtained(tmp_path / "x.git", state)


def test_another_users_checkout(checkout: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with pytest.raises(SourceError, match="belongs to another user") as caught:
        obtained(checkout, state)
    assert "safe.directory" in caught.value.hint


def test_a_broken_checkout(checkout: Path, state: StateDir) -> None:
    (checkout / ".git/HEAD").unlink()
    with pytest.raises(SourceError, match="not a git checkout that can be read: fatal"):
        obtained(checkout, state)


def test_a_folder_inside_of_a_checkout(checkout: Path, state: StateDir) -> None:
    with pytest.raises(SourceError, match="inside of a git checkout, not its top") as caught:
        obtained(f"{checkout}/hw/xen@HEAD", state)
    assert str(checkout) == caught.value.hint.rpartition(" ")[2]
    with pytest.raises(SourceError, match="is not a QEMU source tree"):
        obtained(checkout / "hw", state)


def test_a_git_hook_environment_does_not_mislead(
    checkout: Path, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = obtained(checkout, state)
    git("init", "--quiet", tmp_path / "other", cwd=tmp_path)
    for name, value in (("GIT_DIR", ".git"), ("GIT_INDEX_FILE", "index"), ("GIT_WORK_TREE", ".")):
        monkeypatch.setenv(name, str(tmp_path / "other" / value))
    assert obtained(checkout, StateDir(tmp_path / "new").create()).tree == expected.tree


@pytest.mark.parametrize("version", ["7.2.0", "10.2.2"])
def test_a_checkout_without_keycodemapdb(version: str, tmp_path: Path, state: StateDir) -> None:
    write_checkout(tmp_path / "q", version, populated=False)
    with pytest.raises(MissingError, match="keycodemapdb at revision") as caught:
        obtained(tmp_path / "q", state)
    command = "git submodule update --init" if version == "7.2.0" else "meson subprojects download"
    assert command in caught.value.hint


def test_keycodemapdb_is_taken_at_the_revision_that_the_commit_pins(tmp_path: Path, state: StateDir) -> None:
    write_checkout(tmp_path / "q")
    pinned = obtained(tmp_path / "q", state)
    inner = tmp_path / "q/subprojects/keycodemapdb"
    (inner / "data/keymaps.csv").write_text("newer\n")
    assert obtained(tmp_path / "q", state).tree == pinned.tree
    dirty = obtained(tmp_path / "q", state, dirty=True)
    assert dirty.tree != pinned.tree
    git("commit", "--quiet", "-am", "newer", cwd=inner)
    assert obtained(tmp_path / "q", state).tree == pinned.tree
    assert obtained(tmp_path / "q", state, dirty=True).tree == dirty.tree


def test_a_changed_keycodemapdb_submodule_is_an_uncommitted_change(tmp_path: Path, state: StateDir) -> None:
    write_checkout(tmp_path / "q", "7.2.0")
    clean = obtained(tmp_path / "q", state)
    (tmp_path / "q/ui/keycodemapdb/data/keymaps.csv").write_text("newer\n")
    with pytest.raises(SourceError, match="uncommitted changes: ui/keycodemapdb"):
        obtained(tmp_path / "q", state)
    assert obtained(tmp_path / "q", state, dirty=True).tree != clean.tree


def test_the_overlay_of_the_wrap_is_applied(tmp_path: Path, state: StateDir) -> None:
    write_checkout(tmp_path / "q")
    wrap = tmp_path / "q/subprojects/keycodemapdb.wrap"
    wrap.write_text(wrap.read_text() + "patch_directory = keycodemapdb\n")
    overlay = tmp_path / "q/subprojects/packagefiles/keycodemapdb"
    overlay.mkdir(parents=True)
    (overlay / "meson.build").write_text("project('keycodemapdb')\n")
    git("add", "-A", cwd=tmp_path / "q")
    git("commit", "--quiet", "-m", "overlay", cwd=tmp_path / "q")
    assert "subprojects/keycodemapdb/meson.build" in listing(obtained(tmp_path / "q", state))


def test_dirty_needs_a_work_tree(checkout: Path, state: StateDir, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="can have none"):
        obtain(parse_source(f"{checkout}@HEAD", dirty=True), state, QuietUi())


def test_a_missing_object(checkout: Path, state: StateDir) -> None:
    oid = git("rev-parse", "HEAD:hw/i386/Kconfig", cwd=checkout)
    (checkout / ".git/objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(SourceError, match=f"lacks object {oid}"):
        obtained(f"{checkout}@HEAD", state)


def test_the_reader_survives_no_dead_git(checkout: Path) -> None:
    repo = GitRepo(checkout, user_env() | GIT_ENV)
    with reading(repo) as reader:
        assert reader.read(git("rev-parse", "HEAD:VERSION", cwd=checkout)) == b"10.2.2\n"
        with pytest.raises(SourceError, match="lacks object"):
            reader.read("0" * 40)


def test_a_partial_clone_is_read_and_not_filled(checkout: Path, state: StateDir, tmp_path: Path) -> None:
    git("config", "uploadpack.allowFilter", "true", cwd=checkout)
    git("clone", "--quiet", "--no-checkout", "--filter=blob:none", checkout.as_uri(), "partial", cwd=tmp_path)
    partial = tmp_path / "partial"
    before = {path for path in (partial / ".git/objects").rglob("*") if path.is_file()}
    with pytest.raises(SourceError, match="lacks object"):
        obtained(f"{partial}@HEAD", state)
    assert {path for path in (partial / ".git/objects").rglob("*") if path.is_file()} == before
