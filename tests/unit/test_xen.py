from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tests.unit import xens
from tests.unit.pkgconfig import confine
from xenqemu import proc, xen
from xenqemu.errors import MissingError
from xenqemu.state import StateDir
from xenqemu.ui import Ui
from xenqemu.xen import elf, layout
from xenqemu.xen.interface import interface
from xenqemu.xen.model import XenLibrary, XenSdk
from xenqemu.xen.survey import interface_version, soname_version


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return xens.make_prefix(tmp_path_factory.mktemp("made") / "usr" / "local")


@pytest.fixture
def install(made: Path, tmp_path: Path) -> Path:
    """A dist/install of one's own to break."""
    xens.clone(made, tmp_path / "install" / "usr" / "local")
    return tmp_path / "install"


def missing(where: Path) -> tuple[str, ...]:
    report = xen.inspect(str(where))
    assert report.sdk is None
    return report.missing


class TestPrefix:
    def test_everything_about_it(self, install: Path, state: StateDir, quiet_ui: Ui) -> None:
        sdk = xen.locate(str(install), state, quiet_ui)
        lib = install / "usr" / "local" / "lib"
        assert (sdk.origin, sdk.location, sdk.version) == ("prefix", str(install), Version("4.20"))
        assert sdk.include_dirs == (install / "usr" / "local" / "include",)
        assert sdk.library_dirs == (lib,)
        by_name = {library.name: library for library in sdk.libraries}
        assert set(by_name) == set(xens.LIBRARIES)
        assert [library.name for library in sdk.libraries][:7] == list(interface().modules)
        ctrl = by_name["xenctrl"]
        assert ctrl.soname == "libxenctrl.so.4.20"
        assert ctrl.path == lib / "libxenctrl.so.4.20.0"
        assert ctrl.sha256 == hashlib.sha256(ctrl.path.read_bytes()).hexdigest()

    @pytest.mark.parametrize("root", ["usr/local", "usr", "local", "."])
    def test_roots(self, made: Path, tmp_path: Path, root: str) -> None:
        prefix = xens.clone(made, tmp_path / "at" / root) if root != "." else xens.clone(made, tmp_path / "at")
        sdk = xen.inspect(str(tmp_path / "at")).sdk
        assert sdk is not None
        assert sdk.include_dirs == (prefix.resolve() / "include",)

    @pytest.mark.parametrize("lib", ["lib64", f"lib/{layout.multiarch()}", "lib/x86_64-linux-gnu"])
    def test_library_folders(self, made: Path, tmp_path: Path, lib: str) -> None:
        root = xens.clone(made, tmp_path / "usr")
        libraries = (root / "lib").rename(root / "moved")
        (root / lib).parent.mkdir(parents=True, exist_ok=True)
        libraries.rename(root / lib)
        sdk = xen.inspect(str(tmp_path)).sdk
        assert sdk is not None
        assert sdk.library_dirs == (root / lib,)

    def test_the_most_complete_root_counts(self, install: Path) -> None:
        (install / "usr" / "include").mkdir()
        (install / "usr" / "include" / "xenctrl.h").touch()
        sdk = xen.inspect(str(install)).sdk
        assert sdk is not None
        assert sdk.include_dirs == (install / "usr" / "local" / "include",)

    def test_each_missing_thing_is_named(self, install: Path, state: StateDir, quiet_ui: Ui) -> None:
        local = install / "usr" / "local"
        (local / "include" / "xenctrl.h").unlink()
        (local / "include" / "xen" / "hvm" / "ioreq.h").unlink()
        for path in local.glob("lib/libxenstore.so*"):
            path.unlink()
        with pytest.raises(MissingError) as caught:
            xen.locate(str(install), state, quiet_ui)
        for name in ("header xenctrl.h", "header xen/hvm/ioreq.h", "library xenstore"):
            assert name in caught.value.message
        assert "xengnttab" not in caught.value.message
        assert caught.value.exit_code == 5
        assert caught.value.hint

    def test_dangling_link(self, install: Path) -> None:
        (install / "usr/local/lib/libxenctrl.so.4.20.0").unlink()
        assert any("dangling link to libxenctrl.so.4.20" in reason for reason in missing(install))

    def test_static_only(self, install: Path) -> None:
        (install / "usr/local/lib/libxengnttab.so").unlink()
        (install / "usr/local/lib/libxengnttab.a").touch()
        assert any("only the static libxengnttab.a" in reason for reason in missing(install))

    def test_other_machine(self, install: Path) -> None:
        path = (install / "usr/local/lib/libxenevtchn.so").resolve()
        content = bytearray(path.read_bytes())
        content[18:20] = (183).to_bytes(2, "little")  # EM_AARCH64
        path.write_bytes(content)
        assert any("is for AArch64 64-bit" in reason for reason in missing(install))

    @pytest.mark.parametrize("content", [b"INPUT(libxenevtchn.so.1)", b"\x7fELF", b""])
    def test_no_shared_library(self, install: Path, content: bytes) -> None:
        (install / "usr/local/lib/libxenevtchn.so").resolve().write_bytes(content)
        assert any("xenevtchn" in reason and "ELF file" in reason for reason in missing(install))

    def test_a_runtime_library_of_another_xen_would_be_taken(self, install: Path) -> None:
        for path in (install / "usr/local/lib").glob("libxencall.so*"):
            path.unlink()
        assert any("library xencall (libxencall.so.1, needed by" in reason for reason in missing(install))

    def test_a_broken_runtime_library(self, install: Path) -> None:
        (install / "usr/local/lib/libxencall.so.1").resolve().write_bytes(b"nothing")
        assert any(reason.startswith("library xencall: ") for reason in missing(install))

    def test_headers_of_a_newer_xen(self, tmp_path: Path, install: Path) -> None:
        xens.make_headers(install / "usr" / "local" / "include", "0x00041600")
        assert missing(install) == ("headers of the libraries' Xen: these are of 4.22 or newer, libxenctrl is 4.20",)

    def test_libxenctrl_without_version(self, install: Path) -> None:
        lib = install / "usr" / "local" / "lib"
        for path in lib.glob("libxenctrl.so*"):
            path.unlink()
        xens.make_library(lib, "xenctrl", "odd")
        assert missing(install) == (
            f"a Xen version in the SONAME of {lib / 'libxenctrl.so.odd.0'} (it is libxenctrl.so.odd)",
        )

    def test_nothing_there(self, tmp_path: Path, state: StateDir, quiet_ui: Ui) -> None:
        with pytest.raises(MissingError, match="neither headers nor libraries"):
            xen.locate(str(tmp_path), state, quiet_ui)

    def test_no_directory(self, tmp_path: Path, state: StateDir, quiet_ui: Ui) -> None:
        with pytest.raises(MissingError, match="not a directory"):
            xen.locate(str(tmp_path / "none"), state, quiet_ui)

    def test_a_relative_location(self, install: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(install.parent)
        sdk = xen.inspect("install").sdk
        assert sdk is not None
        assert sdk.location == "install"
        assert all(directory.is_absolute() for directory in sdk.include_dirs + sdk.library_dirs)


class TestSystem:
    @pytest.fixture
    def pc_dir(self, install: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """pkg-config files of a Xen in a place of its own, the only ones that pkg-config can find."""
        folder = install / "pc"
        folder.mkdir()
        for name, module in interface().modules.items():
            (folder / f"{module}.pc").write_text(
                f"Name: x\nDescription: x\nVersion: 4.20.0\nCflags: -I{install}/usr/local/include\n"
                f"Libs: -L{install}/usr/local/lib -l{name}\n"
            )
        confine(folder, monkeypatch)
        return folder

    def test_what_pkg_config_says(self, pc_dir: Path, install: Path, state: StateDir, quiet_ui: Ui) -> None:
        sdk = xen.locate("system", state, quiet_ui)
        assert (sdk.origin, sdk.version) == ("system", Version("4.20"))
        assert sdk.include_dirs == (install / "usr/local/include",)
        assert sdk.library_dirs == (install / "usr/local/lib",)
        assert xen.pkg_config_files(sdk) == {}

    def test_the_compilers_own_paths_when_pkg_config_knows_nothing(
        self, pc_dir: Path, install: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (pc_dir / "xenstore.pc").unlink()
        local = install / "usr" / "local"
        monkeypatch.setattr(layout, "_default_dirs", lambda: ((local / "include",), (local / "lib",)))
        assert xen.inspect("system").sdk is not None
        monkeypatch.setenv("PATH", str(install))
        assert xen.inspect("system").sdk is not None

    def test_only_what_the_build_obeys_leads_to_another_xen(
        self, pc_dir: Path, install: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "liar").write_text("#!/bin/sh\necho -I/liar -L/liar\n")
        (tmp_path / "liar").chmod(0o755)
        monkeypatch.setenv("PKG_CONFIG", str(tmp_path / "liar"))
        monkeypatch.setenv("PKG_CONFIG_SYSROOT_DIR", "/sysroot")
        assert layout.system().library_dirs == (install / "usr/local/lib",)
        (tmp_path / "other").mkdir()
        for file in pc_dir.glob("*.pc"):
            (tmp_path / "other" / file.name).write_text(file.read_text().replace("/usr/local/", "/usr/other/"))
        monkeypatch.setenv("PKG_CONFIG_PATH", str(tmp_path / "other"))
        assert layout.system().library_dirs == (install / "usr/other/lib",)

    def test_default_paths_are_existing_ones(self) -> None:
        include, libraries = layout._default_dirs()
        assert all(path.is_dir() and layout.searched_anyway(path) for path in include + libraries)

    def test_nothing_there(
        self, tmp_path: Path, state: StateDir, quiet_ui: Ui, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        confine(tmp_path, monkeypatch)
        monkeypatch.setattr(layout, "_default_dirs", lambda: ((), ()))
        with pytest.raises(MissingError) as caught:
            xen.locate("system", state, quiet_ui)
        assert "libxen-dev" in caught.value.hint

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/usr/include", True),
            (f"/usr/lib/{layout.multiarch()}", True),
            ("/usr/local/lib", True),
            ("/opt/xen/lib", False),
            ("/usr/local/lib/xen", False),
            ("/", False),
        ],
    )
    def test_searched_anyway(self, path: str, expected: bool) -> None:
        assert layout.searched_anyway(Path(path)) is expected

    def test_where_a_loader_looks(self, tmp_path: Path) -> None:
        for path in ("/lib", "/usr/lib", f"/usr/lib/{layout.multiarch()}"):
            assert layout.loader_searches(Path(path)), path
        assert not layout.loader_searches(tmp_path)
        listed = subprocess.run(
            ["/sbin/ldconfig", "-v", "-N", "-X"], capture_output=True, text=True, check=False
        ).stdout
        folders = [line.partition(":")[0] for line in listed.splitlines() if line.startswith("/")]
        assert folders
        assert all(layout.loader_searches(Path(folder)) for folder in folders)


class TestFlags:
    def test_as_the_guide_passes_them(self, install: Path) -> None:
        sdk = xen.inspect(str(install)).sdk
        assert sdk is not None
        local = install / "usr" / "local"
        assert xen.compile_flags(sdk) == (f"-I{local}/include",)
        assert xen.link_flags(sdk) == (f"-L{local}/lib", f"-Wl,-rpath-link={local}/lib")

    @pytest.mark.parametrize("name", ["plain", "with blank", "a$HOME'b\"c#d"])
    def test_pkg_config_understands_the_files(self, made: Path, tmp_path: Path, name: str) -> None:
        root = xens.clone(made, tmp_path / name / "usr" / "local")
        sdk = xen.inspect(str(tmp_path / name)).sdk
        assert sdk is not None
        files = xen.pkg_config_files(sdk)
        assert set(files) == {f"{module}.pc" for module in interface().modules.values()}
        folder = tmp_path / "pc"
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_text(content)
        environment = {**os.environ, "PKG_CONFIG_LIBDIR": str(folder)}
        environment.pop("PKG_CONFIG_PATH", None)

        def ask(*words: str) -> str:
            argv = ["pkg-config", *words]
            return subprocess.run(argv, env=environment, capture_output=True, check=True, text=True).stdout

        assert ask("--modversion", "xencontrol") == "4.20.0\n"
        assert ask("--modversion", "xengnttab") == "1.0\n"
        flags = shlex.split(ask("--cflags", "--libs", "xencontrol"))
        assert flags == [*xen.compile_flags(sdk), *xen.link_flags(sdk), "-lxenctrl"]
        assert flags[0] == f"-I{root}/include"

    def test_a_program_links_with_this_xen_and_no_other(self, install: Path, tmp_path: Path) -> None:
        sdk = xen.inspect(str(install)).sdk
        assert sdk is not None
        program = tmp_path / "program"
        subprocess.run(
            ["gcc", "-x", "c", "-", "-o", program, *xen.compile_flags(sdk), *xen.link_flags(sdk), "-lxenctrl"],
            input=b"#include <xenctrl.h>\nint xenctrl_works(void);\nint main(void) { return xenctrl_works(); }\n",
            check=True,
        )
        assert "libxenctrl.so.4.20" in elf.read(program).needed

    def test_version_of_a_library_without_one(self, tmp_path: Path) -> None:
        library = XenLibrary("xenstore", "libxenstore.so", tmp_path / "libxenstore.so", "0" * 64)
        sdk = XenSdk("prefix", "x", Version("4.21"), (), (), (library,))
        assert "Version: 4.21\n" in xen.pkg_config_files(sdk)["xenstore.pc"]


class TestDescribe:
    def test_usable(self, install: Path) -> None:
        report = xen.inspect(str(install))
        told = json.loads(json.dumps(xen.describe(report)))
        assert told["usable"] is True
        assert told["version"] == "4.20"
        assert told["reasons"] == []
        assert told["libraries"][0]["soname"] == "libxenctrl.so.4.20"
        assert report.sdk is not None

    def test_unusable(self, install: Path) -> None:
        shutil.rmtree(install / "usr/local/include")
        told = json.loads(json.dumps(xen.describe(xen.inspect(str(install)))))
        assert told["usable"] is False
        assert told["version"] == "4.20"
        assert "header xenctrl.h" in told["reasons"]
        assert len(told["libraries"]) == len(xens.LIBRARIES)


class TestParsers:
    @pytest.mark.parametrize(
        ("soname", "version"),
        [
            ("libxenctrl.so.4.20", "4.20"),
            ("libxenctrl.so.4.20.0", "4.20"),
            ("libxenctrl.so.4", None),
            ("libxenctrl.so", None),
            ("libxenctrl-4.20.so", None),
        ],
    )
    def test_soname_version(self, soname: str, version: str | None) -> None:
        assert soname_version(soname) == (Version(version) if version else None)

    @given(st.text())
    def test_soname_version_of_anything(self, text: str) -> None:
        soname_version(f"libxenctrl.so.{text}")

    @given(st.integers(0, 0xFF), st.integers(0, 0xFF))
    def test_interface_version(self, major: int, minor: int) -> None:
        text = f"#define __XEN_LATEST_INTERFACE_VERSION__ 0x{major << 16 | minor << 8:08x}\n"
        assert interface_version(text) == Version(f"{major}.{minor}")

    def test_no_interface_version(self) -> None:
        assert interface_version("#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__\n") is None

    _DIRECTORY = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), min_size=1)

    @given(st.lists(_DIRECTORY), st.lists(_DIRECTORY))
    def test_flags(self, include: list[str], library: list[str]) -> None:
        def escaped(text: str) -> str:
            return "".join(f"\\{letter}" if letter.isspace() or letter == "\\" else letter for letter in text)

        words = [f"-I/{escaped(name)}" for name in include] + [f"-L/{escaped(name)}" for name in library]
        expected = tuple(
            tuple(dict.fromkeys(Path(os.path.normpath(f"/{name}")) for name in names)) for names in (include, library)
        )
        assert layout.parse_flags(" ".join([*words, "-lxenctrl", "-pthread"]) + "\n") == expected

    @given(data=st.data())
    def test_a_damaged_elf_file_is_no_crash(self, made: Path, data: st.DataObject) -> None:
        content = bytearray((made / "lib" / "libxencall.so").read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
        del content[data.draw(st.integers(0, len(content))) :]
        path = made.parent / "damaged"
        path.write_bytes(content)
        with contextlib.suppress(elf.NotSharedObjectError):
            elf.read(path)

    def test_an_executable_is_no_library(self, tmp_path: Path) -> None:
        subprocess.run(["gcc", "-c", "-x", "c", "-", "-o", tmp_path / "object"], input=b"int x;", check=True)
        with pytest.raises(elf.NotSharedObjectError, match="not a shared library"):
            elf.read(tmp_path / "object")


def test_one_process_tells_about_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that has nothing to do asks this too, and has 0.7 s for everything."""
    calls = []
    real = proc.run

    def run(argv: proc.Argv, **kwargs: Any) -> proc.Completed:
        calls.append(argv)
        return real(argv, **kwargs)

    monkeypatch.setattr(proc, "run", run)
    xen.inspect("system")
    assert len(calls) == 1
