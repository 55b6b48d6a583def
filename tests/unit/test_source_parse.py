"""What the user means by the text given as a source."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_qemu import git
from xenqemu.errors import SourceError
from xenqemu.source import QemuSource, SourceKind, parse_source
from xenqemu.source.apt import in_series, upstream_version
from xenqemu.source.identify import parse_version
from xenqemu.source.normalise import submodules, wrap_values
from xenqemu.source.store import _quoted

GIT, TARBALL, CHECKOUT, DIRECTORY = SourceKind.GIT, SourceKind.TARBALL, SourceKind.CHECKOUT, SourceKind.DIRECTORY


@pytest.mark.parametrize(
    ("text", "kind", "location", "ref"),
    [
        ("distro", SourceKind.DISTRO, "", None),
        ("distro:10.2", SourceKind.DISTRO, "10.2", None),
        ("https://h.invalid/q.git@v1", GIT, "https://h.invalid/q.git", "v1"),
        ("https://h.invalid/q.git", GIT, "https://h.invalid/q.git", None),
        ("https://h.invalid/q@feature/x", GIT, "https://h.invalid/q", "feature/x"),
        ("https://h.invalid/q.git@me@x", GIT, "https://h.invalid/q.git", "me@x"),
        ("https://me:pw@h.invalid/q.git@v1", GIT, "https://me:pw@h.invalid/q.git", "v1"),
        ("ssh://git@h.invalid/q", GIT, "ssh://git@h.invalid/q", None),
        ("ssh://git@h.invalid:22/q@v1", GIT, "ssh://git@h.invalid:22/q", "v1"),
        ("ssh://git@h.invalid", GIT, "ssh://git@h.invalid", None),
        ("git@h.invalid:team/q.git@v1", GIT, "git@h.invalid:team/q.git", "v1"),
        ("git@h.invalid:team/q.git", GIT, "git@h.invalid:team/q.git", None),
        ("h.invalid:q@v1", GIT, "h.invalid:q", "v1"),
        ("git://h.invalid/q@v1", GIT, "git://h.invalid/q", "v1"),
        ("file:///srv/q.git@v1", GIT, "file:///srv/q.git", "v1"),
        ("git+https://h.invalid/q.tar.xz@v1", GIT, "https://h.invalid/q.tar.xz", "v1"),
        ("git+ssh://h.invalid/q@v1", GIT, "ssh://h.invalid/q", "v1"),
        ("https://h.invalid/q-1.tar.xz", TARBALL, "https://h.invalid/q-1.tar.xz", None),
        ("http://h.invalid/q-1.tgz?x=1", TARBALL, "http://h.invalid/q-1.tgz?x=1", None),
        ("file:///srv/q-1.tar.zst", TARBALL, "file:///srv/q-1.tar.zst", None),
    ],
)
def test_forms_that_are_no_paths(text: str, kind: SourceKind, location: str, ref: str | None) -> None:
    assert parse_source(text) == QemuSource(kind, location, ref)


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "odd@name").mkdir()
    git("init", "--quiet", tmp_path / "co", cwd=tmp_path)
    git("init", "--quiet", "--bare", tmp_path / "bare", cwd=tmp_path)
    git("init", "--quiet", tmp_path / "co@home", cwd=tmp_path)
    with tarfile.open(tmp_path / "no-suffix", "w"):
        pass
    for text, kind, location, ref in (
        ("dir", DIRECTORY, "dir", None),
        ("odd@name", DIRECTORY, "odd@name", None),
        ("co", CHECKOUT, "co", None),
        ("bare", CHECKOUT, "bare", None),
        ("co@v1", CHECKOUT, "co", "v1"),
        ("co@HEAD@{1}", CHECKOUT, "co", "HEAD@{1}"),
        ("co@home", CHECKOUT, "co@home", None),
        ("co@home@v1", CHECKOUT, "co@home", "v1"),
    ):
        assert parse_source(f"{tmp_path}/{text}") == QemuSource(kind, str(tmp_path / location), ref)


def test_a_file_is_a_tarball_by_its_content(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "q", "w") as tar:
        tar.add(__file__, "q/x")
    assert parse_source(str(tmp_path / "q")).kind is TARBALL
    (tmp_path / "q.tar.xz").write_text("<html>404</html>")
    with pytest.raises(SourceError, match="is a file but not a tar archive"):
        parse_source(str(tmp_path / "q.tar.xz"))


def test_a_folder_called_distro_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distro").mkdir()
    assert parse_source("distro").kind is DIRECTORY


@pytest.mark.parametrize("text", ["", "no/such/place", "/no/such@v1", "no-such", "~no-such-user@x", "./a:b"])
def test_what_is_nothing(text: str) -> None:
    with pytest.raises(SourceError, match="is no QEMU source") as caught:
        parse_source(text)
    assert caught.value.exit_code == 3
    assert "git URL" in caught.value.hint


@pytest.mark.parametrize("text", ["ftp://h.invalid/q.tar.xz", "distro:sid", "distro:", "https://h.invalid/q.git@"])
def test_what_is_nearly_something(text: str) -> None:
    if text == "distro:":
        assert parse_source(text).location == ""
        return
    with pytest.raises(SourceError):
        parse_source(text)


def test_options_that_do_not_fit_the_form(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is for tarballs"):
        parse_source("distro", sha256="0" * 64)
    with pytest.raises(SourceError, match="is for git checkouts"):
        parse_source("distro", dirty=True)
    source = parse_source("https://h.invalid/q.tar.xz", sha256="1" * 64, signature=Path("s"), keyring=Path("k"))
    assert (source.sha256, source.signature, source.keyring) == ("1" * 64, Path("s"), Path("k"))
    assert parse_source("distro", refresh=True).refresh


@given(st.text(max_size=60))
def test_any_text_is_a_source_or_a_source_error(text: str) -> None:
    try:
        source = parse_source(text)
    except SourceError:
        return  # and nothing else
    assert isinstance(source, QemuSource)


@given(st.text(max_size=30))
def test_any_version_file_is_a_version_or_a_source_error(text: str) -> None:
    try:
        version = parse_version(text, "x")
    except SourceError:
        return  # and nothing else
    assert str(version)


@given(st.binary(max_size=200))
def test_any_wrap_file_gives_values_or_nothing(content: bytes) -> None:
    values = wrap_values(content)
    assert values == {} or values["type"].startswith("wrap-")


def test_submodules() -> None:
    text = b'[submodule "a"]\n\tpath = roms/a/\n        # url = no\n\turl = \thttps://a.invalid\n'
    text += b'[submodule "b"]\n\tpath=b\n[x]\n'
    assert submodules(text) == {"roms/a": "https://a.invalid", "b": ""}
    assert submodules(b"[[[ no") == {}
    assert submodules(b"") == {}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20))
def test_quoted_paths_read_back(path: str) -> None:
    quoted = _quoted(path)
    assert b"\n" not in quoted
    if not quoted.startswith(b'"'):
        assert quoted.decode() == path
    else:
        plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), quoted[1:-1])
        assert plain.decode() == path


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("1:10.2.2+ds-1", "10.2.2"),
        ("1:7.2+dfsg-7+deb12u18", "7.2"),
        ("1:10.2.0~rc1+ds-2", "10.2.0-rc1"),
        ("4.20.2+7-g1badcf5035-0+deb13u1", "4.20.2+7-g1badcf5035"),
        ("8.2.2", "8.2.2"),
    ],
)
def test_upstream_versions(version: str, upstream: str) -> None:
    assert upstream_version(version) == upstream


def test_series() -> None:
    assert in_series("10.2.2", "10.2")
    assert in_series("7.2", "7.2")
    assert in_series("10.2-rc1", "10.2")
    assert in_series("4.20.2+7-g1", "4.20")
    assert in_series("9", "")
    assert not in_series("10.20.1", "10.2")
    assert not in_series("11.0", "10.2")
