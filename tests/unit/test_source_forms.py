"""The same content in every form gives the same tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.unit.fake_qemu import WRAP_URL, git, write_checkout, write_fake_qemu
from xenqemu.errors import MissingError, SourceError
from xenqemu.gitstore import GitStore
from xenqemu.source import QemuTree, obtain, parse_source
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi

OLD_AND_NEW = pytest.mark.parametrize("version", ["7.2.0", "10.2.2"])


def obtained(text: str | Path, state: StateDir, **options: bool | str) -> QemuTree:
    return obtain(parse_source(str(text), **options), state, QuietUi())  # type: ignore[arg-type]


def listing(tree: QemuTree) -> set[str]:
    return set(git("-C", tree.repository, "ls-tree", "-r", "--name-only", tree.tree, cwd=Path("/")).splitlines())


def pack(folder: Path, archive: Path, mode: str = "w:xz") -> Path:
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, "qemu-1")
    return archive


@OLD_AND_NEW
def test_every_form_gives_the_same_tree(version: str, tmp_path: Path, state: StateDir) -> None:
    checkout = tmp_path / "checkout"
    write_checkout(checkout, version)
    directory = tmp_path / "directory"
    shutil.copytree(checkout, directory, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    (directory / "roms/seabios/extra").write_text("what a full release tarball has, too")
    bare = tmp_path / "bare.git"
    git("clone", "--quiet", "--bare", checkout, bare, cwd=tmp_path)
    worktree = tmp_path / "worktree"
    git("worktree", "add", "--quiet", "--detach", worktree, cwd=checkout)
    place = "ui/keycodemapdb" if version == "7.2.0" else "subprojects/keycodemapdb"
    shutil.copytree(checkout / place, worktree / place, dirs_exist_ok=True)
    trees = {
        obtained(source, state).tree
        for source in (
            checkout,
            f"{checkout}@HEAD",
            f"{checkout}@v{version}",
            worktree,
            directory,
            pack(directory, tmp_path / "x.tar.xz"),
            pack(directory, tmp_path / "x.tar.gz", "w:gz"),
            pack(directory, tmp_path / "x.tar.bz2", "w:bz2"),
            pack(directory, tmp_path / "x.tar", "w"),
        )
    }
    assert len(trees) == 1
    assert str(obtained(checkout, state).version) == version


@OLD_AND_NEW
def test_what_is_dropped_and_what_stays(version: str, tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q", version)
    names = listing(obtained(tmp_path / "q", state))
    assert {"roms/Makefile", "roms/seabios-hppa.txt", "subprojects/libvhost-user/linux.h"} < names
    assert any(name.endswith("keycodemapdb/tools/keymap-gen") for name in names)
    dropped = ("roms/seabios/", "subprojects/dtc/", "subprojects/anyhow-1.0.98/", "subprojects/packagecache/")
    assert not [name for name in names if name.startswith(dropped) or "wrap-hash" in name]


def test_modes_and_symlinks_are_kept(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    (tmp_path / 'q/odd "name\\\n\u00e9').write_text("x")
    tree = obtained(tmp_path / "q", state)
    lines = git("-C", tree.repository, "ls-tree", "-rz", tree.tree, cwd=tmp_path).split("\0")
    modes = {line.partition("\t")[2]: line.split()[0] for line in lines if line}
    assert modes["configure"] == "100755"
    assert modes["VERSION"] == "100644"
    assert modes["subprojects/libvhost-user/include"] == "120000"
    assert 'odd "name\\\n\u00e9' in modes
    link = git("-C", tree.repository, "show", f"{tree.tree}:subprojects/libvhost-user/include", cwd=tmp_path)
    assert link == "../../include/"


def test_the_order_in_an_archive_does_not_matter(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    members = sorted(path for path in (tmp_path / "q").rglob("*") if not path.is_dir() or path.is_symlink())
    trees = set()
    for number, order in enumerate((members, members[::-1])):
        archive = tmp_path / f"{number}.tar"
        with tarfile.open(archive, "w") as tar:
            for path in order:
                tar.add(path, f"./top/{path.relative_to(tmp_path / 'q')}")
        trees.add(obtained(archive, state).tree)
    assert len(trees) == 1
    assert trees == {obtained(tmp_path / "q", state).tree}


def test_the_tree_is_kept_by_a_ref_of_a_fixed_commit(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    tree = obtained(tmp_path / "q", state)
    refs = git("-C", tree.repository, "for-each-ref", "--format=%(refname)", cwd=tmp_path).splitlines()
    assert refs == [f"refs/xenqemu/tree/{tree.tree}"]
    shown = git("-C", tree.repository, "log", "-1", "--format=%an %ae %at %s", refs[0], cwd=tmp_path)
    assert shown == "xenqemu xenqemu@invalid 1281571200 QEMU 10.2.2"
    other = StateDir(tmp_path / "other").create()
    again = obtained(tmp_path / "q", other)
    assert again.tree == tree.tree


def test_the_origin_has_no_path_of_the_machine(
    tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(f'[url "file://{tmp_path}/q-keycodemapdb"]\n\tinsteadOf = {WRAP_URL}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    inner = write_checkout(tmp_path / "q")
    for repository in (tmp_path / "q", inner):
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=repository)
    write_fake_qemu(tmp_path / "plain")
    archive = pack(tmp_path / "plain", tmp_path / "q.tar.xz")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.chdir(tmp_path / "q")
    for text, options, location in (
        (".", {}, "q"),
        (f"{tmp_path}/q@HEAD", {}, "q"),
        (tmp_path / "plain", {}, "plain"),
        ("../q.tar.xz", {}, "q.tar.xz"),
        (f"file://{archive}", {"sha256": digest}, "q.tar.xz"),
        (f"file://{tmp_path}/q@main", {}, "q"),
    ):
        origin = obtained(text, state, **options).origin
        assert origin["location"] == location
        assert str(tmp_path) not in str(origin)


def test_a_directory_is_identified_by_its_content(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    tree = obtained(tmp_path / "q", state)
    assert tree.origin == {"kind": "directory", "location": "q", "tree": tree.tree}


def test_a_second_time_nothing_is_imported(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake_qemu(tmp_path / "q")
    archive = pack(tmp_path / "q", tmp_path / "q.tar.xz")
    first = [obtained(source, state) for source in (archive, tmp_path / "q")]

    def refuse(*_: object) -> None:
        raise AssertionError("imported again")

    monkeypatch.setattr("xenqemu.source.store._import", refuse)
    assert [obtained(source, state) for source in (archive, tmp_path / "q")] == first
    (tmp_path / "q/VERSION").write_text("10.2.3\n")
    with pytest.raises(AssertionError, match="imported again"):
        obtained(tmp_path / "q", state)


def test_what_was_remembered_is_not_believed_without_its_tree(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    tree = obtained(tmp_path / "q", state)
    shutil.rmtree(state.git)
    assert obtained(tmp_path / "q", state) == tree
    assert GitStore.open(state).has(tree.tree)


@pytest.mark.parametrize(
    ("missing", "named"), [("configure", "configure"), ("VERSION", "VERSION"), ("Kconfig.host", "Kconfig.host")]
)
def test_not_a_qemu(missing: str, named: str, tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    (tmp_path / "q" / missing).unlink()
    for source in (tmp_path / "q", pack(tmp_path / "q", tmp_path / "q.tar.gz", "w:gz")):
        with pytest.raises(SourceError, match=f"not a QEMU source tree: it has no {named}"):
            obtained(source, state)


def test_a_qemu_without_xen_is_not_one(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    shutil.rmtree(tmp_path / "q/hw/xen")
    shutil.rmtree(tmp_path / "q/include/hw/xen")
    with pytest.raises(SourceError, match="has no hw/xen"):
        obtained(tmp_path / "q", state)


@pytest.mark.parametrize("text", ["", "unknown\n", "10..2\n"])
def test_a_version_that_is_none(text: str, tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    (tmp_path / "q/VERSION").write_text(text)
    with pytest.raises(SourceError, match="which is no version"):
        obtained(tmp_path / "q", state)


@pytest.mark.parametrize("text", ["10.2.2\n", "11.0.50", "10.2.0-rc1\n", "v10.2.0-rc1"])
def test_versions_that_qemu_uses(text: str, tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    (tmp_path / "q/VERSION").write_text(text)
    assert obtained(tmp_path / "q", state).version.release[0] in (10, 11)


def test_an_archive_without_keycodemapdb(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    shutil.rmtree(tmp_path / "q/subprojects/keycodemapdb")
    with pytest.raises(MissingError, match="lacks keycodemapdb"):
        obtained(tmp_path / "q", state)


def test_files_that_cannot_be_read(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake_qemu(tmp_path / "q")

    def deny(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(SourceError, match="cannot be read: Permission denied"):
        obtained(tmp_path / "q", state)


def test_special_files_in_a_directory_are_no_content(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    before = obtained(tmp_path / "q", state).tree
    os.mkfifo(tmp_path / "q/pipe")
    assert obtained(tmp_path / "q", state).tree == before


def test_no_space_left(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake_qemu(tmp_path / "q")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xenqemu.source.directory.import_once", full)
    with pytest.raises(MissingError, match=r"no space left in .*state"):
        obtained(tmp_path / "q", state)


def test_no_space_left_for_git(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    GitStore.open(state)
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from xenqemu.source import obtain, parse_source\n"
        "from xenqemu.state import StateDir; from xenqemu.ui import QuietUi; from xenqemu.errors import XenqemuError\n"
        "state = StateDir(Path(sys.argv[2]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
        "try: obtain(parse_source(sys.argv[1]), state, QuietUi())\n"
        "except XenqemuError as error: print(error.exit_code, error.message); sys.exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "q", state.root], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "fast-import" in done.stdout or "git" in done.stdout
    assert obtained(tmp_path / "q", state).tree


def test_a_damaged_store_is_said_so(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    GitStore.open(state)
    shutil.rmtree(state.git / "objects")
    with pytest.raises(SourceError, match="`git` failed"):
        obtained(tmp_path / "q", state)


def test_a_killed_import_leaves_nothing_and_the_next_one_works(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    (tmp_path / "q/zzz").write_bytes(hashlib.sha256(b"").digest() * 100_000)
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from xenqemu.source import obtain, parse_source, store\n"
        "from xenqemu.state import StateDir; from xenqemu.ui import QuietUi\n"
        "add = store._Stream.add\n"
        "def killed(self, entry, content):\n"
        "    add(self, entry, content); self.pipe.flush()\n"
        "    if entry.path == sys.argv[3]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store._Stream.add = killed\n"
        "obtain(parse_source(sys.argv[1]), StateDir(Path(sys.argv[2])).create(), QuietUi())\n"
    )
    for victim in ("VERSION", "meson.build", "zzz"):
        done = subprocess.run([sys.executable, "-c", script, tmp_path / "q", state.root, victim], check=False)
        assert done.returncode == -9
        assert git("-C", state.git, "for-each-ref", cwd=tmp_path) == ""
    time.sleep(0.5)  # the last orphan may still be writing its crash report
    tree = obtained(tmp_path / "q", state)
    assert not list(state.git.glob("objects/pack/tmp_*"))
    assert not list(state.git.glob("fast_import_crash_*"))
    git("-C", state.git, "fsck", "--strict", tree.tree, cwd=tmp_path)


def test_two_imports_at_once(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    script = (
        "import sys; from pathlib import Path\n"
        "from xenqemu.source import obtain, parse_source\n"
        "from xenqemu.state import StateDir; from xenqemu.ui import QuietUi\n"
        "print(obtain(parse_source(sys.argv[1]), StateDir(Path(sys.argv[2])).create(), QuietUi()).tree)\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "q"), str(state.root)]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert said == {obtained(tmp_path / "q", state).tree + "\n"}


def test_importing_the_package_is_cheap() -> None:
    script = "import sys, xenqemu.source; print([m for m in ('git', 'debian', 'zstandard') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_hard_links_are_resolved(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "q")
    plain = obtained(tmp_path / "q", state).tree
    linked = tmp_path / "linked"
    shutil.copytree(tmp_path / "q", linked, symlinks=True)
    (linked / "subprojects/libvhost-user/linux.h").unlink()
    (linked / "hw/xen/hard").write_text((tmp_path / "q/subprojects/libvhost-user/linux.h").read_text())
    (linked / "subprojects/libvhost-user/linux.h").hardlink_to(linked / "hw/xen/hard")
    tree = obtained(pack(linked, tmp_path / "linked.tar.xz"), state)
    (tmp_path / "q/hw/xen/hard").write_text((tmp_path / "q/subprojects/libvhost-user/linux.h").read_text())
    assert tree.tree != plain
    assert tree.tree == obtained(tmp_path / "q", state).tree


def test_wrap_url_is_no_real_place() -> None:
    assert ".invalid/" in WRAP_URL
