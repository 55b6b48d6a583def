"""`vm use` and `vm revert`: what is changed, what is left alone, what is said."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.vmconfigs import DM, DOMAIN, HVM, LINES, PV, as_read, config
from xenqemu.cli.main import cli
from xenqemu.errors import MissingError, UsageError, VmConfigError
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi
from xenqemu.vm import binary
from xenqemu.vm.binary import choose_binary
from xenqemu.vm.difference import unified
from xenqemu.vm.result import FileResult
from xenqemu.vm.revert import kept, prune, revert
from xenqemu.vm.rewrite import Rewrite, rewrite, understand
from xenqemu.vm.use import UseRequest, use

_NEW = HVM + LINES
_TRADITIONAL = HVM + b'device_model_version = "qemu-xen-traditional"\n'


def _rewrite(folder: Path, content: bytes, *, legacy: bool = False, force: bool = False) -> Rewrite:
    return rewrite(understand(as_read(folder, content)), DM.path, legacy=legacy, force=force)


def test_an_xl_config(tmp_path: Path) -> None:
    new = _rewrite(tmp_path, HVM)
    assert new.content == _NEW
    assert [(change.name, change.before, change.after) for change in new.changes] == [
        ("device_model_override", None, str(DM.path)),
        ("device_model_version", None, "qemu-xen"),
    ]
    assert _rewrite(tmp_path, _NEW).content == _NEW


def test_an_obsolete_device_model_goes_along(tmp_path: Path) -> None:
    new = _rewrite(tmp_path, HVM + b"device_model = '/usr/lib/xen/bin/qemu-dm' # old\n")
    assert b"device_model = '/opt/xenqemu/bin/qemu-system-xen' # old\n" + LINES in new.content
    assert any("ignores" in note and "older toolstacks" in note for note in new.notes)


def test_an_obsolete_stub_domain_is_left(tmp_path: Path) -> None:
    new = _rewrite(tmp_path, HVM + b'device_model = "stubdom-dm"\n')
    assert b'device_model = "stubdom-dm"\n' in new.content
    assert any("stubdom-dm" in note for note in new.notes)


def test_legacy_writes_one_line(tmp_path: Path) -> None:
    new = _rewrite(tmp_path, _TRADITIONAL, legacy=True)
    assert new.content == _TRADITIONAL + b'device_model = "/opt/xenqemu/bin/qemu-system-xen"\n'
    assert any("ignores it" in note for note in new.notes)


@pytest.mark.parametrize("version", ["qemu-xen-traditional", "qemu-next"])
def test_another_kind_of_device_model_needs_force(tmp_path: Path, version: str) -> None:
    content = HVM + f'device_model_version = "{version}"\n'.encode()
    with pytest.raises(VmConfigError, match=f'one.cfg: it has device_model_version="{version}"'):
        _rewrite(tmp_path, content)
    assert b'device_model_version = "qemu-xen"\n' in _rewrite(tmp_path, content, force=True).content


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (b"device_model_stubdomain_override = 1\n", "only serves the stub domain's own disks"),
        (b'stubdomain_kernel = "/k"\n', "stubdomain_kernel: without effect"),
        (b'bios = "rombios"\n', "libxl refuses it"),
        (b'builder = "generic"\n', "xl refuses this config"),
    ],
)
def test_what_contradicts_is_said_and_left(tmp_path: Path, line: bytes, note: str) -> None:
    new = _rewrite(tmp_path, HVM + line)
    assert any(note in text for text in new.notes)
    assert HVM + line in new.content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PV, r"a PV guest \(neither type= nor builder="),
        (b'name = "x"\ntype = "pvh"\n', r'a PVH guest \(type = "pvh"\)'),
        (DOMAIN.replace(b"hvm", b"linux"), r"a PV guest"),
        (DOMAIN.replace(b"hvm", b"xenpvh"), r"a PVH guest"),
        (DOMAIN.replace(b"hvm", b"exe"), r"<os><type> is 'exe'"),
        (DOMAIN.replace(b"'xen'", b"'kvm'"), r"a domain of type 'kvm'"),
    ],
)
def test_other_guests_are_left_alone_unless_forced(tmp_path: Path, content: bytes, reason: str) -> None:
    new = _rewrite(tmp_path, content)
    assert new.content == content
    assert re.match(reason, new.left_alone)
    forced = _rewrite(tmp_path, content, force=True)
    assert str(DM.path).encode() in forced.content
    assert not forced.left_alone


def test_a_libvirt_domain(tmp_path: Path) -> None:
    new = _rewrite(tmp_path, DOMAIN)
    assert b"  <devices>\n    <emulator>/opt/xenqemu/bin/qemu-system-xen</emulator>\n  </devices>\n" in new.content
    assert _rewrite(tmp_path, new.content).changes == ()
    assert new.notes == ()


def test_notes_on_libvirt_domains(tmp_path: Path) -> None:
    content = b"<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE. -->\n" + DOMAIN.replace(
        b"<devices/>", b"<devices><emulator>/a</emulator><emulator>/b</emulator></devices>"
    )
    notes = "\n".join(_rewrite(tmp_path, content, legacy=True).notes)
    for text in ("virsh define", "--legacy is about xl.cfg", "more than one <emulator>"):
        assert text in notes


def test_a_python_config_is_refused_with_an_explanation(tmp_path: Path) -> None:
    with pytest.raises(VmConfigError, match=r"one\.cfg: a Python config of the old xm toolstack \(line 1: an import"):
        _rewrite(tmp_path, b"import os\n" + HVM)
    with pytest.raises(VmConfigError, match=r"one\.cfg:5"):
        _rewrite(tmp_path, HVM + b"nonsense\n")


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


def test_differences_are_printable() -> None:
    before, after = b"a\r\nb = '\xff\x1b[1m'\n\tlast", b"a\r\nb = 2\n\tlast"
    assert unified(before, after, "/etc/x") == (
        "--- a/etc/x\n+++ b/etc/x\n@@ -1,3 +1,3 @@\n a\\r\n-b = '\\xff\\x1b[1m'\n+b = 2\n \tlast\n"
        "\\ No newline at end of file\n"
    )
    assert unified(b"x", b"x", "x") == ""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    """Make a file with the first bytes of an ELF program for this machine."""

    def make(name: str = "qemu-system-xen", **parts: bytes) -> Path:
        with Path("/proc/self/exe").open("rb") as file:
            head = file.read(64)
        path = tmp_path.resolve() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parts.get("content", head))
        path.chmod(0o755)
        return path

    return make


def test_a_named_binary(
    state: StateDir, program: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program()
    (tmp_path / "current").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert choose_binary(state, named=Path("current")).path == here / "current"
    (tmp_path / "folder").mkdir()
    assert choose_binary(state, named=Path("folder/../current")).path == here / "current"
    (tmp_path / "far").symlink_to("/usr/lib")
    with pytest.raises(UsageError, match="No such file"):
        choose_binary(state, named=Path("far/../nothing"))
    with pytest.raises(UsageError, match="no such home"):
        choose_binary(state, named=Path("~nobody-has-this-name/qemu"))


def test_dots_after_a_link_are_kept(
    state: StateDir, program: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("one/two/x")
    program("one/qemu")
    (tmp_path / "link").symlink_to("one/two")
    named = tmp_path / "link" / ".." / "qemu"
    assert choose_binary(state, named=named).path == named


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\n", "a script and no ELF program"),
        (b"MZ" + bytes(30), "no ELF program"),
        (b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 1, 62), "no program"),
        (b"\x7fELF\x01\x02" + bytes(10) + struct.pack(">HH", 2, 8), "another kind of processor"),
    ],
)
def test_what_is_no_device_model(state: StateDir, program: Callable[..., Path], content: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        choose_binary(state, named=program(content=content))


def test_what_is_no_program_at_all(state: StateDir, program: Callable[..., Path], tmp_path: Path) -> None:
    path = program()
    path.chmod(0o644)
    with pytest.raises(UsageError, match="is not executable"):
        choose_binary(state, named=path)
    with pytest.raises(UsageError, match="is no file"):
        choose_binary(state, named=tmp_path)


def _artifact(state: StateDir, key: str, program: Callable[..., Path]) -> Path:
    path = state.artifacts / key
    (path / "tree" / "bin").mkdir(parents=True)
    made = program().rename(path / "tree" / "bin" / "qemu-system-xen")
    outputs = [{"path": "bin/qemu-system-xen", "size": made.stat().st_size}]
    manifest = {"xenqemu": "1", "key": key, "program": "bin/qemu-system-xen", "outputs": outputs}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return made


def test_what_is_taken_without_being_named(
    state: StateDir, program: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match="no device model to use"):
        choose_binary(state)
    made = _artifact(state, "a" * 64, program)
    chosen = choose_binary(state)
    assert (chosen.path, chosen.key, chosen.origin) == (made, "a" * 64, "the artifact used last")
    here = program("dist/bin/qemu-system-xen")
    assert choose_binary(state).path == here


def test_an_artifact_by_the_beginning_of_its_key(state: StateDir, program: Callable[..., Path]) -> None:
    made = _artifact(state, "abcd" + "1" * 60, program)
    _artifact(state, "abcd" + "2" * 60, program)
    assert choose_binary(state, key="abcd1").path == made
    for key, reason in (("abc", "too short"), ("abcd", "fits 2"), ("ffff", "fits no")):
        with pytest.raises(UsageError, match=reason):
            choose_binary(state, key=key)
    made.write_bytes(b"cut short")
    with pytest.raises(UsageError, match="damaged"):
        choose_binary(state, key="abcd1")


def _run(state: StateDir, *arguments: object) -> Result:
    words = ["--state-dir", str(state.root), "vm", *(str(word) for word in arguments)]
    return CliRunner().invoke(cli, words, standalone_mode=False)


def test_the_commands(state: StateDir, tmp_path: Path, program: Callable[..., Path]) -> None:
    path, dm = config(tmp_path), program()
    bad = config(tmp_path, b"nonsense", "bad.cfg")
    done = _run(state, "use", path, "--dm", dm, "--dry-run")
    assert done.return_value == 0
    assert f'+device_model_override = "{dm}"\n' in done.stdout
    done = _run(state, "use", path, bad, "--dm", dm, "--json")
    assert done.return_value == 7
    facts = json.loads(done.stdout)
    assert facts["device_model"]["path"] == str(dm)
    assert [(entry["path"], entry["action"]) for entry in facts["files"]] == [
        (str(path), "changed"),
        (str(bad), "refused"),
    ]
    assert facts["files"][0]["changes"][0]["name"] == "device_model_override"
    done = _run(state, "use", path, bad, "--dm", dm)
    assert done.return_value == 7
    assert f"{path}: unchanged" in done.output
    assert "bad.cfg:1" in done.output
    other = config(tmp_path, name="other.cfg")
    done = _run(state, "use", other, bad, "--dm", dm, "--atomic")
    assert f"{other}: not written: another config failed" in done.stderr
    assert _run(state, "revert", "--list").output == f"{path}\n"
    assert json.loads(_run(state, "revert", "--list", "--json").output)["originals"][0]["path"] == str(path)
    assert _run(state, "revert", path).output == f"{path}: reverted\n"
    assert path.read_bytes() == HVM
    assert _run(state, "revert", path).return_value == 7
    assert json.loads(_run(state, "revert", "--prune", "--json").output) == {"forgotten": []}


@pytest.mark.parametrize(
    "words", [["use"], ["use", "a", "--dm", "b", "--artifact", "c"], ["revert"], ["revert", "a", "--list"]]
)
def test_wrong_usage(state: StateDir, words: list[str]) -> None:
    assert type(_run(state, *words).exception).__name__ == "UsageError"


def test_the_artifact_is_said(state: StateDir, tmp_path: Path, program: Callable[..., Path]) -> None:
    _artifact(state, "abcd" * 16, program)
    done = _run(state, "use", config(tmp_path), config(tmp_path, PV, "pv.cfg"), "--artifact", "abcdabcd")
    assert "(--artifact)" in done.output
    assert "cache prune" in done.output
    assert "pv.cfg: left alone: a PV guest" in done.output
