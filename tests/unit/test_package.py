"""Packages of a small build: what is in them, what they depend on, that the same build gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
from debian.changelog import Changelog
from debian.copyright import Copyright
from debian.deb822 import Deb822
from debian.debfile import DebFile
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from xenqemu.build.manifest import dump_manifest, list_outputs
from xenqemu.cli.main import _run as run_cli
from xenqemu.errors import BuildError, MissingError, UsageError
from xenqemu.package import Build, PackageRequest, debian, find_build, package_deb, package_tar, read_build
from xenqemu.package.built import source_date
from xenqemu.proc import run
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi

WHO = "A Tester <tester@example.org>"
DATE = 1_700_000_000
PROGRAM = "bin/qemu-system-xen"
Make = Callable[..., Path]


def gcc(target: Path, source: str, *flags: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-x", "c", "-", "-x", "none", "-o", target, *flags, "-s"], input=source.encode(), check=True)


def write_manifest(folder: Path, **more: Any) -> None:
    outputs = [entry for entry in list_outputs(folder) if entry["path"] not in ("manifest.json", "build.log")]
    manifest = {
        "xenqemu": "0.1.0",
        "key": "ab" * 32,
        "program": PROGRAM,
        "qemu": {"version": "10.2.2", "commit": "c0ffee", "origin": {}},
        "patches": [{"topic": "010-a"}],
        "profile": {"name": "hvm"},
        "xen": {"version": "4.99.1"},
        "tools": {"target": "x86_64-linux-gnu"},
        "hardening": {"program": {"build_id": "abcdef0123"}},
        "options": {"recipe": {"environment": {"SOURCE_DATE_EPOCH": "315532800"}}},
        "outputs": outputs,
    }
    (folder / "manifest.json").write_bytes(dump_manifest(manifest | more))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program, a library of Xen that comes along and needs another, and a keymap."""
    folder = tmp_path_factory.mktemp("built") / "dist"
    lib = folder / "lib"
    gcc(lib / "libxencall.so.1", "int f(void) { return 42; }", "-shared", "-fPIC", "-Wl,-soname,libxencall.so.1")
    shared = ("-shared", "-fPIC", "-Wl,-soname,libxenctrl.so.4.99", str(lib / "libxencall.so.1"))
    gcc(lib / "libxenctrl.so.4.99", "int f(void); int g(void) { return f(); }", *shared)
    found = ("-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/../lib", "-Wl,--build-id=0xabcdef0123")
    source = "int f(void); int g(void); int main(void) { return f() + g() - 84; }"
    gcc(folder / PROGRAM, source, *map(str, lib.iterdir()), *found)
    for path in lib.iterdir():
        path.chmod(0o644)
    (folder / "share/qemu/keymaps").mkdir(parents=True)
    (folder / "share/qemu/keymaps/de").write_text("map 0x407\n")
    (folder / "build.log").write_text("another one in every build")
    write_manifest(folder)
    return folder


@pytest.fixture
def make(small: Path, tmp_path: Path) -> Make:
    """Return a function that makes a build of its own, changed and with a new manifest."""

    def make(change: Callable[[Path], object] = lambda folder: None, **more: Any) -> Path:
        folder = tmp_path / "dist"
        subprocess.run(["cp", "-a", small, folder], check=True)
        change(folder)
        write_manifest(folder, **more)
        return folder

    return make


@pytest.fixture
def request_(tmp_path: Path) -> PackageRequest:
    return PackageRequest(tmp_path / "out", DATE, maintainer=WHO)


def test_a_tarball_is_one_folder_with_everything_in_it(
    small: Path, request_: PackageRequest, quiet_ui: QuietUi
) -> None:
    made = package_tar(read_build(small), request_, quiet_ui)
    assert made.path.name == "xenqemu-system-xen-10.2.2+xen4.99-0xenqemu1-x86_64.tar.xz"
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert made.as_dict()["size"] == made.path.stat().st_size
    with tarfile.open(made.path) as archive:
        members = archive.getmembers()
        archive.extractall(request_.out, filter="data")
    top = made.path.name.removesuffix(".tar.xz")
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {member.name.partition("/")[0] for member in members} == {top}
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", DATE)}
    modes = {member.name.removeprefix(f"{top}/"): oct(member.mode) for member in members}
    assert modes[PROGRAM] == modes["share/qemu"] == "0o755"
    assert modes["share/qemu/keymaps/de"] == modes["manifest.json"] == "0o644"
    assert "build.log" not in modes
    assert subprocess.run([request_.out / top / PROGRAM], check=False).returncode == 0
    assert read_build(request_.out / top).manifest == read_build(small).manifest


def test_a_debian_package_has_its_own_folder_and_finds_its_own_libraries(
    small: Path, request_: PackageRequest, state: StateDir, quiet_ui: QuietUi
) -> None:
    (made,) = package_deb(read_build(small), request_, state, quiet_ui)
    assert made.path.name == "xenqemu-system-xen_10.2.2+xen4.99-0xenqemu1_amd64.deb"
    assert [word.partition(" ")[0] for word in made.depends] == ["libc6"]
    package = DebFile(made.path)
    control = package.debcontrol()
    assert (control["Package"], control["Version"], control["Maintainer"]) == (made.name, made.version, WHO)
    assert control["Depends"] == made.depends[0]
    with package.data.tgz() as archive:
        members = archive.getmembers()
    assert {(m.uid, m.gid, m.mtime) for m in members} == {(0, 0, DATE)}
    files = {member.name.removeprefix("."): member for member in members if member.isfile()}
    own = f"/usr/lib/{made.name}/"
    assert {name.removeprefix(own) for name in files if name.startswith(own)} == {
        *(str(path) for path in read_build(small).files),
        "manifest.json",
    }
    others = {name for name in files if not name.startswith(own)}
    assert others == {f"/usr/share/doc/{made.name}/{name}" for name in ("changelog.Debian.gz", "copyright")}
    assert [name for name, member in files.items() if member.mode != 0o644] == [own + PROGRAM]
    assert {f"/{name.decode()}" for name in package.md5sums()} == set(files)
    assert package.control.scripts() == {}
    assert -(-sum(member.size for member in members) // 1024) <= int(control["Installed-Size"])


def test_what_a_debian_package_says_of_itself(
    small: Path, request_: PackageRequest, state: StateDir, quiet_ui: QuietUi
) -> None:
    (made,) = package_deb(read_build(small), request_, state, quiet_ui)
    package = DebFile(made.path)
    log = package.changelog()
    assert isinstance(log, Changelog)
    assert (log.package, str(log.version), log.author) == (made.name, made.version, WHO)
    assert log.date == "Tue, 14 Nov 2023 22:13:20 +0000"
    copyright_ = Copyright(package.data.get_file(f"usr/share/doc/{made.name}/copyright", encoding="utf-8"))
    names = [(entry["Files"], entry["License"].partition("\n")[0]) for entry in copyright_.all_files_paragraphs()]
    assert names == [("*", "GPL-2"), (f"usr/lib/{made.name}/lib/*", "LGPL-2.1")]
    assert package.debcontrol()["Description"].endswith("The libraries of that Xen come along.")
    assert f"\n  /usr/lib/{made.name}/{PROGRAM}\n" in package.debcontrol()["Description"]


def test_the_same_build_gives_the_same_bytes(
    make: Make, small: Path, request_: PackageRequest, state: StateDir, tmp_path: Path, quiet_ui: QuietUi
) -> None:
    def touch(folder: Path) -> None:
        (folder / "build.log").write_text("another log")
        for path in folder.rglob("*"):
            os.utime(path, (1, 1))

    again = StateDir(tmp_path / "another/state").create()
    first = [package_tar(read_build(small), request_, quiet_ui)]
    first += package_deb(read_build(small), request_, state, quiet_ui)
    umask = os.umask(0o077)
    try:
        later = replace(request_, out=tmp_path / "later")
        other = read_build(make(touch))
        second = [package_tar(other, later, quiet_ui), *package_deb(other, later, again, quiet_ui)]
    finally:
        os.umask(umask)
    assert [one.sha256 for one in first] == [one.sha256 for one in second]
    for before, after in zip(first, second, strict=True):
        assert before.path.read_bytes() == after.path.read_bytes()
    assert list((state.root / "tmp").iterdir()) == []


def test_debug_information_is_a_package_of_its_own(
    make: Make, request_: PackageRequest, state: StateDir, quiet_ui: QuietUi
) -> None:
    build = read_build(make(lambda folder: (folder / f"{PROGRAM}.debug").write_text("debug")))
    assert build.debug == PurePosixPath(f"{PROGRAM}.debug")
    first, second = package_deb(build, request_, state, quiet_ui)
    assert (first.name, second.name) == ("xenqemu-system-xen", "xenqemu-system-xen-dbgsym")
    assert second.depends == (f"{first.name} (= {first.version})",)
    package = DebFile(second.path)
    assert package.data.get_content("usr/lib/debug/.build-id/ab/cdef0123.debug") == b"debug"
    with package.data.tgz() as archive:
        link = archive.getmember(f"./usr/share/doc/{second.name}")
    assert (link.issym(), link.linkname, link.mtime) == (True, first.name, DATE)
    assert package.debcontrol()["Build-Ids"] == "abcdef0123"
    assert not any(name.endswith(".debug") for name in DebFile(first.path).data)


def test_without_libraries_of_its_own(make: Make, request_: PackageRequest, state: StateDir, quiet_ui: QuietUi) -> None:
    def plain(folder: Path) -> None:
        subprocess.run(["rm", "-r", folder / "lib"], check=True)
        gcc(folder / PROGRAM, "int main(void) { return 0; }")

    build = read_build(make(plain, profile={"name": "Mine_2"}))
    (made,) = package_deb(build, request_, state, quiet_ui)
    assert made.name == "xenqemu-system-xen-mine-2"
    assert "come along" not in DebFile(made.path).debcontrol()["Description"]


def test_a_library_of_no_package_is_named(
    make: Make, request_: PackageRequest, state: StateDir, tmp_path: Path, quiet_ui: QuietUi
) -> None:
    gcc(tmp_path / "libnobodys.so.1", "int h(void) { return 0; }", "-shared", "-fPIC", "-Wl,-soname,libnobodys.so.1")
    library = str(tmp_path / "libnobodys.so.1")
    build = read_build(make(lambda f: gcc(f / PROGRAM, "int h(void); int main(void) { return h(); }", library)))
    with pytest.raises(BuildError, match=r"dpkg-shlibdeps failed: .*libnobodys\.so\.1"):
        package_deb(build, request_, state, quiet_ui)


def test_a_library_that_no_package_has(
    small: Path, request_: PackageRequest, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(argv: Any, **more: Any) -> Any:
        if argv[0] == "dpkg-shlibdeps":
            said = "dpkg-shlibdeps: error: no dependency information found for /usr/local/lib/libz.so.1 (used by x)"
            return SimpleNamespace(argv=argv, ok=False, stderr=said, stdout="")
        return run(argv, **more)

    monkeypatch.setattr(debian, "run", failing)
    with pytest.raises(MissingError, match=r"no package of this machine has /usr/local/lib/libz\.so\.1"):
        package_deb(read_build(small), request_, state, quiet_ui)


def test_without_the_tools(
    small: Path, request_: PackageRequest, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingError, match="dpkg-architecture") as error:
        package_deb(read_build(small), request_, state, quiet_ui)
    assert "dpkg-dev" in error.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "share/qemu/keymaps/de").write_text("other"), "is not what it was"),
        (lambda folder: (folder / "share/qemu/keymaps/de").unlink(), "cannot be read"),
        (lambda folder: rewrite(folder, lambda outputs: outputs[0].update(path="../x")), "outside its folder"),
        (lambda folder: rewrite(folder, lambda outputs: outputs[0].update(path="/etc/passwd")), "outside its folder"),
    ],
)
def test_a_build_that_is_not_as_its_manifest_says(make: Make, change: Callable[[Path], object], message: str) -> None:
    folder = make()
    change(folder)
    with pytest.raises(BuildError, match=message):
        read_build(folder)


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest["outputs"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_libraries_in_a_folder_of_the_builder(make: Make) -> None:
    source = "int main(void) { return 0; }"
    folder = make(lambda folder: gcc(folder / PROGRAM, source, "-Wl,-rpath,$ORIGIN/../lib:/root/x"))
    with pytest.raises(BuildError, match="looks for libraries in /root/x"):
        read_build(folder)


def test_what_is_no_build(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no build in it"):
        read_build(tmp_path)
    (tmp_path / "manifest.json").write_text('{"xenqemu": "0", "outputs": []}')
    with pytest.raises(UsageError, match="has no build in it"):
        read_build(tmp_path)


def build_of(version: str = "10.2.2", xen: str = "4.17.5", profile: str = "hvm") -> Build:
    manifest = {"qemu": {"version": version}, "xen": {"version": xen}, "profile": {"name": profile}}
    return Build(Path(), manifest)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("10.2.2", "10.2.2+xen4.17-0xenqemu1"),
        ("10.2.0rc1", "10.2.0~rc1+xen4.17-0xenqemu1"),
        ("10.2.50.dev3", "10.2.50~.dev3+xen4.17-0xenqemu1"),
    ],
)
def test_versions_sort_as_those_of_qemu_do(request_: PackageRequest, version: str, expected: str) -> None:
    assert request_.version_for(build_of(version)) == expected


@given(st.lists(st.integers(0, 99), min_size=2, max_size=3), st.sampled_from(["", "rc1", "rc2", ".dev1"]))
def test_dpkg_takes_any_version(numbers: list[int], suffix: str) -> None:
    version = str(Version(".".join(map(str, numbers)) + suffix))
    made = PackageRequest(Path(), 0).version_for(build_of(version))
    assert Deb822({"Version": made})
    assert set(made) <= set("0123456789.+~-abcdefghijklmnopqrstuvwxyz")
    assert made.count("-") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Name"}, "cannot be a package's name"),
        ({"name": "../x"}, "cannot be a package's name"),
        ({"revision": "1-2"}, "cannot be a revision"),
        ({"revision": ""}, "cannot be a revision"),
        ({"maintainer": ""}, "a Debian package needs a maintainer"),
        ({"maintainer": "me"}, "'me' is no maintainer"),
        ({"maintainer": "A\nDepends: x <a@b>"}, "is no maintainer"),
    ],
)
def test_words_that_no_package_can_have(
    small: Path, request_: PackageRequest, state: StateDir, quiet_ui: QuietUi, change: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        package_deb(read_build(small), replace(request_, **change), state, quiet_ui)
    assert not request_.out.exists()


def test_a_folder_that_cannot_be_written(small: Path, request_: PackageRequest, quiet_ui: QuietUi) -> None:
    request_.out.write_text("a file")
    with pytest.raises(UsageError, match="cannot be written"):
        package_tar(read_build(small), request_, quiet_ui)


def test_dates(small: Path) -> None:
    build = read_build(small)
    assert source_date(build, {}) == 315532800
    assert source_date(build, {"SOURCE_DATE_EPOCH": "12"}) == 12
    for text in ("soon", "-1", "1.5", "\u0661", "99999999999"):
        with pytest.raises(UsageError, match="is no date"):
            source_date(build, {"SOURCE_DATE_EPOCH": text})


@pytest.fixture
def here(nobodys_settings: None, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DEBFULLNAME", "DEBEMAIL", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_commands(
    here: Path, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["package", "tar", "--from", str(small), "--out", "out", "--revision", "2"]) == 0
    assert capsys.readouterr().out == "out/xenqemu-system-xen-10.2.2+xen4.99-0xenqemu2-x86_64.tar.xz\n"
    subprocess.run(["cp", "-a", small, here / "dist"], check=True)
    assert run_cli(["package", "deb", "--json"]) == 2
    assert "needs a maintainer" in json.loads(capsys.readouterr().out)["error"]["message"]
    monkeypatch.setenv("DEBEMAIL", "tester@example.org")
    monkeypatch.setenv("DEBFULLNAME", "A Tester")
    assert run_cli(["package", "deb", "--name", "mine", "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)["packages"]
    assert made["file"] == str(here / "mine_10.2.2+xen4.99-0xenqemu1_amd64.deb")
    assert DebFile(made["file"]).debcontrol()["Maintainer"] == WHO
    assert run_cli(["package", "tar", "--from", "x", "--artifact", "y"]) == 2
    assert run_cli(["package", "tar", "--artifact", "abcd"]) == 2


def test_an_artifact_of_the_state_directory(small: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(state.root)
    kept = state.artifacts / ("ab" * 32)
    kept.mkdir(parents=True)
    subprocess.run(["cp", "-a", small, kept / "tree"], check=True)
    (kept / "tree/manifest.json").rename(kept / "manifest.json")
    (kept / "tree/build.log").rename(kept / "build.log")
    for key in ("abab", None):
        found = find_build(state, key=key)
        assert (found.tree, found.xen, found.profile) == (kept / "tree", "4.99", "hvm")
    with pytest.raises(MissingError, match="no device model"):
        find_build(StateDir(state.root / "empty").create())
