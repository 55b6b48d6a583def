"""PCI devices that a virtual host can spare: which emulator, which Xen and which dom0 that makes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from xenqemu import boot_pipeline
from xenqemu.boot_pipeline import BootRequest
from xenqemu.cli.main import _run as run_cli
from xenqemu.contract_pipeline import _next_batch
from xenqemu.errors import EXIT_LAB, EXIT_USAGE, LabError, UsageError
from xenqemu.lab.case_files import build_case
from xenqemu.lab.cases import Case, find_cases, load_cases
from xenqemu.lab.emulator import Wiring, arguments
from xenqemu.lab.model import HostDisk, HostOptions, LabBase
from xenqemu.lab.recipe import load_recipe
from xenqemu.lab.run import host_options
from xenqemu.lab.spare import HostWish, dom0_modules, kinds, named_host, spare_functions, words
from xenqemu.lab.staging import StageOptions, stage_guest
from xenqemu.vm.guest import parse_xl

WIRING = Wiring(7, (8, 9), "console.log", "xen", "vmlinux", "initrd")


def made(options: HostOptions, *disks: HostDisk) -> list[str]:
    return arguments(load_recipe("4.17"), options, disks, WIRING)


def after(argv: list[str], word: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == word]


def test_addresses_are_those_of_their_place() -> None:
    found = spare_functions(("e1000e", "e1000+rtl8139"))
    assert [(spare.address, spare.kind) for spare in found] == [
        ("0000:00:18.0", "e1000e"),
        ("0000:00:19.0", "e1000"),
        ("0000:00:19.1", "rtl8139"),
    ]
    assert words(("e1000e", "e1000+rtl8139")) == {
        "pci0": "0000:00:18.0",
        "pci1": "0000:00:19.0",
        "pci2": "0000:00:19.1",
        "pci_of_dom0": "0000:00:07.0",
    }
    assert words(()) == {}
    macs = [after(list(spare.arguments), "-device")[0].rpartition("mac=")[2] for spare in found]
    assert len(set(macs)) == 3


@pytest.mark.parametrize(
    ("host_pci", "says"),
    [(("e1000e", "ne2000"), "'ne2000'"), (("e1000e",) * 8, "8 spare"), (("+".join(["e1000"] * 9),), "eight functions")],
)
def test_what_there_is_not_is_refused(host_pci: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        spare_functions(host_pci)


def test_the_machine_with_an_iommu() -> None:
    argv = made(HostOptions(accel="tcg", iommu=True, host_pci=("e1000e", "e1000e+e1000e")))
    assert after(argv, "-machine") == ["q35,graphics=off"]
    devices = after(argv, "-device")
    # What is behind it has to come after it.
    assert devices[0] == "intel-iommu,intremap=off"
    assert "iommu=no-sharept" in after(argv, "-append")[0].split()
    spare = [device for device in devices if "id=spare" in device]
    assert [("multifunction=on" in device, device.split(",addr=")[1].split(",")[0]) for device in spare] == [
        (False, "0x18.0"),
        (True, "0x19.0"),
        (True, "0x19.1"),
    ]
    # Each card and dom0's own are on one cable.
    assert all("hubid=0" in cable for cable in after(argv, "-netdev"))
    assert len(after(argv, "-netdev")) == 4
    assert sum("virtio-net-pci" in device for device in devices) == 1


def test_a_usual_machine_has_nothing_of_it(tmp_path: Path) -> None:
    usual = made(HostOptions(accel="tcg"))
    assert after(usual, "-machine") == ["pc,graphics=off"]
    assert after(usual, "-netdev") == []
    assert not [word for word in usual if "iommu=no" in word or "intel-iommu" in word or "spare" in word]
    # Without an IOMMU there can be devices all the same: to see what is said then.
    argv = made(HostOptions(accel="tcg", host_pci=("e1000",)))
    assert after(argv, "-machine") == ["pc,graphics=off"]
    assert [device for device in after(argv, "-device") if device.startswith("e1000,")]


def test_disks_and_spare_devices_do_not_meet(tmp_path: Path) -> None:
    disk = HostDisk(tmp_path / "disk")
    disk.path.write_bytes(b"")
    options = HostOptions(accel="tcg", iommu=True, host_pci=("e1000e",))
    assert len([d for d in after(made(options, *[disk] * 128), "-device") if d.startswith("virtio-blk")]) == 128
    with pytest.raises(LabError, match="129 disks, a host takes 128"):
        made(options, *[disk] * 129)
    with pytest.raises(LabError, match="a host takes 184"):  # the chipset's own devices
        made(HostOptions(accel="tcg", iommu=True), *[disk] * 185)


def test_dom0_leaves_them_alone() -> None:
    options = HostOptions(host_pci=("e1000e", "e1000"))
    assert dom0_modules(options) == ("xen-pciback hide=(0000:00:18.0)(0000:00:19.0)", "virtio_net")
    assert dom0_modules(HostOptions()) == ()


def test_every_kind_is_described_and_every_host_can_be() -> None:
    assert all(kinds().values())
    for name in {case.host for case in load_cases() if case.host}:
        spare_functions(named_host(name).pci)


def test_the_size_of_a_host_does_not_hang_on_it() -> None:
    wish = HostWish(iommu=True, pci=("e1000e",))
    options = host_options((), (), together=False, wanted=wish)
    assert (options.iommu, options.host_pci) == (True, ("e1000e",))
    assert options.memory_mib == host_options((), (), together=False).memory_mib


def test_cases_that_need_a_host_get_it() -> None:
    cases = find_cases(("boot-sector", "pci-passthrough"))
    assert boot_pipeline._host_of(cases) == named_host("passthrough")
    assert boot_pipeline._host_of(cases[:1]) == HostWish()
    other = Case("other", "", "linux", guest={"host": "of-its-own"})
    with pytest.raises(UsageError, match="different hosts: passthrough, of-its-own"):
        boot_pipeline._host_of((*cases, other))


def test_a_contract_run_puts_none_into_a_host_that_is_not_its_own() -> None:
    plain = [Case(name, "", "linux") for name in "abc"]
    special = [Case(name, "", "linux", guest={"host": "passthrough"}) for name in "xyz"]
    waiting = [plain[0], special[0], plain[1], special[1], special[2], plain[2]]
    batches = []
    while waiting:
        batch, waiting = _next_batch(waiting, 2)
        batches.append("".join(case.name for case in batch))
    assert batches == ["ab", "xy", "z", "c"]


def test_a_case_names_its_devices(tmp_path: Path) -> None:
    def base() -> LabBase:
        raise AssertionError("a boot sector needs none")

    case = Case("pci", "", "boot-sector", {"name": "pci", "pci": ["{pci0}"]}, guest={"host": "passthrough"})
    assert b'pci = ["0000:00:18.0"]' in build_case(case, base, tmp_path).config.read_bytes()
    other = build_case(case, base, tmp_path, {"pci0": "0000:00:1c.0"})
    assert b'pci = ["0000:00:1c.0"]' in other.config.read_bytes()


@pytest.mark.parametrize(
    ("host_pci", "says"),
    [
        ((), "no PCI device 0000:00:18.0 to pass through, none"),
        (("e1000e",), ""),
        (("e1000", "e1000"), ""),
    ],
)
def test_a_config_that_names_a_device_is_told_what_there_is(
    tmp_path: Path, host_pci: tuple[str, ...], says: str
) -> None:
    config = parse_xl(b'name = "a"\ntype = "pv"\nkernel = "/bin/sh"\npci = ["00:18.0,permissive=1"]\n', "a.cfg")
    notes = stage_guest(config, StageOptions(tmp_path, host_pci=host_pci)).notes
    assert ([says in note for note in notes] == [True]) if says else (notes == ())


def test_one_that_names_another_device_is_told_which_there_are(tmp_path: Path) -> None:
    config = parse_xl(b'name = "a"\ntype = "pv"\nkernel = "/bin/sh"\npci = ["0000:03:00.0"]\n', "a.cfg")
    (note,) = stage_guest(config, StageOptions(tmp_path, host_pci=("e1000e",))).notes
    assert note == "the lab's dom0 has no PCI device 0000:03:00.0 to pass through, only 0000:00:18.0 (e1000e)"


def test_the_command_line_says_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[HostWish | None] = []

    def boot_cases(_: object, request: BootRequest, *__: object) -> None:
        seen.append(request.host)
        raise LabError("enough")

    monkeypatch.setattr(boot_pipeline, "boot_cases", boot_cases)
    monkeypatch.setattr(boot_pipeline, "boot_configs", boot_cases)
    config = tmp_path / "a.cfg"
    config.write_text('name = "a"\n')
    lab = ["--state-dir", str(tmp_path / "state"), "lab"]
    for argv in (
        ("cases", "boot-sector"),
        ("cases", "boot-sector", "--iommu", "--host-pci", "e1000e, e1000+e1000"),
        ("boot", str(config), "--iommu"),
    ):
        assert run_cli([*lab, *argv]) == EXIT_LAB
    assert seen == [None, HostWish(True, ("e1000e", "e1000+e1000")), HostWish(True, ())]
    assert run_cli([*lab, "shell", "--host-pci", "ne2000"]) == EXIT_USAGE
    assert "'ne2000'" in capsys.readouterr().err
