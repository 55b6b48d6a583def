"""What a config means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import VmConfigError
from xenqemu.vm.guest import GuestFile, GuestView, Stubdomain, Vnc, read_guest, view_xl
from xenqemu.vm.vif import parse_vif
from xenqemu.vm.xlcfg import parse

FOLDER = Path("/vm")

HVM = """\
name = "a"
type = "hvm"
"""


def view(text: str) -> GuestView:
    return view_xl(parse(text.encode(), "a.cfg"), FOLDER)


@pytest.mark.parametrize(
    ("text", "kind", "refused"),
    [
        ('type = "hvm"', "hvm", False),
        ('type = "pvh"', "pvh", False),
        ('type = "h"', "hvm", False),  # xl compares no more than what is given
        ('type = "p"', "pv", False),
        ('type = ""', "hvm", False),
        ('type = "xen"', "pv", True),
        ('builder = "hvm"', "hvm", False),
        ('builder = "generic"', "pv", False),
        ('builder = "linux"', "pv", True),
        ('type = "pv"; builder = "hvm"', "pv", True),
        ('type = "hvm"; builder = "hvm"', "hvm", False),
        ("", "pv", False),
    ],
)
def test_the_type_is_what_xl_takes_it_for(text: str, kind: str, refused: bool) -> None:
    guest = view(f'name = "a"\n{text}\n')
    assert guest.type == kind
    assert bool(guest.refusals) is refused
    assert guest.hvm is (kind == "hvm")
    assert guest.type_reason


def test_defaults_are_those_of_libxl() -> None:
    guest = view(HVM)
    assert (guest.memory, guest.max_memory, guest.vcpus, guest.max_vcpus) == (32, 32, 1, 1)
    assert (guest.vga, guest.video_memory, guest.boot, guest.hdtype, guest.firmware) == (
        "cirrus",
        8,
        "cda",
        "ide",
        "seabios",
    )
    assert guest.vnc == Vnc(enabled=True)
    assert (guest.acpi, guest.xen_platform_pci, guest.dm_restrict) == (True, True, False)
    assert guest.device_model_version == "qemu-xen"
    assert not guest.refusals


def test_a_pv_guest_has_none_of_an_hvm_guests_devices() -> None:
    guest = view(
        'name="a"\nkernel="/k"\nsoundhw="hda"\nvga="qxl"\nusbdevice="tablet"\nserial="pty"\nspice=1\nbios="ovmf"\n'
    )
    assert (guest.vga, guest.soundhw, guest.usbdevices, guest.serial, guest.spice, guest.firmware) == (
        "",
        "",
        (),
        (),
        False,
        "",
    )
    assert guest.vnc == Vnc()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory = 512", (512, 512)),
        ("maxmem = 512", (512, 512)),
        ("memory = 256\nmaxmem = 512", (256, 512)),
        ('memory = "many"', (32, 32)),
    ],
)
def test_memory_and_maxmem_stand_in_for_each_other(text: str, expected: tuple[int, int]) -> None:
    guest = view(f"{HVM}{text}\n")
    assert (guest.memory, guest.max_memory) == expected


def test_a_name_is_wanted() -> None:
    assert "name" in view('type = "hvm"\n').refusals[0]


def test_a_disk_that_cannot_be_read_is_a_refusal_and_the_others_are_there() -> None:
    guest = view(f'{HVM}disk = ["nothing", "/a.img,raw,xvda,w"]\n')
    assert [disk.vdev for disk in guest.disks] == ["xvda"]
    assert "'nothing'" in guest.refusals[0]


def test_the_files_that_a_config_needs() -> None:
    guest = view(
        HVM
        + 'kernel="k"\nramdisk="/r"\nfirmware_override="hvmloader-mine"\nbios_path_override="/b"\nfirmware="/f"\n'
        + 'disk=["/a,raw,xvda,w", "b,raw,xvdb,w", ",hdc:cdrom"]\n'
        + 'disk+=["vdev=xvdc,script=x,target=y", "vdev=xvdd,backend=d,target=z"]\n'
        + 'device_model_stubdomain_override=1\nstubdomain_kernel="/sk"\n'
    )
    assert guest.files == (
        GuestFile("kernel", FOLDER / "k"),
        GuestFile("ramdisk", Path("/r")),
        GuestFile("bios_path_override", Path("/b")),
        GuestFile("firmware", Path("/f")),
        GuestFile("stubdomain_kernel", Path("/sk")),
        GuestFile("disk", Path("/a")),
        GuestFile("disk", FOLDER / "b"),
    )
    assert guest.stubdomain == Stubdomain(enabled=True, kernel="/sk")
    assert guest.device_model_version == "qemu-xen-traditional"


def test_hvmloader_as_kernel_is_ignored() -> None:
    guest = view(f'{HVM}kernel = "/usr/lib/xen/boot/hvmloader"\n')
    assert guest.kernel == ""
    assert not guest.files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('cmdline = "a"\nroot = "/dev/xvda"', "a"),
        ('root = "/dev/xvda"\nextra = "ro"', "root=/dev/xvda ro"),
        ('extra = "ro"', "ro"),
        ("", ""),
    ],
)
def test_the_command_line_is_put_together_as_xl_does(text: str, expected: str) -> None:
    assert view(f'name="a"\nkernel="/k"\n{text}\n').cmdline == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('firmware = "uefi"', "ovmf"),
        ('firmware = "ovmf"', "ovmf"),
        ('firmware = "bios"', "seabios"),
        ('firmware = "/mine"', "/mine"),
        ('bios = "ovmf"', "ovmf"),
        ('bios = "ovmf"\nfirmware = "rombios"', "rombios"),
    ],
)
def test_the_firmware(text: str, expected: str) -> None:
    assert view(f"{HVM}{text}\n").firmware == expected


def test_the_screen() -> None:
    assert view(f"{HVM}stdvga = 1\n").vga == "stdvga"
    assert view(f'{HVM}vga = "none"\nstdvga = 1\n').vga == "none"
    assert view(f'{HVM}vnc = 0\nvga = "qxl"\nvideoram = 256\n').vnc.enabled is False
    assert view(f'{HVM}vnclisten = "0.0.0.0"\nvncdisplay = 3\nvncpasswd = "x"\n').vnc == Vnc(True, "0.0.0.0", 3, True)
    assert view('name="a"\nkernel="/k"\nvnc=1\n').vnc.enabled
    assert view('name="a"\nkernel="/k"\nvfb=["vnc=1, vncdisplay=2x,vncpasswd=y"]\n').vnc == Vnc(
        True, "127.0.0.1", 2, True
    )
    assert not view('name="a"\nkernel="/k"\nvfb=["vnc=0"]\n').vnc.enabled
    assert not view('name="a"\ntype="pvh"\nkernel="/k"\nvnc=1\n').vnc.enabled


def test_usb_serial_and_arguments_may_be_one_or_many() -> None:
    one = view(f'{HVM}usbdevice = "tablet"\nserial = "pty"\n')
    assert (one.usbdevices, one.serial) == (("tablet",), ("pty",))
    many = view(
        f'{HVM}usbdevice = ["tablet", "mouse"]\nserial = ["pty", "null"]\nusbctrl = ["version=3", "ports=2"]\n'
        'device_model_args = ["-a"]\ndevice_model_args_hvm = ["-b"]\ndevice_model_args_pv = ["-c"]\n'
    )
    assert (many.usbdevices, many.serial, many.usbctrls) == (("tablet", "mouse"), ("pty", "null"), (3, 0))
    assert many.arguments == ("-a", "-b")


def test_network_interfaces_have_the_defaults_of_libxl() -> None:
    guest = view(f'{HVM}vif = ["", "bridge=br1,model=e1000", "type=vif,bridge=br1", "backend=net,bridge=other"]\n')
    assert [(vif.type, vif.model, vif.bridge) for vif in guest.vifs] == [
        ("ioemu", "rtl8139", "xenbr0"),
        ("ioemu", "e1000", "br1"),
        ("vif", "rtl8139", "br1"),
        ("ioemu", "rtl8139", "other"),
    ]
    assert guest.bridges == ("xenbr0", "br1")
    assert [vif.emulated for vif in guest.vifs] == [True, True, False, True]


@pytest.mark.parametrize("spec", ["nonsense", "colour=red", "type=wireless", "mac=00:16:3e:00:00", "mac=zz"])
def test_what_a_vif_does_not_say_rightly_is_told_and_left_out(spec: str) -> None:
    vif = parse_vif(f"{spec}, bridge=br1,,trusted", hvm=True)
    assert len(vif.problems) == 1
    assert (vif.bridge, vif.type, vif.mac) == ("br1", "ioemu", "")


@given(spec=st.text())
def test_no_vif_breaks_the_reader(spec: str) -> None:
    assert parse_vif(spec, hvm=False).spec == spec


@given(
    values=st.dictionaries(
        st.sampled_from(
            ["type", "memory", "disk", "vif", "usbctrl", "vfb", "serial", "vga", "firmware", "kernel", "vcpus"]
        ),
        st.sampled_from(['""', '"hvm"', "7", '"-1"', "[]", '["a"]', '["", [""]]', '"x=y"', '["x=,vnc=1"]', "0x10"]),
    )
)
def test_no_config_that_xl_can_read_breaks_the_reader(values: dict[str, str]) -> None:
    guest = view("".join(f"{name} = {value}\n" for name, value in values.items()))
    assert guest.type in ("hvm", "pv", "pvh")
    assert guest.refusals


DOMAIN = """\
<domain type='xen'>
  <name>d</name>
  <memory unit='MiB'>512</memory>
  <currentMemory unit='KiB'>262144</currentMemory>
  <vcpu current='1'>2</vcpu>
  <os><type>hvm</type><loader>/usr/lib/xen/boot/hvmloader</loader><boot dev='cdrom'/><boot dev='hd'/></os>
  <features><acpi/></features>
  <devices>
    <emulator>/opt/qemu-system-xen</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='/a.qcow2'/><target dev='hda'/>
    </disk>
    <disk type='block' device='disk'><driver name='phy'/><source dev='/dev/x'/><target dev='hdb'/><readonly/></disk>
    <disk type='file' device='cdrom'><target dev='hdc'/></disk>
    <interface type='bridge'><source bridge='br1'/><mac address='00:16:3e:00:00:01'/><model type='e1000'/></interface>
    <interface type='bridge'><model type='netfront'/></interface>
    <graphics type='vnc' port='5903' listen='0.0.0.0' passwd='x'/>
    <video><model type='vga' vram='16384'/></video>
    <sound model='ac97'/>
    <input type='tablet' bus='usb'/>
    <input type='mouse' bus='ps2'/>
    <serial type='pty'/>
    <hostdev type='pci'><source><address domain='0x0000' bus='0x03' slot='0x00' function='0x1'/></source></hostdev>
  </devices>
</domain>
"""


def test_a_libvirt_domain(tmp_path: Path) -> None:
    path = tmp_path / "d.xml"
    path.write_text(DOMAIN)
    guest = read_guest(path)
    assert (guest.format, guest.name, guest.type) == ("libvirt", "d", "hvm")
    assert (guest.memory, guest.max_memory, guest.vcpus, guest.max_vcpus) == (256, 512, 1, 2)
    assert guest.device_model_override == "/opt/qemu-system-xen"
    assert [(d.vdev, d.format, d.backendtype, d.writable, d.cdrom) for d in guest.disks] == [
        ("hda", "qcow2", "qdisk", True, False),
        ("hdb", "raw", "phy", False, False),
        ("hdc", "empty", "", False, True),
    ]
    assert [(vif.type, vif.model, vif.bridge) for vif in guest.vifs] == [
        ("ioemu", "e1000", "br1"),
        ("vif", "rtl8139", "xenbr0"),
    ]
    assert guest.vnc == Vnc(True, "0.0.0.0", 3, True)
    assert (guest.vga, guest.video_memory, guest.soundhw, guest.boot) == ("stdvga", 16, "ac97", "dc")
    assert (guest.usbdevices, guest.serial, guest.pci) == (("tablet",), ("pty",), ("0000:03:00.1",))
    assert [file.path for file in guest.files] == [
        Path("/usr/lib/xen/boot/hvmloader"),
        Path("/a.qcow2"),
        Path("/dev/x"),
    ]
    assert guest.acpi
    assert not guest.refusals


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [("type='xen'", "type='kvm'", "'kvm'"), ("<type>hvm</type>", "<type>exe</type>", "exe")],
)
def test_a_domain_that_is_none_of_xen_is_refused(tmp_path: Path, before: str, after: str, what: str) -> None:
    path = tmp_path / "d.xml"
    path.write_text(DOMAIN.replace(before, after))
    assert what in read_guest(path).refusals[0]


def test_a_domain_with_numbers_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "d.xml"
    path.write_text(DOMAIN.replace("512", "much").replace("<vcpu current='1'>2", "<vcpu>two").replace("5903", "-1"))
    guest = read_guest(path)
    assert (guest.max_memory, guest.vcpus, guest.vnc.display) == (0, 1, 0)


def test_relative_paths_are_of_the_folder_that_xl_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sub" / "a.cfg"
    path.parent.mkdir()
    path.write_text(f'{HVM}disk = ["a.img,raw,xvda,w"]\n')
    monkeypatch.chdir(tmp_path)
    assert read_guest(path).files == (GuestFile("disk", tmp_path / "a.img"),)
    assert read_guest(path, Path("/elsewhere")).files == (GuestFile("disk", Path("/elsewhere/a.img")),)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(VmConfigError, match="No such file"):
        read_guest(tmp_path / "missing.cfg")
    broken = tmp_path / "broken.cfg"
    broken.write_text("name = \n")
    with pytest.raises(VmConfigError, match=r"broken\.cfg:1: "):
        read_guest(broken)
    python = tmp_path / "python.cfg"
    python.write_text("import os\nname = 'a'\n")
    with pytest.raises(VmConfigError, match="Python"):
        read_guest(python)


def test_only_regular_files_of_a_plausible_size_are_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.cfg"
    os.mkfifo(pipe)
    large = tmp_path / "large.cfg"
    with large.open("wb") as file:
        file.truncate(3 << 30)
    for path, reason in ((pipe, "no regular file"), (Path("/dev/zero"), "no regular file"), (large, "3072 MiB")):
        with pytest.raises(VmConfigError, match=reason):
            read_guest(path)


def test_a_guest_has_the_path_that_it_was_named_by(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\udcff.cfg"
    path.write_text("name = 'a'\n")
    link = tmp_path / "link.cfg"
    link.symlink_to(path)
    assert [read_guest(name).path for name in (path, link)] == [path, link]
    path.write_text("name =\n")
    with pytest.raises(VmConfigError, match=r"a\\nb\\xff\.cfg:1: "):
        read_guest(path)
