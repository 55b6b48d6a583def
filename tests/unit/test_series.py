"""The series: choosing files by version, applying them as commits, and what is said when one does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.unit.trees import FILES, MESON, diff, patch_text, store_tree, write_series
from xenqemu.errors import PatchError, SourceError, UsageError
from xenqemu.gitstore import GitStore
from xenqemu.series.apply import apply_series, apply_what_applies
from xenqemu.series.catalogue import check_supported, is_listed, load_series, select, supported_range
from xenqemu.series.check import check_series
from xenqemu.series.listing import list_series
from xenqemu.series.model import Series, Topic
from xenqemu.series.patchfile import PatchHunk, closest_lines, read_patch
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi

AT_10 = MESON.replace("line 10\n", "line ten\n")
ALPHA = patch_text("meson: ten in words", diff("meson.build", MESON, AT_10))
BETA = patch_text("vl: no v5", diff("system/vl.c", FILES["system/vl.c"], FILES["system/vl.c"].replace("int v5;\n", "")))


def two_topics(tmp_path: Path) -> Series:
    return load_series(
        write_series(tmp_path / "patches", {"010-a": {"7.2.patch": ALPHA}, "020-b": {"7.2.patch": BETA}})
    )


def test_each_topic_becomes_a_commit_and_the_result_is_the_sum(
    tmp_path: Path, state: StateDir, quiet_ui: PlainUi
) -> None:
    tree = store_tree(state, FILES)
    patched = apply_series(two_topics(tmp_path), tree, state, quiet_ui)
    repo = GitStore.open(state).repo()
    assert repo.git.show(f"{patched.commit}:meson.build", strip_newline_in_stdout=False) == AT_10
    assert "int v5;" not in repo.git.show(f"{patched.commit}:system/vl.c")
    subjects = repo.git.log("--format=%s|%an|%at", patched.commit).splitlines()
    assert subjects == [
        "vl: no v5|xenqemu|1281571200",
        "meson: ten in words|xenqemu|1281571200",
        "QEMU 10.2.2|xenqemu|1281571200",
    ]
    assert "Xenqemu-Topic: 010-a" in repo.git.log("-1", "--format=%B", patched.patches[0].commit)
    assert patched.listed
    assert [hunk.offset for patch in patched.patches for hunk in patch.hunks] == [0, 0]


def test_the_same_input_gives_the_same_commit_in_another_state_directory(
    tmp_path: Path, state: StateDir, quiet_ui: PlainUi
) -> None:
    series = two_topics(tmp_path)
    other = StateDir(tmp_path / "other").create()
    first = apply_series(series, store_tree(state, FILES), state, quiet_ui)
    second = apply_series(series, store_tree(other, FILES), other, quiet_ui)
    again = apply_series(series, store_tree(state, FILES), state, quiet_ui)
    assert first == second == again


def test_the_users_git_configuration_decides_nothing(
    tmp_path: Path, state: StateDir, quiet_ui: PlainUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = two_topics(tmp_path)
    expected = apply_series(series, store_tree(state, FILES), state, quiet_ui)
    (tmp_path / ".gitconfig").write_text(
        "[user]\nname=Somebody\n[core]\nautocrlf=true\n[commit]\ngpgsign=true\n[apply]\nwhitespace=error\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    other = StateDir(tmp_path / "other").create()
    assert apply_series(series, store_tree(other, FILES), other, quiet_ui).commit == expected.commit


def test_offset_and_fuzz_are_reported(tmp_path: Path, state: StateDir, quiet_ui: PlainUi) -> None:
    moved = "new\nnew\n" + MESON.replace("line 7\n", "line seven\n")
    report = check_series(two_topics(tmp_path), store_tree(state, {**FILES, "meson.build": moved}), state, quiet_ui)
    assert report.failed == ()
    hunk = report.applied[0].hunks[0]
    assert (hunk.path, hunk.number, hunk.offset, hunk.fuzz) == ("meson.build", 1, 2, 1)


def test_a_patch_that_does_not_apply_names_topic_file_hunk_and_lines(
    tmp_path: Path, state: StateDir, quiet_ui: PlainUi
) -> None:
    tree = store_tree(state, {**FILES, "meson.build": MESON.replace("line 10\n", "line X\n")})
    with pytest.raises(PatchError) as caught:
        apply_series(two_topics(tmp_path), tree, state, quiet_ui)
    message = caught.value.message
    assert "topic 010-a (010-a/7.2.patch) does not apply to QEMU 10.2.2" in message
    assert "hunk 1 of meson.build at line 7" in message
    assert "wanted: line 10\n  found:  line X" in message
    assert caught.value.exit_code == 4


def test_a_file_that_is_gone_and_a_series_that_is_there_already_are_told_apart(
    tmp_path: Path, state: StateDir, quiet_ui: PlainUi
) -> None:
    series = two_topics(tmp_path)
    without = {path: text for path, text in FILES.items() if path != "meson.build"}
    with pytest.raises(PatchError, match=r"changes meson.build, which QEMU 10.2.2 does not have"):
        apply_series(series, store_tree(state, without), state, quiet_ui)
    with pytest.raises(PatchError, match=r"topic 010-a .* is already in this QEMU"):
        apply_series(series, store_tree(state, {**FILES, "meson.build": AT_10}), state, quiet_ui)


def test_check_goes_on_after_a_failure(tmp_path: Path, state: StateDir, quiet_ui: PlainUi) -> None:
    tree = store_tree(state, {**FILES, "meson.build": "something else\n"})
    report = check_series(two_topics(tmp_path), tree, state, quiet_ui)
    assert [entry.topic for entry in report.failed] == ["010-a"]
    assert [entry.topic for entry in report.applied] == ["020-b"]


def test_a_version_in_between_is_tried_and_said_and_may_take_the_next_file(
    tmp_path: Path, state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    later = patch_text("meson: for 10.2", diff("meson.build", AT_10, MESON))
    series = load_series(write_series(tmp_path / "patches", {"010-a": {"7.2.patch": ALPHA, "10.2.patch": later}}))
    tree = store_tree(state, {**FILES, "meson.build": AT_10}, "10.1.91")
    patched = apply_series(series, tree, state, PlainUi())
    assert not patched.listed
    assert patched.patches[0].file == "010-a/10.2.patch"
    assert "not one of the tested releases" in capsys.readouterr().err
    # an early development tree may still have the code of the release before
    early = apply_series(series, store_tree(state, FILES, "10.1.50"), state, PlainUi())
    assert early.patches[0].file == "010-a/7.2.patch"


def test_a_version_that_is_not_supported_is_checked_all_the_same(
    tmp_path: Path, state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    series = two_topics(tmp_path)
    tree = store_tree(state, {**FILES, "meson.build": "new\n"}, "11.1.0")
    report = check_series(series, tree, state, PlainUi())
    assert ([entry.topic for entry in report.failed], report.listed) == (["010-a"], False)
    assert "11.1.0 is not one of the tested releases" in capsys.readouterr().err
    patched = apply_what_applies(series, tree, state, PlainUi())
    assert [patch.topic for patch in patched.patches] == ["020-b"]
    assert "left out: topic 010-a" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["7.1", "6.0.0", "10.2.50", "10.3.0", "11.0.0"])
def test_a_version_outside_is_refused_with_the_range(tmp_path: Path, version: str) -> None:
    with pytest.raises(SourceError, match=r"outside the supported range, 7\.2 to 10\.2\.x"):
        check_supported(two_topics(tmp_path), Version(version))


@pytest.mark.parametrize(
    ("version", "listed"), [("7.2.0", True), ("10.2.9", True), ("10.0.50", False), ("8.1.2", False), ("10.1.92", False)]
)
def test_listed_versions(tmp_path: Path, version: str, listed: bool) -> None:
    series = two_topics(tmp_path)
    check_supported(series, Version(version))
    assert is_listed(series, Version(version)) is listed
    assert supported_range(series) == "7.2 to 10.2.x"


@given(
    firsts=st.lists(st.tuples(st.integers(5, 12), st.integers(0, 3)), unique=True, min_size=1),
    version=st.tuples(st.integers(5, 12), st.integers(0, 3), st.integers(0, 49)),
)
def test_the_file_with_the_highest_version_not_above_fits(
    firsts: list[tuple[int, int]], version: tuple[int, int, int]
) -> None:
    files = tuple(sorted((Version(f"{a}.{b}"), Path(f"{a}.{b}.patch")) for a, b in firsts))
    topic = Topic("t", "", SpecifierSet(), files)
    chosen = topic.file_for(Version(".".join(map(str, version))))
    below = [first for first in firsts if (*first, 0) <= version]
    assert chosen == (Path("{}.{}.patch".format(*max(below))) if below else None)


def test_topics_that_a_version_does_not_need_are_left_out(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "patches", {"010-a": {"7.2.patch": ALPHA}, "020-b": {"10.0.patch": BETA}})
    catalogue = folder / "series.toml"
    catalogue.write_text(catalogue.read_text() + 'versions = ">=8.1"\n')
    series = load_series(folder)
    assert [topic.name for topic, _ in select(series, Version("7.2.0"))] == ["010-a"]
    with pytest.raises(PatchError, match=r"020-b has no patch for QEMU 8\.2\.0"):
        select(series, Version("8.2.0"))
    listing = list_series(None, series)
    assert listing.versions == ("7.2", "10.0", "10.2")
    assert [row.files for row in listing.rows] == [("7.2.patch",) * 3, (None, "10.0.patch", "10.0.patch")]
    assert [row.topic for row in list_series("7.2.3", series).rows] == ["010-a"]
    with pytest.raises(UsageError):
        list_series("ten", series)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "series.toml").unlink(), "cannot be read"),
        (lambda folder: (folder / "series.toml").write_text("[versions"), "malformed"),
        (lambda folder: (folder / "series.toml").write_text("x = 1"), "malformed"),
        (lambda folder: (folder / "030-stray").mkdir(), "is no topic of"),
        (lambda folder: (folder / "010-a" / "notes.txt").touch(), "not named after a QEMU version"),
        (lambda folder: (folder / "010-a" / "7.2.patch").unlink(), "has no patch"),
    ],
)
def test_a_malformed_series_says_where(tmp_path: Path, change: object, message: str) -> None:
    folder = write_series(tmp_path / "patches", {"010-a": {"7.2.patch": ALPHA}})
    change(folder)  # type: ignore[operator]
    with pytest.raises(PatchError, match=message):
        load_series(folder)


@pytest.mark.parametrize(
    "text",
    [
        "no subject\n\nbody\n---\n\ndiff --git a/x b/x\n",
        "Subject: no description\n\n---\n\n" + diff("x", "a\n", "b\n"),
        "Subject: no diff\n\nbody\n---\n\n",
        "Subject: broken\n\nbody\n---\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n",
        "Subject: empty\n\nbody\n---\n\ndiff --git a/x b/x\n",
    ],
)
def test_a_malformed_patch_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.patch").write_text(text)
    with pytest.raises(PatchError, match=r"x\.patch"):
        read_patch(tmp_path / "x.patch")


def test_what_format_patch_adds_at_the_end_is_no_part_of_the_diff(tmp_path: Path) -> None:
    (tmp_path / "x.patch").write_text(ALPHA + "-- \n2.39.5\n")
    patch = read_patch(tmp_path / "x.patch")
    assert "2.39.5" not in patch.diff
    assert patch.message("010-a") == "meson: ten in words\n\nWhat breaks without it.\n\nXenqemu-Topic: 010-a"


@given(
    lines=st.lists(st.sampled_from("abc"), min_size=4, max_size=40),
    start=st.integers(0, 30),
    length=st.integers(1, 8),
)
def test_lines_that_are_there_are_found(lines: list[str], start: int, length: int) -> None:
    start %= len(lines)
    wanted = tuple(lines[start : start + length])
    line, differing = closest_lines(PatchHunk("f", 1, start + 1, start + 1, 0, wanted), "\n".join(lines))
    assert differing == ()
    assert line == start + 1


def test_a_hunk_at_the_top_of_a_file_has_no_offset(tmp_path: Path, state: StateDir, quiet_ui: PlainUi) -> None:
    top = patch_text("meson: top", diff("meson.build", MESON, "first\n" + MESON))
    series = load_series(write_series(tmp_path / "patches", {"010-a": {"7.2.patch": top}}))
    report = check_series(series, store_tree(state, {**FILES, "meson.build": "x\n" + MESON}), state, quiet_ui)
    assert [(hunk.offset, hunk.fuzz) for hunk in report.applied[0].hunks] == [(1, 0)]
