from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tests.unit.pkgconfig import confine
from xenqemu import doctor
from xenqemu.doctor import Check, apt_command, checks, examine
from xenqemu.doctor.checks import look_for, parse_version
from xenqemu.doctor.model import Requirement, load_requirements
from xenqemu.state import StateDir

Tool = Callable[[str, str], Path]

_BLANK = Requirement("x", "build", "program", "testing", ("x-dev",), True, "", ("--version",), "", "", "", "", None)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Put a shell script in front of everything on PATH; `isolate` is a PATH of nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("PKG_CONFIG", raising=False)

    def make(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH without any program."""
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("PKG_CONFIG", raising=False)


class TestRequirements:
    def test_every_entry_is_whole(self) -> None:
        requirements = load_requirements()
        assert len({entry.name for entry in requirements}) == len(requirements)
        needs = {
            "program": ("program",),
            "pkg-config": ("module", "header"),
            "library": ("header", "library"),
            "python-package": ("module", "package"),
        }
        for entry in requirements:
            assert entry.kind in checks._KINDS, entry
            assert entry.group in {"build", "recommended", "xen-libs", "test", "lab", "optional"}, entry
            assert all(getattr(entry, field) for field in needs.get(entry.kind, ())), entry
            assert entry.group == "build" or not entry.required, entry

    def test_can_be_read_with_nothing_but_tomllib(self) -> None:
        file = Path(doctor.__file__).with_name("requirements.toml")
        for entry in tomllib.loads(file.read_text())["requirement"]:
            assert isinstance(entry["apt"], list)
            assert isinstance(entry["group"], str)

    def test_unknown_kind(self, state: StateDir) -> None:
        with pytest.raises(KeyError):
            look_for(replace(_BLANK, kind="wish"), state)


class TestProgram:
    _MAKE = replace(_BLANK, program="stub", minimum=Version("4.2"))

    def test_found(self, tool: Tool, state: StateDir) -> None:
        path = tool("stub", "echo Stub tool 4.10")
        assert look_for(self._MAKE, state) == (True, f"4.10 ({path})")

    def test_version_on_stderr(self, tool: Tool, state: StateDir) -> None:
        tool("stub", "echo Stub tool v4.3 >&2")
        assert look_for(self._MAKE, state)[0]

    def test_without_version(self, tool: Tool, state: StateDir) -> None:
        path = tool("stub", "echo hello")
        assert look_for(replace(self._MAKE, minimum=None), state) == (True, f"unknown version ({path})")
        assert look_for(self._MAKE, state) == (False, "unknown version, too old: at least 4.2")

    def test_too_old(self, tool: Tool, state: StateDir) -> None:
        tool("stub", "echo Stub tool 4.1.9")
        assert look_for(self._MAKE, state) == (False, "4.1.9, too old: at least 4.2")

    def test_does_not_run(self, tool: Tool, state: StateDir) -> None:
        path = tool("stub", "echo out of order >&2; exit 3")
        assert look_for(self._MAKE, state) == (False, f"{path} does not run: out of order")

    def test_says_nothing_and_fails(self, tool: Tool, state: StateDir) -> None:
        path = tool("stub", "exit 3")
        assert look_for(self._MAKE, state) == (False, f"{path} does not run: exit 3")

    def test_not_installed(self, nothing: None, state: StateDir) -> None:
        assert look_for(self._MAKE, state) == (False, "not installed")


class TestCompiler:
    _CC = replace(_BLANK, kind="compiler")

    def test_the_real_one(self, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CC", raising=False)
        found, detail = look_for(self._CC, state)
        assert found
        assert parse_version(detail)

    def test_of_several_words(self, tool: Tool, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
        tool("wrapper", 'shift; exec cc "$@"')
        monkeypatch.setenv("CC", "wrapper --quick")
        assert look_for(self._CC, state)[0]

    def test_does_not_compile(self, tool: Tool, state: StateDir) -> None:
        tool("cc", "echo 'note: as it were' >&2; echo 'fatal error: stdio.h: No such file' >&2; exit 1")
        found, detail = look_for(self._CC, state)
        assert (found, detail) == (False, "does not compile a small program: fatal error: stdio.h: No such file")

    def test_what_it_makes_does_not_run(self, tool: Tool, state: StateDir) -> None:
        tool("cc", 'while [ "$1" != -o ]; do shift; done; printf "#!/bin/sh\\nexit 1" > "$2"; chmod +x "$2"')
        assert look_for(self._CC, state) == (False, "what it compiles does not run")

    def test_what_it_makes_is_no_program(self, tool: Tool, state: StateDir) -> None:
        tool("cc", 'while [ "$1" != -o ]; do shift; done; echo junk > "$2"')
        found, detail = look_for(self._CC, state)
        assert not found
        assert "cannot be run" in detail

    def test_none(self, nothing: None, state: StateDir) -> None:
        assert look_for(self._CC, state) == (False, "the command 'cc' is not installed")

    def test_cc_is_nonsense(self, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", "gcc 'unbalanced")
        found, detail = look_for(self._CC, state)
        assert not found
        assert "CC cannot be split" in detail


class TestLibraries:
    _MODULE = replace(_BLANK, kind="pkg-config", module="stub", header="stub.h", minimum=Version("2.66"))

    @pytest.fixture
    def pkg_config(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        confine(tmp_path, monkeypatch)
        monkeypatch.delenv("CC", raising=False)
        (tmp_path / "stub.h").write_text("int stub(void);\n")
        return tmp_path

    def _write(self, folder: Path, version: str, libs: str = "", requires: str = "") -> None:
        (folder / "stub.pc").write_text(
            f"Name: stub\nDescription: stub\nVersion: {version}\nRequires: {requires}\n"
            f"Cflags: -I{folder}\nLibs: {libs}\n"
        )

    def test_found(self, pkg_config: Path, state: StateDir) -> None:
        self._write(pkg_config, "2.74.6")
        assert look_for(self._MODULE, state) == (True, "2.74.6")

    def test_too_old(self, pkg_config: Path, state: StateDir) -> None:
        self._write(pkg_config, "2.8.1")
        assert look_for(self._MODULE, state) == (False, "2.8.1, too old: at least 2.66")

    def test_unknown_module(self, pkg_config: Path, state: StateDir) -> None:
        assert look_for(self._MODULE, state) == (False, "pkg-config does not know stub")

    def test_a_module_that_needs_another(self, pkg_config: Path, state: StateDir) -> None:
        self._write(pkg_config, "2.70", requires="absent")
        assert look_for(self._MODULE, state)[0] is False

    def test_without_its_header(self, pkg_config: Path, state: StateDir) -> None:
        self._write(pkg_config, "2.70")
        (pkg_config / "stub.h").unlink()
        found, detail = look_for(self._MODULE, state)
        assert not found
        assert "stub.h" in detail

    def test_without_its_library(self, pkg_config: Path, state: StateDir) -> None:
        self._write(pkg_config, "2.70", libs="-lno-such-library-anywhere")
        found, detail = look_for(self._MODULE, state)
        assert not found
        assert "no-such-library-anywhere" in detail

    def test_no_pkg_config(self, nothing: None, state: StateDir) -> None:
        assert look_for(self._MODULE, state) == (False, "the command 'pkg-config' is not installed")

    def test_what_a_build_drops_is_not_listened_to(
        self, pkg_config: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._write(pkg_config, "2.70", libs="-lm")
        for name in ("PKG_CONFIG_SYSROOT_DIR", "PKG_CONFIG", "CPATH", "LIBRARY_PATH"):
            monkeypatch.setenv(name, "/elsewhere")
        assert look_for(self._MODULE, state) == (True, "2.70")

    def test_without_pkg_config(self, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CC", raising=False)
        maths = replace(_BLANK, kind="library", header="math.h", library="m")
        assert look_for(maths, state) == (True, "<math.h>, -lm")
        assert look_for(replace(maths, library="no-such-library"), state)[0] is False
        assert look_for(replace(maths, header="no-such-header.h"), state)[0] is False


class TestPython:
    def test_this_one(self, state: StateDir) -> None:
        entry = replace(_BLANK, kind="python", minimum=Version("3.11"))
        assert look_for(entry, state) == (True, f"{platform.python_version()} ({sys.executable})")

    def test_too_old(self, state: StateDir) -> None:
        found, detail = look_for(replace(_BLANK, kind="python", minimum=Version("99.0")), state)
        assert not found
        assert "at least 99.0" in detail

    _PACKAGE = replace(_BLANK, kind="python-package", module="meson", package="meson", minimum=Version("1.5"))

    @pytest.mark.parametrize(
        ("version", "spec", "outcome"),
        [
            ("1.5.0", True, (True, "1.5.0")),
            ("1.0.1", True, (False, "1.0.1, too old: at least 1.5")),
            ("", False, (False, f"{sys.executable} cannot import meson; scripts/bootstrap installs it")),
        ],
    )
    def test_package(
        self, state: StateDir, monkeypatch: pytest.MonkeyPatch, version: str, spec: bool, outcome: tuple[bool, str]
    ) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if spec else None)
        monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
        assert look_for(self._PACKAGE, state) == outcome

    def test_importable_but_not_installed(self, state: StateDir) -> None:
        found, detail = look_for(replace(self._PACKAGE, module="tomllib", package="no-such-package"), state)
        assert not found
        assert "no-such-package" in detail


class TestDisk:
    _DISK = replace(_BLANK, kind="disk", minimum=Version("4"))

    @pytest.mark.parametrize(("free", "found"), [(3.9, False), (4.1, True)])
    def test_free(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, found: bool) -> None:
        asked = []

        def usage(path: Path) -> object:
            asked.append(path)
            return shutil._ntuple_diskusage(0, 0, int(free * 2**30))

        monkeypatch.setattr(shutil, "disk_usage", usage)
        outcome, detail = look_for(self._DISK, StateDir(tmp_path / "not" / "there" / "yet"))
        assert outcome is found
        assert f"{free} GiB free" in detail
        assert asked == [tmp_path]

    def test_a_state_directory_that_cannot_be_written_is_a_row(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        found, detail = look_for(self._DISK, StateDir(tmp_path / "file/state"))
        assert not found
        assert detail.endswith(f"cannot be written: {tmp_path / 'file'} is no folder")
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        assert look_for(self._DISK, StateDir(tmp_path / "link/state"))[0] is False
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        found, detail = look_for(self._DISK, StateDir(tmp_path / "state"))
        assert not found
        assert detail.endswith(f"{tmp_path} is not writable")
        checks_made = examine(StateDir(tmp_path / "state"))
        assert [check.found for check in checks_made if check.kind == "disk"] == [False]


class TestExamine:
    def test_everything_in_order_and_nothing_written(self, tmp_path: Path) -> None:
        found = examine(StateDir(tmp_path / "state"))
        requirements = load_requirements()
        assert [check.name for check in found] == [entry.name for entry in requirements]
        assert [check.apt for check in found] == [entry.apt for entry in requirements]
        assert all(check.detail for check in found)
        assert json.dumps([check.detail for check in found])
        assert list(tmp_path.iterdir()) == []

    def test_a_machine_without_anything(self, nothing: None, state: StateDir) -> None:
        found = {check.name: check for check in examine(state)}
        assert not any(found[name].found for name in ("C compiler", "make", "git", "glib", "zlib"))
        assert found["Python"].found
        command = apt_command(found.values())
        assert command.startswith("apt-get install --no-install-recommends ")
        assert {"gcc", "libglib2.0-dev", "libxen-dev", "zlib1g-dev"} <= set(command.split())

    def test_apt_command(self) -> None:
        check = Check("a", "program", False, "", "", ("b", "a"), True)
        there = replace(check, found=True, apt=("never",))
        again = replace(check, apt=("c", "a"), required=False)
        unpackaged = replace(check, apt=())
        assert apt_command([check, there, again, unpackaged]) == "apt-get install --no-install-recommends a b c"
        assert apt_command([there, unpackaged]) == ""


class TestParseVersion:
    @pytest.mark.parametrize(
        ("text", "version"),
        [
            ("GNU Make 4.3\nBuilt for x86_64-pc-linux-gnu", "4.3"),
            ("GNU ld (GNU Binutils for Debian) 2.40", "2.40"),
            ("This is perl 5, version 36, subversion 0 (v5.36.0) built for x86_64-linux-gnu", "5.36.0"),
            ("ccache version 4.7.5", "4.7.5"),
            ("git version 2.39.5", "2.39.5"),
            ("2.74.6\n", "2.74.6"),
            ("nothing of the kind", None),
        ],
    )
    def test_of_real_tools(self, text: str, version: str | None) -> None:
        assert parse_version(text) == (Version(version) if version else None)

    @given(st.text())
    def test_of_anything(self, text: str) -> None:
        parse_version(text)

    @given(st.lists(st.integers(0, 9999), min_size=2, max_size=4))
    def test_of_any_version(self, numbers: list[int]) -> None:
        text = ".".join(map(str, numbers))
        assert parse_version(f"tool (Debian) {text}, (c) the authors") == Version(text)
