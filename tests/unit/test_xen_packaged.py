"""`distro:4.20` where the archive lists the source and does not give it: the development packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from tests.unit import xens
from tests.unit.fake_archive import FakeArchive
from tests.unit.keys import Signer
from xenqemu import xen
from xenqemu.archive.mirrors import machine_archive
from xenqemu.errors import MissingError, UnservedError
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi
from xenqemu.xen import packaged
from xenqemu.xen.layout import find_library

VERSION = "4.20.4+63-g1-0+deb13u1"
MULTIARCH = "usr/lib/x86_64-linux-gnu"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return xens.make_prefix(tmp_path_factory.mktemp("made"))


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state").create()


@pytest.fixture
def archive(key: Signer, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """One that lists Xen 4.20 in trixie, with headers and links in one package and the libraries in another."""
    archive = FakeArchive(tmp_path / "archive", key, key.export(tmp_path / "archive.gpg", armor=False))
    archive.add("bookworm", "xen", "4.17.5-1", None, "xen_4.17.5.orig.tar.xz")
    archive.add("trixie", "xen", VERSION, None, "xen_4.20.4+63-g1.orig.tar.xz")
    development: dict[str, bytes | str] = {
        f"usr/include/{path.relative_to(made / 'include')}": path.read_bytes()
        for path in (made / "include").rglob("*.h")
    }
    libraries: dict[str, bytes | str] = {"usr/lib/x86_64-linux-gnu/libother.so.1": b"none of Xen's"}
    for path in (made / "lib").iterdir():
        whose = development if path.name.endswith(".so") else libraries
        whose[f"{MULTIARCH}/{path.name}"] = str(path.readlink()) if path.is_symlink() else path.read_bytes()
    archive.add_binary("trixie", "libxen-dev", VERSION, development, depends="libxenmisc4.20")
    archive.add_binary("trixie", "libxenmisc4.20", VERSION, libraries)
    archive.add_binary("bookworm", "libother", "1", {"usr/share/other": b""})
    archive.publish()
    etc = archive.etc(tmp_path / "etc")
    for module in ("source.apt", "xen.packaged"):
        monkeypatch.setattr(f"xenqemu.{module}.machine_archive", lambda: machine_archive(etc, etc / "os-release"))
    return archive


@pytest.mark.usefixtures("archive")
def test_headers_and_libraries_are_those_of_the_packages(
    made: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = xen.locate("distro:4.20", state, QuietUi())
    assert (sdk.origin, sdk.location, sdk.version) == ("prefix", "distro:4.20", Version("4.20"))
    assert {library.name for library in sdk.libraries} == set(xens.LIBRARIES)
    for library in sdk.libraries:
        assert library.path.is_relative_to(state.xen)
        assert library.path.read_bytes() == (made / "lib" / library.path.name).read_bytes()
    assert not list(state.xen.rglob("libother*"))

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the archive was asked again")

    monkeypatch.setattr(packaged, "fetch_source", asked)
    assert xen.locate("distro:4.20", state, QuietUi()) == sdk


@pytest.mark.usefixtures("archive")
def test_a_library_that_needs_a_newer_c_library_is_this_machines(
    made: Path, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own" / "libxenstore.so.4"
    own.parent.mkdir()
    own.write_bytes((made / "lib" / "libxenstore.so.4").read_bytes() + b"this machine's")
    needs = {"libxenstore.so.4.0": Version("2.38"), "libxenctrl.so.4.20.0": Version("2.36")}
    monkeypatch.setattr(packaged, "needed_glibc", lambda file: needs.get(file.name, Version("0")))
    monkeypatch.setattr(packaged, "provided_glibc", lambda _: Version("2.36"))
    monkeypatch.setattr(packaged, "find_library", lambda name: own if name == own.name else find_library(name))
    files = {library.name: library.path for library in xen.locate("distro:4.20", state, QuietUi()).libraries}
    assert files["xenstore"].read_bytes() == own.read_bytes()
    assert files["xenctrl"].read_bytes() == (made / "lib" / "libxenctrl.so.4.20").read_bytes()


@pytest.mark.usefixtures("archive")
def test_one_that_this_machine_has_not_is_told_missing(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "needed_glibc", lambda file: Version("9" if "xenctrl" in file.name else "0"))
    with pytest.raises(MissingError, match="xenctrl"):
        xen.locate("distro:4.20", state, QuietUi())


def test_a_xen_that_no_suite_has_packages_of(archive: FakeArchive, state: StateDir) -> None:
    with pytest.raises(UnservedError, match=r"lists xen 4\.17 but does not serve it"):
        xen.locate("distro:4.17", state, QuietUi())
    archive.add_binary("bookworm", "libxen-dev", "4.16.1-1", {"usr/include/xenctrl.h": b""})
    archive.publish()
    for stamp in state.apt.glob("*/updated"):
        stamp.unlink()
    with pytest.raises(UnservedError):  # packages of another Xen are none
        xen.locate("distro:4.17", state, QuietUi())
