"""What is derived from the machine's apt configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenqemu.archive.mirrors import machine_archive, one_line
from xenqemu.errors import MissingError


@pytest.mark.parametrize("text", ["", "ID=fedora\nVERSION_ID=44\n", "ID=debian\n"])
def test_a_machine_of_another_kind(text: str, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(text)
    with pytest.raises(MissingError, match="has no package archive"):
        machine_archive(tmp_path, tmp_path / "os-release")
    with pytest.raises(MissingError, match="has no package archive"):
        machine_archive(tmp_path, tmp_path / "none")


def test_no_archive_is_configured(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("ID=x\nID_LIKE='y debian'\nVERSION_CODENAME=trixie\n")
    with pytest.raises(MissingError, match="no archive of trixie is configured"):
        machine_archive(tmp_path, tmp_path / "os-release")
    (tmp_path / "sources.list").write_text(
        "# deb http://a.invalid trixie main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://b.invalid/debian trixie main # here\n"
        "deb http://c.invalid/ ./\n"
    )
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/x.list").write_text(
        "deb http://d.invalid testing main\ndeb http://e.invalid sid-x main\n"
    )
    archive = machine_archive(tmp_path, tmp_path / "os-release")
    assert [mirror.uri for mirror in archive.mirrors] == ["http://b.invalid/debian", "http://d.invalid"]
    text = archive.mirrors[0].source("s")
    assert "URIs: http://b.invalid/debian\nSuites: s\nComponents: main\nSigned-By: /k.gpg\n" in text


@pytest.mark.parametrize(
    "line", ["", "# deb http://a.invalid x main", "deb", "rpm http://a.invalid x main", "deb http://a.invalid/ x/"]
)
def test_lines_that_name_no_archive(line: str) -> None:
    assert one_line(line) is None


def test_an_embedded_key_is_kept(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=trixie\n")
    (tmp_path / "sources.list.d").mkdir()
    stanza = "Types: deb\nURIs: http://a.invalid\nSuites: trixie\nComponents: main\n"
    stanza += "Signed-By:\n -----BEGIN\n .\n abc\n -----END\n"
    (tmp_path / "sources.list.d/x.sources").write_text(stanza)
    (mirror,) = machine_archive(tmp_path, tmp_path / "os-release").mirrors
    assert "Signed-By: \n -----BEGIN\n .\n abc\n -----END\n" in mirror.source("x")


def test_a_source_that_the_machine_trusts_unsigned_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=trixie\n")
    (tmp_path / "sources.list").write_text(
        "deb [trusted=yes allow-insecure=yes check-valid-until=no] http://a.invalid trixie main\n"
    )
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/x.sources").write_text(
        "Types: deb\nURIs: http://b.invalid\nSuites: trixie\nComponents: main\n"
        "Trusted: yes\nAllow-Insecure: yes\nAllow-Weak: yes\nAllow-Downgrade-To-Insecure: yes\nCheck-Date: no\n"
    )
    text = "".join(mirror.source("x") for mirror in machine_archive(tmp_path, tmp_path / "os-release").mirrors)
    assert {line.partition(":")[0] for line in filter(None, text.splitlines())} <= {
        *("Types", "URIs", "Suites", "Components", "Signed-By")
    }
    assert text.count(".invalid") == 2
