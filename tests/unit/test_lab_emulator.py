"""The emulator's arguments, and which accelerator a machine can use."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from xenqemu.errors import LabError, MissingError, UsageError
from xenqemu.lab import emulator
from xenqemu.lab.emulator import Wiring, accelerator, arguments, can_nest, find_emulator
from xenqemu.lab.model import HostDisk, HostOptions
from xenqemu.lab.recipe import load_recipe

WIRING = Wiring(7, (8, 9), "console.log", "xen", "vmlinux", "initrd")


def made(options: HostOptions | None = None, *disks: HostDisk) -> list[str]:
    return arguments(load_recipe("4.17"), options or HostOptions(accel="tcg"), disks, WIRING)


def after(argv: list[str], word: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == word]


def test_the_machine() -> None:
    argv = made()
    assert after(argv, "-accel") == ["tcg"]
    assert after(argv, "-cpu") == ["qemu64,+svm,+npt"]
    assert after(argv, "-nic") == ["none"]
    assert "-no-reboot" in argv
    assert "socket,id=agent,fd=7" in after(argv, "-chardev")
    assert [value for value in after(argv, "-chardev") if "server" in value] == [
        "socket,id=stream0,fd=8,server=on,wait=off",
        "socket,id=stream1,fd=9,server=on,wait=off",
    ]
    assert after(argv, "-kernel") == ["xen"]
    assert after(argv, "-append")[0].split()[:2] == ["console=com1", "com1=115200,8n1"]
    assert "dom0_mem=768M,max:768M" in after(argv, "-append")[0].split()


def test_every_option_has_its_place() -> None:
    argv = made(
        HostOptions(
            memory_mib=4096,
            dom0_memory_mib=1024,
            cpus=3,
            accel="tcg",
            extra_xen_arguments=("guest_loglvl=all",),
            extra_dom0_arguments=("xen-pciback.hide=(00:05.0),(00:06.0)",),
            extra_emulator_arguments=("-device", "e1000e"),
        )
    )
    assert after(argv, "-m") == ["4096"]
    assert after(argv, "-smp") == ["3"]
    assert after(argv, "-append")[0].endswith("dom0_mem=1024M,max:1024M dom0_max_vcpus=3 guest_loglvl=all")
    kernel, _, words = after(argv, "-initrd")[0].partition(" ")
    assert kernel == "vmlinux"
    assert words.endswith("xen-pciback.hide=(00:05.0),,(00:06.0),initrd")  # a single comma would end the module
    assert argv[-2:] == ["-device", "e1000e"]


def test_dom0_has_a_usb_stick_to_pass_on() -> None:
    argv = made()
    controller, stick = (
        after(argv, "-device").index(name) for name in ("qemu-xhci", "usb-storage,drive=stick,serial=xenqemu")
    )
    assert controller < stick
    (content,) = after(argv, "-blockdev")
    assert "node-name=stick" in content
    assert "read-only=on" in content


def test_disks_share_slots_and_there_is_an_end_to_them(tmp_path: Path) -> None:
    disks = [HostDisk(tmp_path / "a")] * 192
    (tmp_path / "a").touch()
    argv = made(None, *disks)
    places = re.findall(r"serial=\d+,addr=(\S+?),", " ".join(after(argv, "-device")))
    assert places[:9] == [*(f"0x8.{function}" for function in range(8)), "0x9.0"]
    assert places[-1] == "0x1f.7"
    assert len(set(places)) == 192
    with pytest.raises(LabError, match="193 disks"):
        made(None, *disks, disks[0])


def test_a_disk_is_given_as_raw_bytes_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a,b:c file=x.qcow2"
    path.write_bytes(b"QFI\xfb")
    argv = made(None, HostDisk(path), HostDisk(path, writable=True))
    escaped = str(path).replace(",", ",,")
    assert after(argv, "-drive") == [
        f"if=none,id=disk0,format=raw,snapshot=on,file.driver=file,file.filename={escaped}",
        f"if=none,id=disk1,format=raw,snapshot=off,file.driver=file,file.filename={escaped}",
    ]
    assert re.findall(r"serial=\d+", " ".join(after(argv, "-device"))) == ["serial=0", "serial=1"]
    for broken in (tmp_path, tmp_path / "none"):
        with pytest.raises(LabError, match="is not there"):
            made(None, HostDisk(broken))


def test_without_an_emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        find_emulator()
    assert "qemu-system-x86" in caught.value.hint


@pytest.mark.parametrize(("parameter", "nests"), [("1", True), ("Y", True), ("N", False), ("0", False), (None, False)])
def test_kvm_has_to_nest(parameter: str | None, nests: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(emulator, "_KVM", tmp_path / "kvm")
    monkeypatch.setattr(emulator, "_NESTED", (tmp_path / "amd", tmp_path / "intel"))
    if parameter is not None:
        (tmp_path / "intel").write_text(f"{parameter}\n")
    assert can_nest() is nests
    assert accelerator("auto") == ("kvm" if nests else "tcg")
    if nests:
        assert after(made(HostOptions(accel="kvm")), "-cpu") == ["host"]
    else:
        with pytest.raises(UsageError, match="KVM cannot be used"):
            accelerator("kvm")


def test_a_node_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(emulator, "_KVM", tmp_path / "none")
    assert not can_nest()
    monkeypatch.setattr(emulator, "_KVM", tmp_path)  # cannot be opened for writing, whoever asks
    assert not can_nest()


def test_an_unknown_accelerator() -> None:
    with pytest.raises(UsageError, match="no such accelerator: 'hax'"):
        accelerator("hax")
