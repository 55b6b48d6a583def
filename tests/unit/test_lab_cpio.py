"""Archives that are written are read back by other code, entry for entry."""

from __future__ import annotations

import io
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.read_cpio import read_all, read_archive
from xenqemu.lab.cpio import Entry, directory, link, regular, write_archive

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join).filter(lambda path: path != "TRAILER!!!")
ENTRIES = st.one_of(
    st.builds(directory, PATHS, st.integers(0, 0o7777)),
    st.builds(regular, PATHS, st.binary(max_size=20), st.integers(0, 0o7777)),
    st.builds(link, PATHS, NAMES),
    st.builds(
        Entry, PATHS, st.just(stat.S_IFCHR | 0o600), device=st.tuples(st.integers(0, 4095), st.integers(0, 1 << 20))
    ),
)


def archive(entries: list[Entry]) -> bytes:
    sink = io.BytesIO()
    write_archive(sink, entries)
    return sink.getvalue()


@given(st.lists(ENTRIES))
def test_what_is_written_is_read(entries: list[Entry]) -> None:
    data = archive(entries)
    read = read_all(data)
    explicit = [entry.path for entry in entries]
    for entry in entries:
        found = [one for path, one in read if path == entry.path and one.mode == entry.mode]
        content = entry.content if isinstance(entry.content, bytes) else b""
        assert any((one.content, one.device) == (content, entry.device) for one in found)
    known: set[str] = set()
    for path, one in read:
        parents = [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."]
        assert known.issuperset(parents)  # the kernel makes no folders by itself
        assert path in explicit or one.mode == stat.S_IFDIR | 0o755
        assert one.links == 1
        known.add(path)
    assert len({one.number for _, one in read}) == len(read)
    assert archive(entries) == data
    assert read_all(data + data) == read + read


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", ".", "a//b", "a/", "./a", "a\0b"])
def test_a_path_that_leads_elsewhere(path: str) -> None:
    with pytest.raises(ValueError, match="not a relative path"):
        archive([regular(path, b"")])


def test_a_file_is_copied(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_archive(archive([regular("f", tmp_path / "file", 0o755), regular("g", b"x")]))["f"].content == b"12345"


def test_a_file_that_does_not_fit_the_format(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(ValueError, match="too large for a cpio archive: f"):
        archive([regular("f", tmp_path / "large")])


def test_a_file_that_grows_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    copy = shutil.copyfileobj

    def grow(source: BinaryIO, sink: BinaryIO, length: int) -> None:
        path.write_bytes(b"12")
        copy(source, sink, length)

    monkeypatch.setattr(shutil, "copyfileobj", grow)
    with pytest.raises(OSError, match="changed while it was read"):
        archive([regular("f", path)])
