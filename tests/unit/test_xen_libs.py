from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tests.unit import xens
from xenqemu import proc, xen
from xenqemu.errors import BuildError, MissingError, SourceError
from xenqemu.source.apt import FetchedSource
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi, Ui
from xenqemu.xen import libs, packaged

_ROOTS = ("ctrl", "store", "foreignmemory", "gnttab", "evtchn", "devicemodel", "toolcore")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return xens.make_prefix(tmp_path_factory.mktemp("made"))


@pytest.fixture
def tree(tmp_path: Path, made: Path) -> Path:
    return xens.make_tree(tmp_path / "xen-unstable", made)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestUnbuiltTree:
    def test_says_what_to_do(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        with pytest.raises(MissingError) as caught:
            xen.locate(str(tree), state, quiet_ui)
        assert "no built libraries" in caught.value.message
        assert "--build-xen-libs" in caught.value.hint

    def test_is_built_in_a_copy(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        before = snapshot(tree)
        sdk = xen.locate(str(tree), state, quiet_ui, build_libs=True, jobs=2)
        assert snapshot(tree) == before
        assert (sdk.origin, sdk.location, sdk.version) == ("tree", str(tree), Version("4.20"))
        assert {library.name for library in sdk.libraries} == set(xens.LIBRARIES)
        assert all(directory.is_relative_to(state.xen) for directory in sdk.include_dirs + sdk.library_dirs)
        log = next(state.xen.glob("*/build.log")).read_text()
        assert "answers: yes" in log
        assert "--disable-werror" in log

    def test_a_second_time_costs_nothing_and_needs_no_flag(
        self, tree: Path, state: StateDir, quiet_ui: Ui, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built = xen.locate(str(tree), state, quiet_ui, build_libs=True)
        monkeypatch.setattr(proc, "stream", None)
        assert xen.locate(str(tree), state, quiet_ui, build_libs=True) == built
        assert xen.locate(str(tree), state, quiet_ui) == built
        assert xen.inspect(str(tree), state).sdk == built
        assert xen.inspect(str(tree)).sdk is None
        assert libs.build(tree, state, quiet_ui).is_relative_to(state.xen)

    def test_other_content_is_another_build(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        first = xen.locate(str(tree), state, quiet_ui, build_libs=True)
        (tree / "tools/libs/ctrl/ctrl.c").write_text("int other(void) { return 2; }\n")
        assert xen.inspect(str(tree), state).sdk is None
        second = xen.locate(str(tree), state, quiet_ui, build_libs=True)
        assert first.library_dirs != second.library_dirs

    def test_what_a_build_left_behind_is_no_content(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        first = xen.locate(str(tree), state, quiet_ui, build_libs=True)
        (tree / "config" / "Tools.mk").touch()
        (tree / "tools/libs/ctrl/ctrl.o").touch()
        (tree / "tools/libs/ctrl/libxenctrl.a").touch()
        assert xen.locate(str(tree), state, quiet_ui) == first

    @pytest.mark.parametrize("at", ["./configure", "tools/include", "tools/libs"])
    def test_interrupted(
        self, tree: Path, state: StateDir, quiet_ui: Ui, monkeypatch: pytest.MonkeyPatch, at: str
    ) -> None:
        real = proc.stream

        def interrupted(argv: proc.Argv, *args: object, **kwargs: object) -> int:
            if at in argv:
                raise KeyboardInterrupt
            return real(argv, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(proc, "stream", interrupted)
        with pytest.raises(KeyboardInterrupt):
            xen.locate(str(tree), state, quiet_ui, build_libs=True)
        monkeypatch.setattr(proc, "stream", real)
        assert xen.inspect(str(tree), state).sdk is None
        assert xen.locate(str(tree), state, quiet_ui, build_libs=True).version == Version("4.20")
        assert len(list(state.xen.iterdir())) == 1

    def test_a_damaged_copy_is_made_anew(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        copy = libs.build(tree, state, quiet_ui).parent.parent
        (copy / ".xenqemu-done").unlink()
        (copy / "tools/libs/store/store.c").write_text("#error half a file\n")
        assert xen.locate(str(tree), state, quiet_ui, build_libs=True).version == Version("4.20")
        assert (copy / "tools/libs/store/store.c").read_text() == (tree / "tools/libs/store/store.c").read_text()

    def test_a_failure_shows_its_last_lines_and_the_log(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        (tree / "tools/libs/store/store.c").write_text("#error out of stock\n")
        with pytest.raises(BuildError) as caught:
            xen.locate(str(tree), state, quiet_ui, build_libs=True)
        assert "make -C tools/libs failed" in caught.value.message
        assert "out of stock" in caught.value.message
        log = Path(caught.value.hint.removeprefix("the whole log: "))
        assert "out of stock" in log.read_text()
        with pytest.raises(BuildError, match="out of stock"):
            xen.locate(str(tree), state, quiet_ui, build_libs=True)

    def test_configure_fails(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        (tree / "configure").write_text("echo no such thing; exit 4\n")
        with pytest.raises(BuildError, match=r"configure failed \(exit 4\):\nno such thing"):
            xen.locate(str(tree), state, quiet_ui, build_libs=True)

    def test_libraries_that_come_out_unusable(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        (tree / "tools/include/xenstore.h").unlink()
        with pytest.raises(MissingError) as caught:
            xen.locate(str(tree), state, quiet_ui, build_libs=True)
        assert "header xenstore.h" in caught.value.message
        assert str(next(state.xen.iterdir())) in caught.value.hint

    def test_missing_programs_are_named_with_their_packages(
        self, tree: Path, state: StateDir, quiet_ui: Ui, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        monkeypatch.setenv("PATH", str(empty))
        monkeypatch.setenv("CC", "ccache gcc")
        with pytest.raises(MissingError) as caught:
            xen.locate(str(tree), state, quiet_ui, build_libs=True)
        assert all(name in caught.value.message for name in ("make", "perl", "ccache"))
        assert caught.value.hint.startswith("apt-get install ")
        assert "perl" in caught.value.hint
        assert not state.xen.exists()

    def test_the_environment_does_not_leak_but_the_compiler_counts(
        self, tree: Path, state: StateDir, quiet_ui: Ui, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XEN_ROOT", "/elsewhere")
        monkeypatch.setenv("DESTDIR", "/elsewhere")
        monkeypatch.setenv("CC", "gcc -O1")
        xen.locate(str(tree), state, quiet_ui, build_libs=True)
        assert "'CC=gcc -O1'" in next(state.xen.glob("*/build.log")).read_text()
        monkeypatch.delenv("CC")
        assert xen.inspect(str(tree), state).sdk is None

    def test_the_compiler_can_be_said(
        self, tree: Path, state: StateDir, quiet_ui: Ui, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CC", "gcc -O1")
        xen.locate(str(tree), state, quiet_ui, build_libs=True, cc="gcc -O2")
        assert "'CC=gcc -O2'" in next(state.xen.glob("*/build.log")).read_text()
        assert xen.inspect(str(tree), state, "gcc -O2").sdk is not None
        assert xen.inspect(str(tree), state).sdk is None

    def test_waits_for_another_run(
        self, tree: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch, quiet_ui: Ui
    ) -> None:
        """The one that comes second finds the result, and does not build again."""
        built = libs.build(tree, state, quiet_ui)
        done = built.parent.parent / ".xenqemu-done"
        done.unlink()
        real = StateDir.lock

        def locked(self: StateDir, name: str, ui: Ui) -> object:
            done.touch()
            return real(self, name, ui)

        monkeypatch.setattr(StateDir, "lock", locked)
        monkeypatch.setattr(proc, "stream", None)
        assert libs.build(tree, state, QuietUi()) == built


class TestBuiltTree:
    def test_dist_install_counts_first(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        xens.make_prefix(tree / "dist" / "install" / "usr" / "local", version="4.21")
        sdk = xen.locate(str(tree), state, quiet_ui, build_libs=True)
        assert (sdk.origin, sdk.version) == ("tree", Version("4.21"))
        assert not state.xen.exists()

    def test_libraries_built_in_place(self, tree: Path, tmp_path: Path, state: StateDir, quiet_ui: Ui) -> None:
        prefix = xens.make_prefix(tmp_path / "prefix", version="4.19", headers="0x00040e00")
        shutil.rmtree(tree / "tools" / "include")
        shutil.copytree(prefix / "include", tree / "tools" / "include")
        for name in xens.LIBRARIES:
            for file in (prefix / "lib").glob(f"lib{name}.so*"):
                shutil.copy2(file, tree / "tools/libs" / name.removeprefix("xen"), follow_symlinks=False)
        sdk = xen.locate(str(tree), state, quiet_ui)
        assert (sdk.origin, sdk.version) == ("tree", Version("4.19"))
        assert sdk.include_dirs == (tree / "tools" / "include",)
        assert tree / "tools" / "libs" / "ctrl" in sdk.library_dirs
        assert xen.link_flags(sdk).count(f"-Wl,-rpath-link={tree}/tools/libs/call") == 1

    def test_half_an_installation_is_what_is_reported(self, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        local = xens.make_prefix(tree / "dist" / "install" / "usr" / "local")
        (local / "include" / "xenctrl.h").unlink()
        with pytest.raises(MissingError, match=r"missing: header xenctrl\.h"):
            xen.locate(str(tree), state, quiet_ui)


class TestUselibs:
    def test_what_qemu_needs_and_no_more(self) -> None:
        uses = libs.parse_uselibs(xens._USELIBS)
        assert uses["devicemodel"] == ("toollog", "toolcore", "call")
        assert uses["toolcore"] == ()
        order = libs.build_order(uses, _ROOTS)
        assert order == tuple(name for name in uses if name != "light")

    _NAME = st.text("abcxyz_09", min_size=1, max_size=8)

    @given(st.dictionaries(_NAME, st.lists(_NAME, max_size=4), max_size=8))
    def test_reads_what_is_written(self, uses: dict[str, list[str]]) -> None:
        text = "".join(f"LIBS_LIBS += {name}\nUSELIBS_{name} := {' '.join(words)}\n" for name, words in uses.items())
        assert libs.parse_uselibs(text) == {name: tuple(words) for name, words in uses.items()}

    @given(st.text())
    def test_anything_else_is_no_crash(self, text: str) -> None:
        assert set(libs.build_order(libs.parse_uselibs(text), _ROOTS)) <= set(_ROOTS)

    def test_a_cycle_ends(self) -> None:
        assert libs.build_order({"a": ("b",), "b": ("a",)}, ["a"]) == ("a", "b")


def test_the_environment_has_a_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH", raising=False)
    assert shutil.which("python3", path=libs._environment()["PATH"])
    assert os.environ.get("PATH") is None


class TestArchive:
    """`distro:4.20`: the source tree that the machine's package archive has."""

    @pytest.fixture
    def tarball(self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        tree.joinpath("configure").chmod(0o755)
        tree.joinpath("tools/libs/link.c").symlink_to("ctrl/ctrl.c")
        os.link(tree / "configure", tree / "tools/configure")
        path = tmp_path / "xen_4.20.3.orig.tar.xz"
        with tarfile.open(path, "w:xz") as tar:
            tar.add(tree, "xen-4.20.3")

        def fetch(package: str, series: str, *_: object) -> FetchedSource:
            assert (package, series) == ("xen", "4.20")
            return FetchedSource(path, "4.20.3", hashlib.sha256(path.read_bytes()).hexdigest(), "trixie")

        monkeypatch.setattr(packaged, "fetch_source", fetch)
        return path

    def test_is_unpacked_and_built_once(self, tarball: Path, tree: Path, state: StateDir, quiet_ui: Ui) -> None:
        sdk = xen.locate("distro:4.20", state, quiet_ui)
        assert (sdk.origin, sdk.location, sdk.version) == ("tree", "distro:4.20", Version("4.20"))
        unpacked = xen.find_packaged("distro:4.20", state, quiet_ui)
        assert unpacked is not None
        assert {name: content for name, (content, _) in snapshot(unpacked).items()} == {
            name: content for name, (content, _) in snapshot(tree).items()
        }
        assert (unpacked / "tools/libs/link.c").is_symlink()
        assert (unpacked / "tools/configure").stat().st_mode & 0o777 == 0o755
        marked = unpacked / "marked"
        marked.touch()
        assert xen.locate("distro:4.20", state, quiet_ui) == sdk
        assert marked.exists()
        assert list(state.xen.glob("source-*")) == [unpacked]

    def test_one_that_climbs_out_leaves_nothing(self, tarball: Path, state: StateDir, quiet_ui: Ui) -> None:
        with tarfile.open(tarball, "w:xz") as tar:
            link = tarfile.TarInfo("xen-4.20.3/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        with pytest.raises(SourceError, match="points outside"):
            xen.locate("distro:4.20", state, quiet_ui)
        assert not list(state.xen.glob("source-*"))

    def test_any_other_name_is_none_of_the_archives(self, state: StateDir, quiet_ui: Ui) -> None:
        assert xen.find_packaged("system", state, quiet_ui) is None
        with pytest.raises(MissingError, match="not a directory"):
            xen.locate("distrust", state, quiet_ui)
