"""vm list and vm show, from arguments to what is printed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_device_model import make_device_model, starts
from xenqemu.cli.main import _run as run_cli
from xenqemu.errors import VmConfigError
from xenqemu.state import StateDir
from xenqemu.vm import catalogue, device_model, lint
from xenqemu.vm.catalogue import is_vm_config, list_guests
from xenqemu.vm.describe import describe, without_blanks
from xenqemu.vm.device_model import default_path
from xenqemu.vm.guest import read_guest
from xenqemu.vm.originals import USE, Change, open_originals

HVM = 'name = "h"\ntype = "hvm"\nmemory = 128\n'
DOMAIN = "<domain type='xen'><name>d</name><os><type>hvm</type></os><features><acpi/></features></domain>\n"


@pytest.fixture(autouse=True)
def _machine(nobodys_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint, "default_path", lambda: None)
    monkeypatch.setattr(lint, "running_xen", lambda: "")
    monkeypatch.setattr(catalogue, "DEFAULT_FOLDERS", (tmp_path / "etc",))


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """What /etc/xen has in it."""
    folder = tmp_path / "etc"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "vif-bridge").write_text("#!/bin/sh\n")
    (folder / "auto").mkdir()
    files = {
        "h.cfg": HVM,
        "broken.cfg": 'name = "b"\nmemory = \n',
        "old.xm": HVM + 'device_model = "/usr/lib/xen/bin/qemu-dm"\n',
        "gone.cfg": HVM + 'device_model_override = "/nowhere/qemu"\n',
        "both.cfg": HVM + 'builder = "generic"\n',
        "d.xml": DOMAIN,
        "xl.conf": 'autoballoon="auto"\nvif.default.script="x"\n',
        "pool": 'name = "pool"\nsched = "credit"\ncpus = ["1"]\n',
        "README": "name = memory, disk = what a guest needs\n",
        "network.xml": "<network><name>n</name></network>",
        ".hidden.cfg": HVM,
        "h.cfg~": HVM,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    script = folder / "start"
    script.write_text("#!/bin/sh\nname=x\nmemory=1\n")
    script.chmod(0o755)
    (folder / "empty.cfg").touch()
    (folder / "dangling.cfg").symlink_to("nothing")
    return folder


def cli(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = run_cli([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any]:
    code, out = cli(capsys, *arguments, "--json")
    return code, json.loads(out)


def test_a_folder_gives_its_configs_and_nothing_else(etc: Path, state: StateDir) -> None:
    entries = {entry.path.name: entry for entry in list_guests((etc,), state)}
    assert sorted(entries) == ["both.cfg", "broken.cfg", "d.xml", "gone.cfg", "h.cfg", "old.xm"]
    assert (entries["h.cfg"].name, entries["h.cfg"].type, entries["h.cfg"].problems) == ("h", "hvm", ())
    assert (entries["d.xml"].name, entries["d.xml"].type) == ("d", "hvm")
    assert f"{etc / 'broken.cfg'}:2: " in entries["broken.cfg"].problems[0]
    assert "ignores device_model=" in entries["old.xm"].problems[0]
    assert entries["gone.cfg"].device_model == "/nowhere/qemu"
    assert "/nowhere/qemu" in entries["gone.cfg"].problems[0]
    assert "contradicts" in entries["both.cfg"].problems[0]


def test_a_file_that_is_named_is_told_of_whatever_it_is(etc: Path, state: StateDir) -> None:
    readme, config = list_guests((etc / "README", etc / "h.cfg", etc / "h.cfg"), state)
    assert readme.problems
    assert config.path == etc / "h.cfg"


def test_no_device_model_is_started(etc: Path, state: StateDir, tmp_path: Path) -> None:
    binary = make_device_model(tmp_path / "dm")
    (etc / "gone.cfg").write_text(f'{HVM}device_model_override = "{binary}"\ndevice_model_version = "qemu-xen"\n')
    (entry,) = list_guests((etc / "gone.cfg",), state)
    assert (entry.device_model, entry.origin, entry.problems) == (str(binary), "device_model_override", ())
    assert starts(binary) == []


def test_what_is_too_large_or_cannot_be_read_is_no_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tmp_path / "large"
    large.write_text(HVM + "#" * (1 << 20) + "\n")
    assert not is_vm_config(large)
    secret = tmp_path / "secret"
    secret.write_text(HVM)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert not is_vm_config(secret)


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(VmConfigError, match="Permission denied"):
        list_guests((tmp_path,), state)


def test_list_without_a_path_looks_where_xen_and_libvirt_keep_them(
    etc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, data = as_json(capsys, "vm", "list")
    assert code == 0
    assert len(data["configs"]) == 6
    assert data["configs"][0]["path"] == str(etc / "both.cfg")
    code, out = cli(capsys, "vm", "list", etc / "h.cfg")
    assert (code, out.splitlines()) == (
        0,
        [
            "config\tname\ttype\tdevice model\tproblems",
            f"{etc / 'h.cfg'}\th\thvm\tXen's default, which is not on this machine\t-",
        ],
    )


def test_list_of_what_does_not_exist(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, data = as_json(capsys, "vm", "list", tmp_path / "missing")
    assert code == 2
    assert "does not exist" in data["error"]["message"]


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.img").write_bytes(bytes(512))
    path = tmp_path / "a.cfg"
    path.write_text(f'{HVM}disk = ["a.img,raw,xvda,w"]\nvif = ["bridge=br0"]\nvpcus = 2\nkernel = "/missing/k"\n')
    code, data = as_json(capsys, "vm", "show", path)
    assert code == 0
    assert (data["name"], data["type"], data["type_reason"]) == ("h", "hvm", 'type = "hvm"')
    assert data["device_model"]["needed"] == "an HVM guest's devices"
    assert [(disk["vdev"], disk["backend"]) for disk in data["disks"]] == [("xvda", "qdisk")]
    assert data["files"] == [{"key": "kernel", "path": "/missing/k", "problem": "No such file or directory"}]
    assert {finding["rule"] for finding in data["findings"]} == {"unknown-setting-misspelt", "file-missing"}
    code, out = cli(capsys, "vm", "show", path)
    assert code == 0
    assert "device_model.version: qemu-xen\n" in out
    assert "\ndisks:\nvdev\t" in out
    assert "did you mean vcpus=" in out
    assert "soundhw" not in out


def test_show_of_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, data = as_json(capsys, "vm", "show", tmp_path / "missing.cfg")
    assert code == 7
    assert "No such file" in data["error"]["message"]


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("", ""),
        ('disk = ["vdev=xvda,backendtype=qdisk,target=/x"]', "qdisk backends"),
        ("vnc = 1", "the frame buffer"),
    ],
)
def test_what_a_pv_guest_needs_a_device_model_for(tmp_path: Path, text: str, needed: str) -> None:
    path = tmp_path / "pv.cfg"
    path.write_text(f'name = "p"\nkernel = "/k"\n{text}\n')
    assert describe(read_guest(path))["device_model"]["needed"] == needed


def test_a_stub_domain_is_shown_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "s.cfg"
    path.write_text(HVM + "device_model_stubdomain_override = 1\nstubdomain_memory = 256\n")
    facts = describe(read_guest(path))
    assert facts["stubdomain"]["memory"] == 256
    assert facts["device_model"]["origin"] == "it runs in a stub domain"
    path.write_text(HVM)
    assert "stubdomain" not in without_blanks(describe(read_guest(path)))


def test_lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary = make_device_model(tmp_path / "dm", {"-no-acpi": "invalid option"})
    good, bad = tmp_path / "good.cfg", tmp_path / "bad.cfg"
    good.write_text(HVM + 'builder = "hvm"\n')
    code, data = as_json(capsys, "vm", "lint", good)
    assert (code, [finding["severity"] for finding in data["configs"][0]["findings"]]) == (0, ["hint"])
    bad.write_text(f'{HVM}acpi = 0\ndevice_model_override = "{binary}"\ndevice_model_version = "qemu-xen"\n')
    code, data = as_json(capsys, "vm", "lint", good, bad)
    assert (code, [config["failed"] for config in data["configs"]]) == (7, [False, True])
    code, out = cli(capsys, "vm", "lint", bad, "--xen", "4.17")
    assert code == 7
    assert f"{bad}: device model {binary}, Xen 4.17\nerror: line 4: acpi = 0 " in out
    code, out = cli(capsys, "vm", "lint", good)
    assert code == 0
    assert "none asked (Xen's default, which is not on this machine), Xen of any version\nhint: line 4: " in out
    good.write_text(HVM)
    assert "nothing to say" in cli(capsys, "vm", "lint", good)[1]


def test_lint_goes_on_after_a_config_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.cfg"
    good.write_text(HVM)
    code, data = as_json(capsys, "vm", "lint", tmp_path / "missing.cfg", good)
    assert code == 7
    assert [[finding["rule"] for finding in config["findings"]] for config in data["configs"]] == [["unreadable"], []]


def test_lint_with_a_device_model_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.cfg"
    good.write_text(HVM)
    code, data = as_json(capsys, "vm", "lint", good, "--dm", tmp_path / "nothing")
    assert code == 2
    assert "nothing" in data["error"]["message"]


def test_the_toolstacks_own_device_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_model, "DEFAULT_PATHS", (str(tmp_path / "none"), "/bin/sh"))
    assert default_path() == Path("/bin/sh")


def test_bytes_that_are_no_text_are_shown_as_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / os.fsdecode(b"a\xff\n.cfg")
    path.write_bytes(HVM.encode() + b'kernel = "/k\xfe\t"\ndisk = ["/d\xfe,raw,xvda,w"]\n')
    for command in ("list", "show", "lint"):
        out = cli(capsys, "vm", command, path)[1]
        assert out.isascii()
        assert "a\\xff\\n.cfg" in out
        assert "/k\\xfe\\t" in out
    assert as_json(capsys, "vm", "show", path)[1]["kernel"] == "/k\\xfe\t"


def test_changes_that_were_interrupted_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "h.cfg"
    path.write_text(HVM)
    state = StateDir(tmp_path / "state").create()
    with open_originals(state) as originals:
        originals.begin([Change(path, tmp_path / ".h.cfg", USE, HVM.encode(), "0", True)])
    for command in ("list", "show", "lint"):
        run_cli(["vm", command, str(path)])
        assert "warning: 1 VM configs are just being changed, or" in capsys.readouterr().err
    (state.vm / "originals.sqlite").write_bytes(b"no database at all")
    run_cli(["vm", "list", str(path)])
    assert "warning: the record of original configs" in capsys.readouterr().err


def test_looking_leaves_no_state_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "h.cfg"
    path.write_text(HVM)
    for command in ("list", "show"):
        assert cli(capsys, "vm", command, path)[0] == 0
    assert not (tmp_path / "state").exists()
