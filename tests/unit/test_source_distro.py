"""The package archive: what is derived from the machine's configuration, and a signed archive of our own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.unit.fake_archive import FakeArchive
from tests.unit.fake_qemu import write_fake_qemu
from tests.unit.keys import Signer, signer
from tests.unit.test_source_forms import obtained, pack
from xenqemu.archive.mirrors import Archive, machine_archive
from xenqemu.errors import MissingError, SourceError
from xenqemu.source import QemuTree, apt, obtain, parse_source
from xenqemu.source.apt import FetchedSource, fetch_source
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi


class Told(QuietUi):
    """Keeps the warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def served(tmp_path: Path, key: Signer) -> FakeArchive:
    """Bookworm has 7.2, trixie 10.0, unstable 10.2 and a 11.1 that is not served."""
    made = FakeArchive(tmp_path / "archive", key, key.export(tmp_path / "archive.gpg", armor=False))
    for suite, version, upstream, name in (
        ("bookworm", "1:7.2+dfsg-7", "7.2.0", "qemu_7.2+dfsg"),
        ("trixie", "1:10.0.13+ds-0", "10.0.13", "qemu_10.0.13+ds"),
        ("trixie", "1:10.2.1+ds-1", "10.2.1", "qemu_10.2.1+ds"),
        ("unstable", "1:10.2.2+ds-1", "10.2.2", "qemu_10.2.2+ds"),
        ("unstable", "1:11.1.2+ds-3", "", "qemu_11.1.2+ds"),
    ):
        tarball = None
        if upstream:
            write_fake_qemu(tmp_path / upstream, upstream)
            tarball = pack(tmp_path / upstream, tmp_path / f"{upstream}.tar.xz")
        made.add(suite, "qemu", version, tarball, f"{name}.orig.tar.xz")
    made.publish()
    return made


@pytest.fixture
def archive(served: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    etc = served.etc(tmp_path / "etc")
    made = machine_archive(etc, etc / "os-release")
    monkeypatch.setattr(apt, "machine_archive", lambda: made)
    return made


def got(text: str, state: StateDir, ui: QuietUi | None = None, *, refresh: bool = False) -> QemuTree:
    return obtain(parse_source(text, refresh=refresh), state, ui or QuietUi(), supported_series=("7.2", "10.0", "10.2"))


def test_the_archive_is_derived_from_the_machine(served: FakeArchive, archive: Archive) -> None:
    assert archive.codename == "bookworm"
    assert archive.suites[0] == "bookworm"
    assert {"trixie", "testing", "unstable", "bookworm-backports"} < set(archive.suites)
    assert len(set(archive.suites)) == len(archive.suites)
    assert [mirror.suite for mirror in archive.mirrors] == ["bookworm"]
    text = archive.mirrors[0].source("trixie")
    assert f"URIs: {served.uri}\nSuites: trixie\nComponents: main\nSigned-By: {served.keyring}\n" in text
    assert text.startswith("Types: deb-src\n")
    assert ".invalid" not in text


@pytest.mark.parametrize("text", ["distro", "distro:10.2"])
def test_the_newest_of_the_series(text: str, archive: Archive, state: StateDir, tmp_path: Path) -> None:
    tree = got(text, state)
    assert tree.tree == obtained(tmp_path / "10.2.2", state).tree
    assert tree.origin["suite"] == "unstable"
    assert tree.origin["verified"] == "archive signature"
    assert tree.origin["sha256"] == hashlib.sha256((tmp_path / "10.2.2.tar.xz").read_bytes()).hexdigest()


def test_each_series_comes_from_the_suite_that_has_it(archive: Archive, state: StateDir) -> None:
    assert str(got("distro:7.2", state).version) == "7.2.0"
    assert got("distro:7.2", state).origin["suite"] == "bookworm"
    assert str(got("distro:10.0", state).version) == "10.0.13"
    assert str(got("distro:10", state).version) == "10.2.2"


def test_a_file_that_is_not_served_gives_way_to_an_older_one(
    served: FakeArchive, archive: Archive, state: StateDir
) -> None:
    ui = Told()
    (served.root / "pool/qemu/qemu_10.2.2+ds.orig.tar.xz").unlink()
    assert str(got("distro:10.2", state, ui).version) == "10.2.1"
    assert ui.warnings[0].startswith("qemu 10.2.2 is listed in unstable but cannot be had: ")
    shutil.rmtree(served.root / "pool")
    (served.root / "pool/qemu").mkdir(parents=True)
    shutil.copy(served.root.parent / "10.0.13.tar.xz", served.root / "pool/qemu/qemu_10.0.13+ds.orig.tar.xz")
    other = StateDir(state.root.parent / "other").create()
    assert str(got("distro", other).version) == "10.0.13"
    with pytest.raises(SourceError, match=r"lists qemu 11\.1 but does not serve it"):
        got("distro:11.1", state)


def test_a_series_that_is_not_there(archive: Archive, state: StateDir) -> None:
    with pytest.raises(SourceError, match=r"has no qemu 9\.1 \(asked: bookworm, trixie, unstable\)"):
        got("distro:9.1", state)
    with pytest.raises(SourceError, match="has no xen"):
        fetch_source("xen", "", state, QuietUi())


def test_a_second_time_nothing_is_asked(served: FakeArchive, archive: Archive, state: StateDir) -> None:
    first = got("distro:10.2", state)
    shutil.rmtree(served.root)
    assert got("distro:10.2", state) == first
    with pytest.raises(SourceError, match="the package archive cannot be read"):
        got("distro:10.2", state, refresh=True)


def test_a_refresh_finds_what_is_new(served: FakeArchive, archive: Archive, state: StateDir, tmp_path: Path) -> None:
    got("distro:10.2", state)
    write_fake_qemu(tmp_path / "10.2.3", "10.2.3")
    tarball = pack(tmp_path / "10.2.3", tmp_path / "10.2.3.tar.xz")
    served.add("unstable", "qemu", "1:10.2.3+ds-1", tarball, "qemu_10.2.3+ds.orig.tar.xz")
    served.publish()
    assert str(got("distro:10.2", state).version) == "10.2.2"
    assert str(got("distro:10.2", state, refresh=True).version) == "10.2.3"


def test_a_download_that_was_removed_comes_again(archive: Archive, state: StateDir) -> None:
    first = got("distro:10.2", state)
    shutil.rmtree(state.downloads)
    assert got("distro:10.2", state) == first


@pytest.mark.parametrize("damage", ["same size", "empty"])
@pytest.mark.parametrize("again", ["remembered", "refreshed"])
def test_a_download_that_was_damaged_comes_again(again: str, damage: str, archive: Archive, state: StateDir) -> None:
    first = fetch_source("qemu", "10.2", state, QuietUi())
    whole = first.path.read_bytes()
    first.path.write_bytes(bytes(len(whole)) if damage == "same size" else b"")
    assert fetch_source("qemu", "10.2", state, QuietUi(), refresh=again == "refreshed") == first
    assert first.path.read_bytes() == whole


def test_a_partial_file_of_a_power_cut_does_not_matter(archive: Archive, state: StateDir) -> None:
    first = fetch_source("qemu", "10.2", state, QuietUi())
    size = first.path.stat().st_size
    part = first.path.with_name(first.path.name + ".part")
    for damaged in (bytes(size), bytes(size // 2), bytes(size * 2)):
        first.path.unlink()
        part.write_bytes(damaged)
        assert fetch_source("qemu", "10.2", state, QuietUi()) == first


def test_a_tampered_tarball(served: FakeArchive, archive: Archive, state: StateDir) -> None:
    ui = Told()
    path = served.root / "pool/qemu/qemu_7.2+dfsg.orig.tar.xz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SourceError, match="does not serve it"):
        got("distro:7.2", state, ui)
    assert "Hash Sum mismatch" in ui.warnings[0]


def test_an_index_that_another_key_signed(served: FakeArchive, archive: Archive, state: StateDir) -> None:
    with signer("mallory") as other:
        FakeArchive(served.root, other, served.keyring, served.listed).publish()
    with pytest.raises(SourceError, match="the package archive cannot be read"):
        got("distro:10.2", state)


def test_an_index_that_was_changed(served: FakeArchive, archive: Archive, state: StateDir) -> None:
    sources = served.root / "dists/unstable/main/source/Sources"
    sources.write_text(sources.read_text().replace("10.2.2", "10.2.9"))
    ui = Told()
    assert str(got("distro:10.2", state, ui).version) == "10.2.1"
    (warning,) = ui.warnings
    assert "left out, as its index cannot be used: " in warning


def test_suites_that_the_archive_does_not_have_are_no_news(archive: Archive, state: StateDir) -> None:
    ui = Told()
    got("distro:10.2", state, ui)
    assert ui.warnings == []


@pytest.mark.parametrize("broken", ["foreign", "gone", "unsigned"])
def test_a_third_party_of_the_same_suite_does_not_spoil_the_machines_archive(
    broken: str, served: FakeArchive, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = FakeArchive(tmp_path / "third", served.signer, served.keyring, origin="Browser Ltd.")
    third.add("stable", "qemu", "1:10.2.9-1", tmp_path / "7.2.0.tar.xz", "qemu_10.2.9.orig.tar.xz")
    third.add("unstable", "qemu", "1:10.2.9-1", tmp_path / "7.2.0.tar.xz", "qemu_10.2.9.orig.tar.xz")
    third.publish()
    if broken == "gone":
        shutil.rmtree(third.root)
    if broken == "unsigned":
        (third.root / "dists/stable/InRelease").unlink()
    etc = served.etc(tmp_path / "etc")
    (etc / "sources.list.d/browser.list").write_text(f"deb [signed-by={served.keyring}] {third.uri} stable main\n")
    monkeypatch.setattr(apt, "machine_archive", lambda: machine_archive(etc, etc / "os-release"))
    assert str(got("distro:10.2", state).version) == "10.2.2"
    asked = [
        path.read_text() for path in state.apt.glob("*/sources.list.d/xenqemu.sources") if third.uri in path.read_text()
    ]
    assert len(asked) == 1
    assert "Suites: stable\n" in asked[0]


def test_only_a_third_partys_archive(
    served: FakeArchive, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc = served.etc(tmp_path / "etc")
    FakeArchive(served.root, served.signer, served.keyring, served.listed, origin="Browser Ltd.").publish()
    monkeypatch.setattr(apt, "machine_archive", lambda: machine_archive(etc, etc / "os-release"))
    for _ in range(2):  # the second time the index is fresh
        with pytest.raises(SourceError, match=r"cannot be read: bookworm is an archive of Browser Ltd\."):
            got("distro:10.2", state)


def test_a_second_mirror_serves_what_the_first_does_not(
    served: FakeArchive, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(served.root, tmp_path / "mirror")
    shutil.rmtree(served.root / "pool")
    etc = served.etc(tmp_path / "etc")
    path = etc / "sources.list.d/debian.sources"
    path.write_text(path.read_text().replace(served.uri, f"{served.uri} file://{tmp_path}/mirror"))
    monkeypatch.setattr(apt, "machine_archive", lambda: machine_archive(etc, etc / "os-release"))
    ui = Told()
    assert str(got("distro:10.2", state, ui).version) == "10.2.2"
    assert len(ui.warnings) == 1


def test_two_at_once(archive: Archive, state: StateDir) -> None:
    results: list[FetchedSource] = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch_source("qemu", "10.2", state, QuietUi())))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1
    assert results[0].path.read_bytes()


def test_nothing_of_the_machines_hooks_and_sources_is_in_force(
    archive: Archive, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "machine.conf"
    machine.write_text(
        f'APT::Update::Pre-Invoke {{ "touch {tmp_path}/hook"; }};\n'
        f'APT::Update::Post-Invoke-Success {{ "touch {tmp_path}/hook"; }};\n'
        'Acquire::http::Proxy "http://proxy.invalid:1/";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(machine))
    assert got("distro:7.2", state)
    assert not (tmp_path / "hook").exists()
    conf = next(state.apt.glob("bookworm-*/apt.conf")).read_text()
    assert 'Acquire::http::Proxy "http://proxy.invalid:1/";' in conf
    assert "Invoke" not in conf


LAX = (
    'Acquire::AllowInsecureRepositories "true"; Acquire::AllowWeakRepositories "true";\n'
    'Acquire::AllowDowngradeToInsecureRepositories "true"; Acquire::Source-Symlinks "false";\n'
    'Acquire::Check-Valid-Until::Fake "false"; Acquire::Max-ValidTime::Fake "1";\n'
)


def machine_says(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `text` be all that the machine's apt configuration has."""
    for name in ("Parts", "Main"):
        text += f'Dir::Etc::{name} "/dev/null";\n'
    (folder / "machine.conf").write_text(text)
    monkeypatch.setenv("APT_CONFIG", str(folder / "machine.conf"))


def test_a_machine_that_allows_insecure_archives_does_not_make_one_verified(
    served: FakeArchive, archive: Archive, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_says(LAX, tmp_path, monkeypatch)
    for suite in served.listed:
        (served.root / "dists" / suite / "InRelease").unlink()
    with pytest.raises(SourceError, match="the package archive cannot be read"):
        got("distro:10.2", state)
    assert not state.downloads.exists()


def test_an_expired_index_is_taken_only_where_the_machine_does_and_recorded(
    served: FakeArchive, archive: Archive, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_says(LAX, tmp_path, monkeypatch)
    assert "index_age" not in got("distro:10.0", state).origin
    for suite in served.listed:
        release = served.root / "dists" / suite / "Release"
        old = release.read_text().replace("Components:", "Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC\nComponents:")
        release.write_text(re.sub(r"Date: .*", "Date: Fri, 31 Dec 2021 00:00:00 UTC", old))
        served.signer.clear_sign(release, release.with_name("InRelease"))
    other = StateDir(tmp_path / "other").create()
    with pytest.raises(SourceError, match="is expired"):
        got("distro:10.2", other)
    machine_says(LAX + 'acquire::check-valid-until "no";\n', tmp_path, monkeypatch)
    assert got("distro:10.2", other).origin["index_age"] == "not checked"
    assert got("distro:10.2", other).origin["index_age"] == "not checked"


def test_what_an_older_xenqemu_remembered_is_asked_for_again(
    served: FakeArchive, archive: Archive, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_says(LAX + 'acquire::check-valid-until "no";\n', tmp_path, monkeypatch)
    origin = got("distro:10.2", state).origin
    facts = state.recall("archive", "qemu_10.2")
    assert facts is not None
    assert facts.pop("aged") is True
    state.remember("archive", "qemu_10.2", facts)
    assert got("distro:10.2", state).origin == origin


def test_of_the_machines_settings_only_connections_are_taken(
    archive: Archive, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_says(LAX + 'Acquire::http::Proxy::a.invalid "DIRECT";\n', tmp_path, monkeypatch)
    assert got("distro:7.2", state)
    conf = next(state.apt.glob("bookworm-*/apt.conf"))
    monkeypatch.setenv("APT_CONFIG", str(conf))
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    assert 'Acquire::http::Proxy::a.invalid "DIRECT";' in dump
    for name in ("AllowInsecureRepositories", "AllowWeakRepositories", "AllowDowngradeToInsecureRepositories"):
        assert f'Acquire::{name} "false";' in dump
    for name in ("Check-Valid-Until", "Check-Date"):
        assert f'Acquire::{name} "true";' in dump
    assert "::Fake" not in dump
    assert "Source-Symlinks" not in dump


def test_the_index_names_no_tarball(served: FakeArchive, archive: Archive, state: StateDir) -> None:
    ui = Told()
    served.add("unstable", "qemu", "1:12.0-1", None, "qemu_12.0.debian.tar.xz")
    served.publish()
    with pytest.raises(SourceError, match="does not serve it"):
        got("distro:12.0", state, ui)
    assert "names no upstream tarball" in ui.warnings[0]


def test_other_packages(served: FakeArchive, archive: Archive, state: StateDir, tmp_path: Path) -> None:
    served.add("trixie", "xen", "4.20.2+7-g1-0", tmp_path / "7.2.0.tar.xz", "xen_4.20.2+7-g1.orig.tar.xz")
    served.publish()
    found = fetch_source("xen", "4.20", state, QuietUi())
    assert (found.version, found.suite, found.path.name) == ("4.20.2+7-g1", "trixie", "xen_4.20.2+7-g1.orig.tar.xz")
    assert found.path.is_file()
    assert not found.path.is_symlink()
    assert found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()


def test_a_machine_without_apt(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenqemu.archive.apt.shutil.which", lambda _: None)
    with pytest.raises(MissingError, match="apt-get is not installed") as caught:
        got("distro", state)
    assert "--qemu" in caught.value.hint


def test_the_environment_of_the_tests_has_apt() -> None:
    assert os.access("/usr/lib/apt/apt-helper", os.X_OK)
