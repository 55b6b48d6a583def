"""vm lint: each rule fits what it is about and nothing else."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_device_model import make_device_model, starts
from xenqemu.errors import MissingError, UsageError
from xenqemu.state import StateDir
from xenqemu.vm import lint as lint_module
from xenqemu.vm import lint_facts
from xenqemu.vm import pci as pci_module
from xenqemu.vm.lint import LintReport, lint_config
from xenqemu.vm.lint_facts import Keys, image_format, load_keys
from xenqemu.vm.lint_rules import fill, fits, load_rules, look_up, words

CASES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("lint_cases.toml").read_text())["case"]
BASE = """\
name = "a"
type = "hvm"
memory = 256
device_model_override = "DM"
device_model_version = "qemu-xen"
"""
STUBDOMAIN = "device_model_stubdomain_override = 1\n"
QCOW2 = b"QFI\xfb\0\0\0\3"


@pytest.fixture(autouse=True)
def _no_xen_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint_module, "running_xen", lambda: "")
    monkeypatch.setattr(lint_module, "default_path", lambda: None)
    monkeypatch.setattr(lint_facts, "_QEMU_USERS", ("nobody-has-this-name",))


@pytest.fixture(autouse=True)
def _pci_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = tmp_path / "pci"
    for address, driver in (
        ("0000:03:00.0", "e1000e"),
        ("0000:04:00.0", "pciback"),
        ("0000:04:00.1", "pciback"),
        ("0000:06:00.0", ""),
    ):
        (bus / "devices" / address).mkdir(parents=True)
        if driver:
            (bus / "devices" / address / "driver").symlink_to(f"../../drivers/{driver}")
    (bus / "drivers" / "pciback").mkdir(parents=True)
    (bus / "drivers" / "pciback" / "allow_interrupt_control").write_text("0000:04:00.1\n")
    monkeypatch.setattr(pci_module, "_BUS", bus)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "raw.img").write_bytes(bytes(4096))
    (tmp_path / "qcow2.img").write_bytes(QCOW2 + bytes(4096))
    (tmp_path / "vhd.img").write_bytes(b"conectix" + bytes(4096))
    (tmp_path / "empty").touch()
    return tmp_path


def run(folder: Path, state: StateDir, text: str, binary: Path, xen: str = "") -> LintReport:
    path = folder / "a.cfg"
    path.write_text(text.replace("FOLDER", str(folder)).replace("DM", str(binary)) + "\n")
    return lint_config(path, state, xen=xen)


def found(report: LintReport) -> set[str]:
    return {finding.rule for finding in report.findings}


def test_every_rule_has_a_case() -> None:
    assert [case["rule"] for case in CASES] == [rule.id for rule in load_rules()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["rule"]))
def test_the_rule_fits_its_case(
    folder: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch, case: dict[str, Any]
) -> None:
    monkeypatch.setattr(lint_module, "running_xen", lambda: case.get("runs", ""))
    binary = make_device_model(folder / "dm", case.get("refuses"), accelerator=case.get("accelerator", "xen"))
    if case.get("library"):
        binary.write_text(
            "#!/bin/sh\necho 'x: error while loading shared libraries: libxenctrl.so.4.11: gone' >&2\nexit 127\n"
        )
    text = case.get("whole", BASE + case.get("config", ""))
    report = run(folder, state, text, binary, case.get("xen", "4.17"))
    hits = [finding for finding in report.findings if finding.rule == case["rule"]]
    assert hits, report.findings
    rule = next(rule for rule in load_rules() if rule.id == case["rule"])
    for finding in hits:
        assert finding.severity == rule.severity
        assert "{" not in finding.message.replace("{folder}", "")
        assert "{" not in finding.hint
        assert "\n" not in finding.message + finding.hint
    assert report.failed is any(finding.severity == "error" for finding in report.findings)


def test_a_good_config_has_no_findings(folder: Path, state: StateDir) -> None:
    text = BASE + 'disk = ["FOLDER/raw.img,raw,xvda,w"]\nvif = [""]\nusbdevice = "tablet"\nusbctrl = [""]'
    report = run(folder, state, text, make_device_model(folder / "dm"))
    assert report.findings == ()
    assert not report.failed


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        ("0000:04:00.0", set()),
        ("04:00.1", set()),
        ("0000:04:00.*@10", set()),
        ("bdf=0000:04:00.0,vslot=10", set()),
        ("0000:03:00.0", {"pci-in-use"}),
        ("0000:03:00.0,seize=1", set()),
        ("0000:06:00.0", {"pci-in-use"}),
        ("0000:05:00.0", {"pci-missing"}),
        ("0000:04:00.2", {"pci-missing"}),
        ("0000:05:00.*@10", {"pci-missing"}),
        ("name=disk", set()),
    ],
)
def test_devices_of_the_host_are_looked_for_where_xen_runs(
    folder: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch, spec: str, rules: set[str]
) -> None:
    binary = make_device_model(folder / "dm")
    assert found(run(folder, state, f'{BASE}pci = ["{spec}"]', binary)) == set()
    monkeypatch.setattr(lint_module, "running_xen", lambda: "4.17")
    assert found(run(folder, state, f'{BASE}pci = ["{spec}"]', binary)) == rules
    path = folder / "a.cfg"
    assert found(lint_config(path, state, binary=binary, here=False)) == set()


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        ("0000:04:00.0", {"pci-stubdomain-interrupts"}),
        ("0000:04:00.1", set()),
        ("0000:04:00.*@10", {"pci-stubdomain-interrupts"}),
        ("0000:03:00.0", {"pci-in-use"}),
        ("0000:05:00.0", {"pci-missing"}),
    ],
)
def test_a_stub_domain_has_to_be_let_switch_on_the_interrupts_of_its_guests_device(
    folder: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch, spec: str, rules: set[str]
) -> None:
    binary = make_device_model(folder / "dm")
    text = f'{BASE}pci = ["{spec}"]\n{STUBDOMAIN}'
    assert not rules & found(run(folder, state, text, binary))
    monkeypatch.setattr(lint_module, "running_xen", lambda: "4.17")
    assert {rule for rule in found(run(folder, state, text, binary)) if rule.startswith("pci-")} == rules


def test_without_pciback_no_interrupts_are_given_away(
    folder: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pci" / "drivers" / "pciback" / "allow_interrupt_control").unlink()
    monkeypatch.setattr(lint_module, "running_xen", lambda: "4.17")
    text = f'{BASE}pci = ["0000:04:00.1"]\n{STUBDOMAIN}'
    assert "pci-stubdomain-interrupts" in found(run(folder, state, text, make_device_model(folder / "dm")))


def test_findings_are_worst_first_and_name_their_line(folder: Path, state: StateDir) -> None:
    report = run(folder, state, BASE + 'builder = "hvm"\nvpcus = 1\nvga = "x"', make_device_model(folder / "dm"))
    assert [(finding.severity, finding.line) for finding in report.findings] == [
        ("error", 8),
        ("warning", 7),
        ("hint", 6),
    ]


def test_a_device_model_is_asked_once(folder: Path, state: StateDir) -> None:
    binary = make_device_model(folder / "dm", {"-no-acpi": "invalid option"})
    first = run(folder, state, BASE + "acpi = 0", binary)
    asked = starts(binary)
    assert run(folder, state, BASE + "acpi = 0", binary) == first
    assert starts(binary) == asked
    assert "-version -no-acpi" in asked
    # Another file is another device model, whatever its name.
    Path(f"{binary}.refuses").write_text("")
    binary.write_text(binary.read_text() + "\n")
    assert found(run(folder, state, BASE + "acpi = 0", binary)) == set()


def test_a_device_model_that_is_named_is_asked_instead(folder: Path, state: StateDir) -> None:
    own, other = make_device_model(folder / "own"), make_device_model(folder / "other", {"-no-acpi": "invalid option"})
    path = folder / "a.cfg"
    path.write_text(BASE.replace("DM", str(own)) + "acpi = 0\n")
    report = lint_config(path, state, binary=other)
    assert (report.device_model, report.origin) == (str(other), "--dm")
    assert found(report) == {"no-acpi"}
    assert starts(own) == []


def test_device_models_of_the_project_need_no_rom_files(folder: Path, state: StateDir) -> None:
    refuses = {"cirrus-vga": 'failed to find romfile "vgabios-cirrus.bin"'}
    assert found(run(folder, state, BASE, make_device_model(folder / "naive", refuses))) == {"vga-rom"}
    ours = make_device_model(folder / "ours", refuses, topics=("090-own-option-roms",))
    assert found(run(folder, state, BASE, ours)) == set()


def test_what_cannot_make_a_pc_is_asked_for_its_options_only(folder: Path, state: StateDir) -> None:
    binary = make_device_model(folder / "dm", {"pc": "no machine", "-no-acpi": "invalid option"})
    assert found(run(folder, state, BASE + 'acpi = 0\nsoundhw = "hda"', binary)) == {"no-acpi"}


def test_the_silent_audio_driver_that_the_hint_tells_of_is_taken_into_account(folder: Path, state: StateDir) -> None:
    binary = make_device_model(folder / "dm")
    run(folder, state, BASE + 'soundhw = "ac97"\ndevice_model_args = ["-audio", "none"]', binary)
    assert any(line.endswith("-device ac97 -audio none") for line in starts(binary))


def test_a_device_model_that_the_sandbox_ends_without_a_word(folder: Path, state: StateDir) -> None:
    binary = make_device_model(folder / "dm")
    script = binary.read_text().splitlines()
    binary.write_text("\n".join([script[0], '[ "$(ulimit -f)" = unlimited ] || kill -XFSZ $$', *script[1:], ""]))
    (finding,) = run(folder, state, BASE + "dm_restrict = 1", binary).findings
    assert (finding.rule, finding.severity) == ("dm-restrict-limits", "error")
    assert finding.message.endswith("killed by SIGXFSZ")
    # Without a screen there is nothing that is large.
    assert run(folder, state, BASE + 'dm_restrict = 1\nvga = "none"', binary).findings == ()
    assert run(folder, state, BASE, binary).findings == ()


def test_what_the_sandbox_holds(folder: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = make_device_model(folder / "dm")
    fine = 'dm_restrict = 1\ndisk = ["/dev/vg/disk,raw,xvda,w", "FOLDER/raw.img,raw,hdc,cdrom"]'
    path = folder / "far.cfg"
    path.write_text(BASE + fine.replace("FOLDER", str(folder)))
    assert lint_config(path, state, binary=binary, here=False).findings == ()
    monkeypatch.setattr(lint_module, "running_xen", lambda: "4.17")
    text = BASE + 'dm_restrict = 1\ndevice_model_user = "somebody"'
    assert run(folder, state, text, binary).findings == ()


def test_without_a_device_model_only_the_config_is_judged(folder: Path, state: StateDir) -> None:
    path = folder / "a.cfg"
    path.write_text('name = "a"\ntype = "hvm"\nacpi = 0\nvga = "x"\n')
    report = lint_config(path, state)
    assert (report.device_model, report.xen) == ("", "")
    assert "not on this machine" in report.origin
    assert found(report) == {"unknown-vga"}


def test_the_version_of_xen(folder: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = make_device_model(folder / "dm", {"-chroot": "invalid option"})
    text = BASE + "dm_restrict = 1"
    assert run(folder, state, text, binary).xen == "4.17"  # that of the device model
    monkeypatch.setattr(lint_module, "running_xen", lambda: "4.20")
    report = run(folder, state, text, binary)
    assert (report.xen, found(report)) == (
        "4.20",
        {"dm-restrict-run-with", "device-model-of-another-xen", "dm-restrict-without-user"},
    )
    monkeypatch.setattr(lint_facts, "_QEMU_USERS", ("nobody-has-this-name", "root"))
    report = run(folder, state, text, binary)
    assert found(report) == {"dm-restrict-run-with", "device-model-of-another-xen"}
    assert not report.failed
    assert "dm-restrict-run-with" not in found(run(folder, state, text, binary, "4.20.4"))
    with pytest.raises(UsageError, match="new"):
        run(folder, state, text, binary, "new")


def test_the_xen_that_runs_is_read_from_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(lint_module, "_RUNNING", tmp_path)
    assert lint_module.running_xen() == ""
    (tmp_path / "major").write_text("4\n")
    (tmp_path / "minor").write_text("20\n")
    assert lint_module.running_xen() == "4.20"


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "other"])
def test_what_is_no_device_model(folder: Path, state: StateDir, kind: str) -> None:
    path = folder / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    elif kind == "other":
        path.write_text("#!/bin/sh\necho hello\n")
        path.chmod(0o755)
    assert found(run(folder, state, BASE, path)) >= {"device-model-missing"}
    with pytest.raises(MissingError, match=kind):
        lint_config(folder / "a.cfg", state, binary=path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ""),
        (bytes(1024), ""),
        (QCOW2 + bytes(600), "qcow2"),
        (b"QFI\xfb\0\0\0\1", "qcow"),
        (b"QED\0", "qed"),
        (b"KDMV", "vmdk"),
        (b"vhdxfile", "vhdx"),
        (bytes(64) + b"\x7f\x10\xda\xbe", "vdi"),
        (bytes(1024) + b"conectix" + bytes(504), "vhd"),
    ],
)
def test_the_format_of_an_image(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    assert image_format(path) == expected


def test_the_format_of_what_cannot_be_read(tmp_path: Path) -> None:
    assert image_format(tmp_path) == ""


def test_settings_are_those_of_the_release() -> None:
    keys = Keys(("4.17", "4.20"), {"name": "text"}, {"4.17": {"old": "flag"}, "4.20": {"new": "flag"}})
    assert set(keys.of("4.17")) == {"name", "old"}
    assert set(keys.of("4.19.1")) == {"name", "old"}
    assert set(keys.of("4.20")) == set(keys.of("4.23")) == {"name", "new"}
    assert set(keys.of("4.11")) == {"name", "old"}
    assert set(keys.of("")) == {"name", "old", "new"}
    assert keys.versions_of("new") == ("4.20",)
    assert {"device_model_override", "device_model_args_hvm", "disk"} <= set(load_keys().of("4.17"))


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"a.n": 3}, True),
        ({"a.n": [1, 3]}, True),
        ({"a.n": {"above": 2}}, True),
        ({"a.n": {"below": 3}}, False),
        ({"a.n": {"above": "a.m"}}, True),
        ({"a.n": {"differs": "a.n"}}, False),
        ({"a.t": {"matches": "^x"}}, True),
        ({"a.t": {"not": ["xy"]}}, False),
        ({"a.none": {"not": ["xy"]}}, False),
        ({"a.none": False}, True),
        ({"a.none": 1}, False),
        ({"a.n": True, "a.t": False}, False),
        (None, True),
    ],
)
def test_conditions(when: dict[str, Any] | None, expected: bool) -> None:
    assert fits(when, {"a": {"n": 3, "m": 2, "t": "xy"}}) is expected


def test_arguments_are_filled_in() -> None:
    scope = {"a": {"list": ("-x", "-y"), "t": "e1000"}}
    assert words(("{a.list}", "{a.t},id={a.t}", "unix:{folder}/v"), scope) == (
        "-x",
        "-y",
        "e1000,id=e1000",
        "unix:{folder}/v",
    )
    assert look_up(scope, "a.nothing") is None


@given(st.text())
def test_text_without_places_stays(text: str) -> None:
    assert fill(text, {}) == text


def test_the_documentation_lists_the_rules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "vm-lint.md").read_text().splitlines()
    rows = [line for line in page if line.startswith("| `")]
    assert rows == [
        f"| `{rule.id}` | {rule.severity} | {rule.message} | {rule.hint} | {rule.reference} |" for rule in load_rules()
    ]


@pytest.mark.parametrize("video", ["", "<video><model type='cirrus'/></video>", "<video><model type='vga'/></video>"])
def test_a_domain_that_leaves_the_video_memory_to_libvirt(folder: Path, state: StateDir, video: str) -> None:
    text = f"""<domain type='xen'><name>d</name><memory unit='MiB'>512</memory><os><type>hvm</type></os>
        <features><acpi/></features><devices>{video}</devices></domain>"""
    assert run(folder, state, text, folder / "no").findings == ()


def test_a_config_of_another_machine(folder: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint_module, "running_xen", lambda: "4.4")
    path = folder / "far.cfg"
    path.write_text(
        BASE.replace("DM", "/nowhere/qemu")
        + f"""kernel = "/nowhere/vmlinuz"
disk = ["/dev/vg/nothing,raw,xvda,w", "vdev=xvdb,format=raw,access=rw,backendtype=phy,target=/dev/vg/none",
        "/nowhere/image,qcow2,xvdc,w", "{folder}/qcow2.img,raw,xvdd,w"]
"""
    )
    assert {"file-missing", "disk-without-backend", "disk-format"} <= found(lint_config(path, state))
    report = lint_config(path, state, here=False)
    assert (report.findings, report.device_model, report.origin) == ((), "", "the guest's machine is another")
    assert report.xen == ""
    binary = make_device_model(folder / "dm", {"-no-acpi": "invalid option"})
    path.write_text(path.read_text() + "acpi = 0\n")
    assert found(lint_config(path, state, binary=binary, here=False)) == {"no-acpi"}


def test_pipes_are_not_waited_for(folder: Path, state: StateDir) -> None:
    os.mkfifo(folder / "pipe")
    text = BASE + 'kernel = "FOLDER/pipe"\ndisk = ["FOLDER/pipe,raw,xvda,w"]'
    report = run(folder, state, text, make_device_model(folder / "dm"))
    assert [(finding.rule, finding.line) for finding in report.findings] == [("file-missing", 6)]
    assert 'pipe": it is no regular file' in report.findings[0].message
