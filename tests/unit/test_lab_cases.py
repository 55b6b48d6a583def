"""The set of guests: every case is complete, can be made, and can tell a guest that is well from one that is not."""

from __future__ import annotations

import errno
import gzip
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from tests.unit.test_lab_guests import read_newc, read_qcow2
from tests.unit.test_lab_image_formats import read_qcow, read_qed, read_vhd
from xenqemu.boot_pipeline import save_cases
from xenqemu.cli.main import main
from xenqemu.errors import UsageError
from xenqemu.lab.case_files import build_case
from xenqemu.lab.cases import Case, find_case, find_cases, load_cases
from xenqemu.lab.device_model import DeviceModel
from xenqemu.lab.disk_image import SECTORS, pattern_disk
from xenqemu.lab.model import LabBase
from xenqemu.lab.steps import read_step
from xenqemu.state import StateDir
from xenqemu.stubdom.model import StubDomain
from xenqemu.ui import QuietUi
from xenqemu.vm.guest import view_xl
from xenqemu.vm.xlcfg import parse

CASES = load_cases()
BOOT_SECTORS = [case for case in CASES if case.kind == "boot-sector"]
LINUX = [case for case in CASES if case.kind.startswith("linux")]

# What the guests said under Xen 4.17, with the end of each line as it comes from a serial port.
BOOT_SECTOR = """\
xenqemu-guest: hypervisor=XenVMMXenVMM, Xen 4.17
xenqemu-guest: cpu=QEMU Virtual CPU version 2.5+
xenqemu-guest: memory=56955 KiB usable, 7 ranges by E820
xenqemu-guest: disk=8 of 8 sectors read and right
xenqemu-guest: video=VBE 3.0, 4096 KiB, SeaBIOS VBE(C) 2011
xenqemu-guest: pci=00.0 8086:1237 host bridge
xenqemu-guest: pci=01.1 8086:7010 IDE controller
xenqemu-guest: pci=02.0 5853:0001 Xen platform device
xenqemu-guest: pci=03.0 1013:00b8 VGA
xenqemu-guest: pci=04.0 10ec:8139 network card
xenqemu-guest: up xen=4.17 memory=56955 disk=ok pci=7
""".replace("\n", "\r\n")
EMULATED = """\
xenqemu-guest: kernel=6.1.0-56-amd64 after 8.30 s
xenqemu-guest: pci=00:01.1 8086:7010 ata_piix
xenqemu-guest: disk=sda sd/ata_piix sectors=2048 right
xenqemu-guest: nic=eth0 8139cp 00:16:3e:00:00:02
xenqemu-guest: up xen=4.17 disks=1/1 nic=8139cp address=192.0.2.2/24 seconds=11.74
""".replace("\n", "\r\n")
PV = """\
xenqemu-guest: disk=xvda vbd sectors=2048 right
xenqemu-guest: nic=eth0 vif 00:16:3e:00:00:02
xenqemu-guest: up xen=4.17 disks=1/1 nic=vif address=192.0.2.2/24 seconds=23.51
""".replace("\n", "\r\n")


@pytest.fixture
def base(tmp_path: Path) -> LabBase:
    """A base that has every module that a case asks for."""
    guest = tmp_path / "guest"
    (guest / "modules").mkdir(parents=True)
    names = sorted({name for case in LINUX for name in case.guest["modules"]})
    (guest / "modules" / "modules.dep").write_text("".join(f"{name}:\n" for name in names))
    for name in names:
        (guest / "modules" / f"{name}.ko").write_bytes(b"\x7fELF")
    (guest / "busybox").write_bytes(b"\x7fELF")
    kernel = tmp_path / "vmlinuz"
    return LabBase("key", "4.17.7", "4.17", kernel, kernel, "6.1.0", kernel, guest, MappingProxyType({}))


def no_base() -> LabBase:
    raise AssertionError("a boot sector needs no base")


def test_the_cases_are_the_ones_that_are_promised() -> None:
    assert {case.name for case in CASES} >= {
        *("boot-sector", "poweroff", "linux-emulated", "linux-pv"),
        *("disk-ide", "disk-formats", "disk-ahci", "disk-scsi", "disk-pv", "disk-pv-readonly"),
        *("cdrom", "cdrom-insert", "vendor-device"),
        *("nic-rtl8139", "nic-e1000", "nic-ne2k", "nic-virtio", "no-nic"),
        *("boot-disk", "boot-cd", "boot-order", "boot-network", "boot-uefi", "kernel-boot"),
        *("no-boot-signature", "no-disk", "damaged-disk", "not-a-kernel", "linux-panic"),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_complete(case: Case) -> None:
    assert case.summary
    assert case.settings["name"] == case.name
    assert case.runs is not bool(case.reason and case.reference)
    if not case.runs:
        return
    assert 0 < case.timeout <= 600
    assert case.boots is not bool(case.fails)
    for pattern in (case.expect, case.fails, *(gap.fails for gap in case.gaps)):
        re.compile(pattern)
    for step in case.steps:
        for pattern in (getattr(step, "expect", ""), getattr(step, "pattern", "")):
            re.compile(re.sub(r"\{[a-z_]+\}", "word", pattern))
    for gap in case.gaps:
        assert gap.fails
        assert gap.reason
        assert gap.reference


def test_a_table_that_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="a step has one of"):
        read_step({"says": "x"})
    for table in ({"guest": "x", "expects": "y"}, {"picture": 2, "expect": 3}):
        with pytest.raises(TypeError, match="unexpected keyword"):
            read_step(table)


@pytest.mark.parametrize("case", [case for case in CASES if case.runs], ids=lambda case: case.name)
def test_what_is_made_is_a_config_that_xl_takes_with_files_that_are_there(
    case: Case, base: LabBase, tmp_path: Path
) -> None:
    folder = tmp_path / "case"
    folder.mkdir()
    base.kernel.write_bytes((bytes(0x202) + b"HdrS").ljust(4096, b"\0"))
    stub_domain = {"stubdomain_kernel": str(base.kernel), "stubdomain_ramdisk": str(base.busybox)}
    path = build_case(
        case,
        no_base if case.kind in ("boot-sector", "stub-domain") else lambda: base,
        folder,
        stub_domain={**stub_domain, "stubdomain_memory": "96"} if case.stub_domain else None,
    ).config
    data = path.read_bytes()
    assert b"{" not in data
    view = view_xl(parse(data, str(path)), folder)
    assert view.name == case.name
    assert not view.refusals
    missing = {wanted.path for wanted in view.files if not wanted.path.exists()}
    assert missing == ({folder / "missing.img"} if case.name == "no-disk" else set())


def test_each_kind_of_disk_holds_what_the_guest_looks_for(base: LabBase, tmp_path: Path) -> None:
    build_case(find_case("boot-sector"), no_base, tmp_path)
    raw = (tmp_path / "disk.img").read_bytes()
    assert len(raw) == SECTORS * 512
    assert raw[510:512] == b"\x55\xaa"
    build_case(find_case("damaged-disk"), no_base, tmp_path)
    assert not (tmp_path / "disk.img").read_bytes().startswith(b"QFI")
    build_case(find_case("no-boot-signature"), no_base, tmp_path)
    assert (tmp_path / "disk.img").read_bytes()[510:512] == b"\0\0"
    files = build_case(find_case("disk-formats"), lambda: base, tmp_path).files
    images = {name: Path(files[name]).read_bytes() for name in ("disk", "qcow", "qed", "vhd")}
    readers = {"disk": read_qcow2, "qcow": read_qcow, "qed": read_qed, "vhd": read_vhd}
    assert {name: readers[name](image) for name, image in images.items()} == dict.fromkeys(images, pattern_disk())


def test_where_steps_look_for_what_was_written_each_format_has_it(base: LabBase, tmp_path: Path) -> None:
    case = find_case("disk-formats")
    files = build_case(case, lambda: base, tmp_path).files
    looked = re.findall(r"dd if=\{(\w+)\} bs=512 skip=(\d+) ", str(case.steps))
    assert len(looked) == 4
    for name, sector in looked:
        image = Path(files[name]).read_bytes()
        assert image[int(sector) * 512 :].startswith(pattern_disk()[4 * 65536 : 5 * 65536])


def test_what_only_steps_name_goes_along(base: LabBase, tmp_path: Path) -> None:
    built = build_case(find_case("cdrom-insert"), lambda: base, tmp_path)
    assert set(built.for_steps) == {tmp_path / "cdrom.img", tmp_path / "second.img"}
    assert b".img" not in built.config.read_bytes()
    assert build_case(find_case("cdrom"), lambda: base, tmp_path).for_steps == ()


def test_what_runs_before_the_guest_knows_its_files(tmp_path: Path) -> None:
    case = replace(find_case("boot-network"), before=(("cp", "{cdrom}", "/tmp/{other}"),))
    built = build_case(case, no_base, tmp_path)
    assert built.before == (("cp", str(tmp_path / "cdrom.img"), "/tmp/{other}"),)
    assert built.for_steps == (tmp_path / "cdrom.img",)


def test_a_linux_guest_is_told_what_there_is_to_find(base: LabBase, tmp_path: Path) -> None:
    text = build_case(find_case("linux-emulated"), lambda: base, tmp_path).config.read_text()
    assert "xenqemu.disks=1 xenqemu.nics=1 " in text
    assert "xenqemu.address=192.0.2.2/24" in text
    assert "xen_emul_unplug=never" in text
    (digest,) = re.findall(r"xenqemu\.sha256=([0-9a-f]{64})", text)
    assert hashlib.sha256((tmp_path / "disk.img").read_bytes()).hexdigest() == digest


def test_a_linux_guest_has_the_modules_of_its_case(base: LabBase, tmp_path: Path) -> None:
    build_case(find_case("linux-pv"), lambda: base, tmp_path)
    files = read_newc(gzip.decompress((tmp_path / "initramfs.gz").read_bytes()))
    assert files["modules/order"][1] == b"xen-blkfront.ko\nxen-netfront.ko\n"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(exclude_characters="/\0", max_codepoint=0xD7FF), min_size=1, max_size=20))
def test_whatever_the_folder_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / f"x{name}"
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr("xenqemu.lab.case_files.assemble", lambda *_: b"code")
    path = build_case(find_case("not-a-kernel"), no_base, folder).config
    config = parse(path.read_bytes(), str(path))
    assert config.text("kernel") == str(folder / "not-a-kernel")


def test_the_same_case_gives_the_same_bytes(base: LabBase, tmp_path: Path) -> None:
    def made() -> dict[str, bytes]:
        build_case(find_case("linux-pv"), lambda: base, tmp_path)
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    assert made() == made()


@pytest.mark.parametrize(
    ("name", "said"), [("boot-sector", BOOT_SECTOR), ("linux-emulated", EMULATED), ("linux-pv", PV)]
)
def test_a_guest_that_is_well_is_heard(name: str, said: str) -> None:
    case = find_case(name)
    assert re.search(case.expect, said)
    assert re.search(case.expect, said.replace("\r\n", "\n"))
    # Heard in the middle of its last line it is not up yet.
    assert not re.search(case.expect, said[: said.index(": up") + 12])


@pytest.mark.parametrize(
    ("name", "said", "was", "now"),
    [
        ("boot-sector", BOOT_SECTOR, "disk=ok", "disk=bad"),
        ("boot-sector", BOOT_SECTOR, "xen=4.17", "xen=none"),
        ("boot-sector", BOOT_SECTOR, "10ec:8139", "8086:100e"),
        ("linux-emulated", EMULATED, "disks=1/1", "disks=0/1"),
        ("linux-emulated", EMULATED, "disks=1/1", "disks=0/0"),
        ("linux-emulated", EMULATED, "nic=8139cp address", "nic=none address"),
        ("linux-emulated", PV, "", ""),
        ("linux-pv", EMULATED, "", ""),
    ],
)
def test_a_guest_that_is_not_what_it_should_be_is_not(name: str, said: str, was: str, now: str) -> None:
    changed = said.replace(was, now)
    assert was == now or changed != said
    assert not re.search(find_case(name).expect, changed)


def test_a_name_that_is_none() -> None:
    with pytest.raises(UsageError, match="no case 'nothing'") as caught:
        find_case("nothing")
    assert "basics" in caught.value.hint


def test_a_name_can_be_that_of_a_group() -> None:
    found = [case.name for case in find_cases(["linux-panic", "failures", "boot-sector"])]
    assert found[0] == "linux-panic"
    assert set(found) == {case.name for case in CASES if case.group == "failures"} | {"boot-sector"}
    assert len(found) == len(set(found))


def test_what_a_case_needs_is_a_version() -> None:
    for case in CASES:
        assert case.xen is None or case.xen > Version("4.0")
        assert case.qemu is None or case.qemu > Version("7.0")


def test_saved_cases_are_complete(
    base: LabBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a Linux guest's kernel, which lies in the state directory, so that another machine can boot it."""
    base.kernel.write_bytes(b"a kernel")
    monkeypatch.setattr("xenqemu.lab.base.prepare", lambda xen, state, ui: base)
    monkeypatch.chdir(tmp_path)
    words = ["--state-dir", str(tmp_path / "state"), "lab", "cases", "boot-sector", "linux-pv", "--save", "guests"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    saved = [tmp_path / "guests" / name / f"{name}.cfg" for name in ("boot-sector", "linux-pv")]
    assert capsys.readouterr().out.split() == [str(path) for path in saved]
    for path in saved:
        files = view_xl(parse(path.read_bytes(), path.name), tmp_path).files
        assert files
        assert all(file.path.parent == path.parent and file.path.is_file() for file in files)
    assert (saved[1].parent / "vmlinuz").read_bytes() == base.kernel.read_bytes()


def test_a_place_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["--state-dir", str(tmp_path / "state"), "lab", "cases", "boot-sector", "--save", str(tmp_path / "file")]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "nothing can be saved in" in capsys.readouterr().err
    (tmp_path / "file").unlink()
    monkeypatch.setattr(Path, "mkdir", Mock(side_effect=OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(UsageError, match="boot-sector: Read-only file system"):
        save_cases([find_case("boot-sector")], tmp_path, None, StateDir(tmp_path / "state"), QuietUi())


def test_a_stub_domain_is_made_of_the_device_model_under_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(model: DeviceModel, folder: Path, *_: object, quick: bool) -> StubDomain:
        made.append(model.path)
        assert quick
        return StubDomain(folder / "vmlinuz", folder / "initramfs.zst", 96)

    monkeypatch.setattr("xenqemu.stubdom_pipeline.make_stubdom", make)
    monkeypatch.setattr("xenqemu.boot_pipeline._usual", lambda *_: Path("/bin/true"))
    state = StateDir(tmp_path / "state").create()
    (path,) = save_cases([find_case("stubdomain")], tmp_path / "saved", "4.17", state, QuietUi())
    assert made == [Path("/bin/true")]
    assert f'stubdomain_kernel = "{path.parent}/stub-domain/vmlinuz"' in path.read_text()
