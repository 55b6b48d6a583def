"""The newcomer's path, as far as it goes without a network and without being root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.scripts import load_script
from xenqemu.archive.mirrors import Archive, Mirror
from xenqemu.errors import MissingError

ARCHIVE = Archive("bookworm", ("bookworm",), frozenset(), (Mirror("http://127.0.0.1:9/debian", "stable", "/key.gpg"),))


@pytest.fixture
def newcomer(monkeypatch: pytest.MonkeyPatch) -> Any:
    script = load_script("newcomer")
    monkeypatch.setattr(script, "check", lambda: None)
    monkeypatch.setattr(script, "machine_archive", lambda: ARCHIVE)
    return script


@pytest.fixture
def entered(newcomer: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is run in the new root, which is none."""
    scripts: list[str] = []
    monkeypatch.setattr(newcomer, "make_root", lambda root, archive: (root / "root").mkdir())
    monkeypatch.setattr(newcomer, "enter", lambda root, script, bound: scripts.append(script))
    return scripts


def test_its_times_are_told_and_nothing_stays(
    newcomer: Any, entered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert newcomer.main([str(tmp_path)]) == 0
    assert entered == ["cd ~/xenqemu && make"]
    said = capsys.readouterr().out.splitlines()
    assert [re.sub(r": [\d.]+ s$", "", line) for line in said] == [
        "newcomer: a minimal Debian (bookworm)",
        "newcomer: git clone",
        "newcomer: make",
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_a_clone_of_this_repository(newcomer: Any, entered: list[str], tmp_path: Path) -> None:
    assert newcomer.main(["--keep", str(tmp_path)]) == 0
    (root,) = tmp_path.iterdir()
    assert (root / "root/xenqemu/Makefile").is_file()
    assert not (root / "root/xenqemu/.venv").exists()


def test_what_fails_ends_it_and_nothing_stays(
    newcomer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(root: Path, archive: Archive) -> None:
        raise subprocess.CalledProcessError(25, ["mmdebstrap", "my root"])

    monkeypatch.setattr(newcomer, "make_root", fail)
    assert newcomer.main([str(tmp_path)]) == 25
    assert capsys.readouterr() == ("", "newcomer: this has failed: mmdebstrap 'my root'\n")
    assert list(tmp_path.iterdir()) == []


def test_the_root_is_made_from_the_machines_own_archive(
    newcomer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, bin_ = tmp_path / "root", tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "mmdebstrap").write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat > {tmp_path}/sources\nmkdir -p {root}/etc/apt/apt.conf.d\n'
    )
    (bin_ / "apt-config").write_text(
        "#!/bin/sh\necho 'Acquire::http::Proxy \"http://127.0.0.1:9\";'; echo 'Dir \"/\";'\n"
    )
    for program in bin_.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setattr(newcomer, "enter", lambda root, script, bound: None)
    monkeypatch.setattr(newcomer, "APART", ())
    (tmp_path / "pip.conf").write_text("[global]\n")
    monkeypatch.setattr(newcomer, "SETTINGS", (str(tmp_path / "pip.conf"), "/is/not/there"))
    newcomer.make_root(root, ARCHIVE)
    words = (tmp_path / "words").read_text().split()
    assert words[-3:] == ["bookworm", str(root), "-"]
    assert "--include=git,make,ca-certificates" in words
    sources = "Types: deb\nURIs: http://127.0.0.1:9/debian\nSuites: stable\nComponents: main\nSigned-By: /key.gpg\n"
    assert (tmp_path / "sources").read_text() == sources
    assert (root / "etc/apt/apt.conf.d/99machine").read_text() == 'Acquire::http::Proxy "http://127.0.0.1:9";\n'
    assert (root / str(tmp_path)[1:] / "pip.conf").is_file()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("newcomer")
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "mmdebstrap" else program)
    with pytest.raises(MissingError, match="mmdebstrap is missing") as caught:
        script.check()
    assert "apt-get install" in caught.value.hint
    monkeypatch.setattr(shutil, "which", lambda program: program)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingError, match="only root") as caught:
        script.check()
    assert "sudo make newcomer" in caught.value.hint
