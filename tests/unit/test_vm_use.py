"""`vm use` and `vm revert`: what is changed, what is left alone, what is said."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.unit.vmconfigs import DM, DOMAIN, HVM, LINES, PV, config
from xenqemu.errors import MissingError, UsageError
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi
from xenqemu.vm import binary
from xenqemu.vm.difference import unified
from xenqemu.vm.guest import read_guest as view
from xenqemu.vm.result import FileResult
from xenqemu.vm.revert import kept, prune, revert
from xenqemu.vm.stubdom import choose_stubdom
from xenqemu.vm.use import UseRequest, use

_NEW = HVM + LINES
_TRADITIONAL = HVM + b'device_model_version = "qemu-xen-traditional"\n'


def _use(state: StateDir, *configs: Path, **options: object) -> tuple[FileResult, ...]:
    return use(UseRequest(DM, configs, **options), state, QuietUi())  # type: ignore[arg-type]


def _revert(state: StateDir, *configs: Path, **options: bool) -> tuple[FileResult, ...]:
    return revert(configs, state, QuietUi(), **options)


def _actions(results: tuple[FileResult, ...]) -> list[tuple[str, str]]:
    return [(result.path.name, result.action) for result in results]


def test_use_and_revert(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path)
    (tmp_path / "link").symlink_to("one.cfg")
    path.chmod(0o640)
    assert _actions(_use(state, tmp_path / "link")) == [("link", "changed")]
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == _NEW
    assert _actions(_use(state, path)) == [("one.cfg", "unchanged")]
    path.chmod(0o600)
    assert _actions(_revert(state, path)) == [("one.cfg", "reverted")]
    assert path.read_bytes() == HVM
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (again,) = _revert(state, path)
    assert (again.action, again.failed) == ("refused", True)
    assert "nothing is kept" in again.reason


def test_revert_goes_back_to_before_the_first_use(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path, HVM + b'device_model_override = "/first"\n')
    before = path.read_bytes()
    for name in ("/second", "/third"):
        use(UseRequest(binary.Binary(Path(name), ""), (path,)), state, QuietUi())
    _revert(state, path)
    assert path.read_bytes() == before


def test_revert_of_what_someone_put_back(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path)
    _use(state, path)
    path.write_bytes(HVM)
    assert _actions(_revert(state, path)) == [("one.cfg", "unchanged")]
    assert kept(state) == ()


@pytest.mark.parametrize("between", [False, True])
def test_revert_of_what_was_edited_needs_force(state: StateDir, tmp_path: Path, between: bool) -> None:
    path = config(tmp_path)
    _use(state, path)
    path.write_bytes(path.read_bytes() + b"vcpus = 2\n")
    if between:
        use(UseRequest(binary.Binary(Path("/other"), ""), (path,)), state, QuietUi())
    edited = path.read_bytes()
    (result,) = _revert(state, path)
    assert result.failed
    assert "it was edited" in result.reason
    assert path.read_bytes() == edited
    (preview,) = _revert(state, path, force=True, dry_run=True)
    assert "-vcpus = 2\n" in preview.diff
    assert path.read_bytes() == edited
    (result,) = _revert(state, path, force=True)
    assert path.read_bytes() == HVM
    (copy,) = (state.vm / "edited").iterdir()
    assert copy.read_bytes() == edited
    assert str(copy) in result.notes[0]


def test_an_edited_version_that_cannot_be_kept_is_not_lost(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path)
    _use(state, path)
    path.write_bytes(b"edited")
    (state.vm / "edited").write_bytes(b"in the way")
    (result,) = _revert(state, path, force=True)
    assert "cannot be kept" in result.reason
    assert path.read_bytes() == b"edited"


def test_dry_run(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path)
    (result,) = _use(state, path, dry_run=True)
    assert result.diff.splitlines()[-2:] == [f"+{line}" for line in LINES.decode().splitlines()]
    assert path.read_bytes() == HVM
    assert not state.vm.exists()


def test_many_and_one_that_fails(state: StateDir, tmp_path: Path) -> None:
    paths = [config(tmp_path, name="a.cfg"), config(tmp_path, b"nonsense", "b.cfg"), config(tmp_path, name="c.cfg")]
    (tmp_path / "link").symlink_to("a.cfg")
    results = _use(state, *paths, tmp_path / "nothing", tmp_path / "link", config(tmp_path, PV, "p.cfg"))
    assert _actions(results) == [
        ("a.cfg", "changed"),
        ("b.cfg", "refused"),
        ("c.cfg", "changed"),
        ("nothing", "refused"),
        ("link", "left alone"),
        ("p.cfg", "left alone"),
    ]


@pytest.mark.parametrize("bad", ["b.cfg", "nothing"])
def test_all_or_nothing(state: StateDir, tmp_path: Path, bad: str) -> None:
    paths = [config(tmp_path, name="a.cfg"), config(tmp_path, name="c.cfg")]
    config(tmp_path, b"nonsense", "b.cfg")
    results = _use(state, paths[0], tmp_path / bad, paths[1], whole=True)
    assert _actions(results) == [("a.cfg", "not written"), (bad, "refused"), ("c.cfg", "not written")]
    assert [path.read_bytes() for path in paths] == [HVM, HVM]
    assert kept(state) == ()
    assert _actions(_use(state, *paths, whole=True)) == [("a.cfg", "changed"), ("c.cfg", "changed")]


def test_all_or_nothing_when_writing_fails(state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [config(tmp_path, name="a.cfg"), config(tmp_path, name="b.cfg")]

    def refuse(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fchmod", refuse)
    results = _use(state, *paths, whole=True)
    assert {action for _, action in _actions(results)} == {"refused"}
    assert [path.read_bytes() for path in paths] == [HVM, HVM]


def test_more_files_than_are_written_at_a_time(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xenqemu.vm.transaction._BATCH", 2)
    paths = [config(tmp_path, name=f"{number}.cfg") for number in range(5)]
    for whole in (False, True):
        assert {action for _, action in _actions(_use(state, *paths, whole=whole))} == {"changed"}
        assert {action for _, action in _actions(_revert(state, *paths))} == {"reverted"}
    assert {path.read_bytes() for path in paths} == {HVM}


def test_hard_links_need_force(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path)
    os.link(path, tmp_path / "other")
    (result,) = _use(state, path)
    assert "1 other name(s)" in result.reason
    (result,) = _use(state, path, force=True)
    assert "keep the old content" in result.notes[0]
    assert (tmp_path / "other").read_bytes() == HVM


def test_a_folder_that_cannot_be_locked(state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path)
    _use(state, path)
    other = config(tmp_path, name="two.cfg")

    def refuse(*_: object) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("xenqemu.vm.transaction._flock", refuse)
    for results in (_use(state, other), _revert(state, path)):
        assert "cannot be locked" in results[0].reason


def test_all_hvm_of_a_folder(state: StateDir, tmp_path: Path) -> None:
    folder = tmp_path / "xen"
    (folder / "auto").mkdir(parents=True)
    config(folder, name="one.cfg")
    config(folder, DOMAIN, name="three.xml")
    others = {
        "xl.conf": b'#lockfile="x"\n',
        "two.cfg": PV,
        "README": b"Xen Configuration\n=====\n",
        "noname": b'type = "hvm"\n',
        "xlexample.hvm": HVM,
        "one.cfg.example": HVM,
        "one.cfg~": HVM,
        ".one.cfg.swp": HVM,
        "one.cfg.dpkg-old": HVM,
        "kernel.bin": bytes(range(256)),
        "network.xml": b"<network/>",
    }
    for name, content in others.items():
        config(folder, content, name)
    (folder / "auto" / "one.cfg").symlink_to("../one.cfg")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    results = _use(state, all_hvm=folder)
    assert _actions(results) == [("one.cfg", "changed"), ("three.xml", "changed")]
    assert {name: (folder / name).read_bytes() for name in others} == others
    with pytest.raises(UsageError, match="--all-hvm"):
        _use(state, all_hvm=folder / "nothing")


@pytest.mark.parametrize("gone", [False, True])
def test_prune_forgets_what_is_gone(state: StateDir, tmp_path: Path, gone: bool) -> None:
    path = config(tmp_path)
    _use(state, path)
    if gone:
        path.unlink()
    assert prune(state, QuietUi()) == ((path,) if gone else ())
    assert [original.path for original in kept(state)] == ([] if gone else [path])


def test_a_dry_run_of_prune_forgets_nothing(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path)
    _use(state, path)
    path.unlink()
    assert prune(state, QuietUi(), dry_run=True) == (path,)
    assert [original.path for original in kept(state)] == [path]


def test_a_dry_run_of_all_or_none_shows_what_it_would_write(state: StateDir, tmp_path: Path) -> None:
    good, bad = config(tmp_path), config(tmp_path, b"nonsense", "bad.cfg")
    results = _use(state, good, bad, whole=True, dry_run=True)
    assert _actions(results) == [("one.cfg", "not written"), ("bad.cfg", "refused")]
    assert results[0].diff == ""
    assert _use(state, good, bad, dry_run=True)[0].diff


def test_hard_links_that_keep_what_is_reverted_are_told(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path)
    _use(state, path)
    (tmp_path / "backup").hardlink_to(path)
    (result,) = revert((path,), state, QuietUi())
    assert (path.read_bytes(), (tmp_path / "backup").read_bytes()) == (HVM, _NEW)
    assert result.notes == ("the file's 1 other name(s), hard links, keep the old content",)


def test_differences_are_printable() -> None:
    before, after = b"a\r\nb = '\xff\x1b[1m'\n\tlast", b"a\r\nb = 2\n\tlast"
    assert unified(before, after, "/etc/x") == (
        "--- a/etc/x\n+++ b/etc/x\n@@ -1,3 +1,3 @@\n a\\r\n-b = '\\xff\\x1b[1m'\n+b = 2\n \tlast\n"
        "\\ No newline at end of file\n"
    )
    assert unified(b"x", b"x", "x") == ""


def _stub_domain(folder: Path, memory: object = 96) -> Path:
    folder.mkdir()
    for name in ("vmlinuz", "initramfs.zst"):
        (folder / name).write_bytes(b"x")
    (folder / "manifest.json").write_text(json.dumps({"memory": memory}))
    return folder


def test_use_of_a_stub_domain(state: StateDir, tmp_path: Path) -> None:
    path = config(tmp_path, HVM + b"stubdomain_memory = 512 # too much\n")
    before, folder = path.read_bytes(), _stub_domain(tmp_path / "stub")
    (result,) = _use(state, path, stubdom=choose_stubdom(folder))
    assert result.action == "changed"
    assert "device_model_stubdomain_override" in [change.name for change in result.changes]
    assert path.read_bytes() == before.replace(b"stubdomain_memory = 512", b"stubdomain_memory = 96") + LINES + (
        b"device_model_stubdomain_override = 1\n"
        b'stubdomain_kernel = "%s/vmlinuz"\nstubdomain_ramdisk = "%s/initramfs.zst"\nstubdomain_cmdline = "quiet"\n'
        % (bytes(folder), bytes(folder))
    )
    assert any("in the stub domain" in note for note in result.notes)
    assert view(path).stubdomain.memory == 96
    assert _actions(_use(state, path, stubdom=choose_stubdom(folder))) == [("one.cfg", "unchanged")]
    assert _actions(_revert(state, path)) == [("one.cfg", "reverted")]
    assert path.read_bytes() == before


def test_only_hvm_guests_of_xl_have_stub_domains(state: StateDir, tmp_path: Path) -> None:
    stubdom = choose_stubdom(_stub_domain(tmp_path / "stub"))
    guest, domain = config(tmp_path, PV), config(tmp_path, DOMAIN, "two.xml")
    left, refused = _use(state, guest, domain, stubdom=stubdom, force=True)
    assert (left.action, guest.read_bytes()) == ("left alone", PV)
    assert "no setting for a device model in a stub domain" in refused.reason
    assert domain.read_bytes() == DOMAIN


@pytest.mark.parametrize("damage", ["kernel", "manifest", "memory"])
def test_what_is_no_stub_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    folder = _stub_domain(tmp_path / "stub", "much" if damage == "memory" else 96)
    if damage != "memory":
        (folder / {"kernel": "vmlinuz", "manifest": "manifest.json"}[damage]).unlink()
    with pytest.raises(UsageError, match="no stub domain in"):
        choose_stubdom(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match=r"no stub domain in \./dist/stubdom"):
        choose_stubdom()


def test_a_large_guest_gives_its_stub_domain_more_memory(tmp_path: Path) -> None:
    stubdom = choose_stubdom(_stub_domain(tmp_path / "stub"))
    sizes = [stubdom.settings(memory)["stubdomain_memory"] for memory in (64, 4096, 16384)]
    assert sizes == ["96", "96", "120"]
