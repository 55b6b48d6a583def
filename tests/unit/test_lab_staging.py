"""A user's config and all that it names, at the same places in dom0."""

from __future__ import annotations

import gzip
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenqemu.errors import LabError, UsageError, VmConfigError
from xenqemu.lab.disk_image import to_qcow2
from xenqemu.lab.images import backing_file, is_cut_off, is_kernel
from xenqemu.lab.model import HostDisk, OverlayFile
from xenqemu.lab.staging import StagedGuest, StageOptions, read_config, shared_disks, stage_guest
from xenqemu.vm.disk import parse_disk
from xenqemu.vm.guest import view_xl
from xenqemu.vm.xlcfg import parse

BZIMAGE = bytes(0x202) + b"HdrS" + bytes(1000)
Stage = Callable[..., StagedGuest]


@pytest.fixture
def device_model(tmp_path: Path) -> Path:
    path = tmp_path / "qemu-system-xen"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def stage(tmp_path: Path, device_model: Path) -> Stage:
    """Stage a config's text, written to guest.cfg in `tmp_path`."""

    def do(text: str, **options: object) -> StagedGuest:
        config = tmp_path / "guest.cfg"
        config.write_text(text)
        given = {"folder": tmp_path, "newest": lambda: device_model} | options
        return stage_guest(read_config(config), StageOptions(**given))  # type: ignore[arg-type]

    return do


def overlay(guest: StagedGuest) -> dict[str, OverlayFile]:
    return {file.path: file for file in guest.files}


def staged_text(guest: StagedGuest) -> str:
    content = overlay(guest)[guest.path].content
    assert isinstance(content, bytes)
    return content.decode()


def test_a_config_that_names_everything_goes_as_it_is(tmp_path: Path, device_model: Path, stage: Stage) -> None:
    (tmp_path / "disk.qcow2").write_bytes(b"x" * 700)
    (tmp_path / "vmlinuz").write_bytes(BZIMAGE)
    (tmp_path / "initrd").write_bytes(b"x")
    text = (
        f'# mine\nname="g"; type = "hvm"\ndevice_model_override = "{device_model}"\nkernel = "vmlinuz"\n'
        'ramdisk = "initrd"\nserial = [ "pty", "file:/var/tmp/out/serial" ]\nvif = [ "bridge=br7", "mac=x" ]\n'
        "disk = [ 'format=qcow2,vdev=xvda,target=disk.qcow2' ]\n"
    )
    guest = stage(text)
    assert staged_text(guest) == text
    assert guest.path == str(tmp_path / "guest.cfg")
    assert guest.folder == str(tmp_path)
    assert guest.notes == ()
    files = overlay(guest)
    assert files[str(tmp_path / "vmlinuz")].content == tmp_path / "vmlinuz"
    assert files[str(tmp_path / "initrd")].content == tmp_path / "initrd"
    assert files[str(device_model)].content == device_model
    assert [(disk.path, disk.disk) for disk in guest.disks] == [
        (str(tmp_path / "disk.qcow2"), HostDisk(tmp_path / "disk.qcow2"))
    ]
    assert guest.folders == (str(tmp_path), "/var/tmp/out")
    assert guest.bridges == ("br7", "xenbr0")


def test_a_raw_file_stays_with_the_device_model(tmp_path: Path, stage: Stage) -> None:
    """In dom0 it is a block device, which libxl would hand to the kernel; of a file it does not."""
    (tmp_path / "a.img").write_bytes(b"x")
    (tmp_path / "b.iso").write_bytes(b"x")
    guest = stage(
        "name='g'\ntype='hvm'\n"
        "disk = [ 'file:a.img,xvda,w',\n  'b.iso,,hdc,cdrom', # CD\n ]\ndisk += ['format=raw,vdev=xvdb,target=a.img']\n"
    )
    disks = view_xl(parse(staged_text(guest).encode(), "x"), tmp_path).disks
    assert [(disk.vdev, disk.backendtype, disk.target, disk.cdrom) for disk in disks] == [
        ("xvda", "qdisk", "a.img", False),
        ("hdc", "qdisk", "b.iso", True),
        ("xvdb", "qdisk", "a.img", False),
    ]
    assert [disk.path for disk in guest.disks] == [str(tmp_path / name) for name in ("a.img", "b.iso", "a.img")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    name=st.text(st.characters(min_codepoint=32, max_codepoint=300, exclude_characters="/,"), min_size=1, max_size=20),
    access=st.sampled_from(["", "access=ro,", "discard,", "vdev=hda,"]),
)
def test_the_rewritten_disk_means_the_same(tmp_path: Path, stage: Stage, name: str, access: str) -> None:
    if name.strip() in ("", ".", "..") or len(name.encode()) > 200:
        return
    (tmp_path / name).write_bytes(b"x")
    vdev = "" if "vdev" in access else "vdev=xvda,"
    spec = f"{vdev}{access}target={tmp_path}/{name}"
    quoted = spec.replace("\\", "\\\\").replace('"', '\\"')
    guest = stage(f'name="g"\ntype="hvm"\ndisk = [ "{quoted}" ]\n')
    (disk,) = guest.view.disks
    before = parse_disk(spec)
    assert (disk.target, disk.vdev, disk.writable) == (before.target, before.vdev, before.writable)
    assert disk.backendtype == "qdisk"


def layer(name: bytes) -> bytes:
    """Return the header of a qcow2 image upon the image `name`."""
    return (b"QFI\xfb" + struct.pack(">IQI", 3, 512, len(name))).ljust(512, b"\0") + name


def test_backing_files_are_passed_in_too(tmp_path: Path, stage: Stage) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.img").write_bytes(b"x" * 512)
    (tmp_path / "sub" / "middle.qcow2").write_bytes(layer(b"base.img"))
    (tmp_path / "top.qcow2").write_bytes(layer(b"sub/middle.qcow2"))
    guest = stage("name='g'\ntype='hvm'\ndisk=['format=qcow2,vdev=hda,target=top.qcow2']\n", writable=True)
    assert [(disk.path.removeprefix(f"{tmp_path}/"), disk.disk.writable) for disk in guest.disks] == [
        ("top.qcow2", True),
        ("sub/middle.qcow2", False),
        ("sub/base.img", False),
    ]


def test_a_backing_file_that_is_none_of_this_machine(tmp_path: Path, stage: Stage) -> None:
    (tmp_path / "top").write_bytes(layer(b"nbd://192.0.2.9/x"))
    guest = stage("name='g'\ntype='hvm'\ndisk=['format=qcow2,vdev=hda,target=top']\n")
    assert any("nbd://192.0.2.9/x is not passed in" in note for note in guest.notes)


def test_a_loop_of_backing_files_ends(tmp_path: Path, stage: Stage) -> None:
    (tmp_path / "top").write_bytes(layer(b"top"))
    assert len(stage("name='g'\ntype='hvm'\ndisk=['format=qcow2,vdev=hda,target=top']\n").disks) < 20


@given(st.binary(max_size=100))
def test_no_header_is_too_strange(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "image"
    path.write_bytes(b"QFI\xfb" + data)
    backing_file(path)
    is_cut_off(path)
    path.write_bytes(data)
    assert backing_file(path) == ""
    is_kernel(path)


def test_an_image_that_was_cut_off_is_told(tmp_path: Path, stage: Stage) -> None:
    image = to_qcow2(bytes(4096))
    path = tmp_path / "a.qcow2"
    text = "name='g'\ntype='hvm'\ndisk=['format=qcow2,vdev=hda,target=a.qcow2']\n"
    path.write_bytes(image)
    stage(text)
    cluster = 1 << 16
    for length in (1000, 3 * cluster, 4 * cluster - 1):  # without the first-level table, without the second-level one
        path.write_bytes(image[:length])
        with pytest.raises(LabError, match=r"a\.qcow2 is truncated"):
            stage(text)


def test_an_image_on_a_block_device_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(to_qcow2(bytes(4096)))
    status = list(path.stat())
    status[stat.ST_SIZE] = 0  # as of a device
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result(status))
    assert not is_cut_off(path)


def test_one_file_is_one_disk(tmp_path: Path, stage: Stage) -> None:
    (tmp_path / "a.img").write_bytes(b"x")
    (tmp_path / "link.img").symlink_to("a.img")
    guests = [
        stage("name='a'\ntype='hvm'\ndisk=['vdev=hda,access=ro,target=a.img']\n", writable=True),
        stage("name='b'\ntype='hvm'\ndisk=['vdev=hda,target=link.img']\n", writable=True),
    ]
    disks, numbers = shared_disks(guests)
    assert disks == (HostDisk(tmp_path / "a.img", writable=True),)
    assert numbers == {str(tmp_path / "a.img"): 0, str(tmp_path / "link.img"): 0}


def test_the_device_model_that_was_given_wins_and_it_is_said(tmp_path: Path, device_model: Path, stage: Stage) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    guest = stage(f"name='g'\ntype='hvm'\ndevice_model_override='{device_model}' # mine\n", device_model=other)
    assert staged_text(guest) == f"name='g'\ntype='hvm'\ndevice_model_override='{other}' # mine\n" + (
        'device_model_version = "qemu-xen"\n'
    )
    assert guest.notes == (f"{other} is used instead of the config's {device_model}",)
    assert (tmp_path / "guest.cfg").read_text() == (
        f"name='g'\ntype='hvm'\ndevice_model_override='{device_model}' # mine\n"
    )


def test_the_newest_is_for_configs_that_name_none(device_model: Path, stage: Stage) -> None:
    guest = stage("name='g'\ntype='hvm'\ndevice_model='/old'\n")
    assert f'device_model_override = "{device_model}"' in staged_text(guest)
    assert [note.partition(":")[0].partition(" ")[0] for note in guest.notes] == ["device_model=", "the"]
    with pytest.raises(UsageError, match="names no device model"):
        stage("name='g'\ntype='hvm'\n", newest=None)


def test_a_pv_guest_has_no_device_model_of_its_own(tmp_path: Path, stage: Stage) -> None:
    (tmp_path / "vmlinuz").write_bytes(BZIMAGE)
    text = "name='g'\nkernel='vmlinuz'\n"
    guest = stage(text, newest=None)
    assert guest.device_model is None
    assert staged_text(guest) == text


def test_vnc_for_a_screenshot(stage: Stage) -> None:
    on = stage("name='g'\ntype='hvm'\n", screenshot=True)
    assert "vnc=" not in staged_text(on).replace(" ", "")
    off = stage("name='g'\ntype='hvm'\nvnc=0\nsdl=1\n", screenshot=True)
    assert "\nvnc=1\nsdl=0\n" in staged_text(off)
    assert "VNC is switched on for the screenshot" in off.notes
    elsewhere = stage("name='g'\ntype='hvm'\nvnclisten='192.168.7.7:3'\n")
    assert "vnclisten='127.0.0.1'" in staged_text(elsewhere)
    loopback = stage("name='g'\ntype='hvm'\nvnclisten='127.0.0.2:3'\n")
    assert "vnclisten='127.0.0.2:3'" in staged_text(loopback)
    assert not any("listens" in note for note in loopback.notes)
    with pytest.raises(LabError, match="a pvh guest"):
        stage("name='g'\ntype='pvh'\n", screenshot=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("disk=['vdev=hda,target=/nowhere/x.img']", "disk hda: /nowhere/x.img: No such file or directory"),
        ("disk=['format=qcow2,vdev=hda,target=/nowhere/x']", "disk hda: /nowhere/x: No such file or directory"),
        ("disk=['vdev=hda,format=what,target=/x']", "xl refuses CFG: the disk"),
        ("kernel='guest.cfg'", "kernel: DIR/guest.cfg is not a kernel"),
        ("kernel='/nowhere/vmlinuz'", "kernel: /nowhere/vmlinuz: No such file or directory"),
        ("kernel='.'", "kernel: DIR: Is a directory"),
        ("device_model_override='/nowhere/dm'", "the device model /nowhere/dm cannot be read"),
        ("builder='what'", "xl refuses CFG"),
    ],
)
def test_what_keeps_a_guest_from_being_created(tmp_path: Path, stage: Stage, text: str, reason: str) -> None:
    with pytest.raises(LabError) as caught:
        stage(f"name='g'\ntype='hvm'\n{text}\n")
    said = (
        caught.value.message.replace(str(tmp_path / "guest.cfg"), "CFG", 1) if "CFG" in reason else caught.value.message
    )
    assert said.replace(str(tmp_path), "DIR").startswith(reason)
    assert caught.value.hint


def test_what_the_lab_does_not_bring_is_noted(stage: Stage) -> None:
    guest = stage("name='g'\ntype='hvm'\ndisk=['script=block-x,vdev=hda,target=y']\npci=['00:05.0']\n")
    assert len([note for note in guest.notes if "the lab" in note]) == 2
    assert guest.disks == ()


def test_what_lies_below_dev_is_linked_when_dom0_is_up(stage: Stage) -> None:
    image = Path("/dev/shm/xenqemu-test-kernel")
    image.write_bytes(BZIMAGE)
    try:
        guest = stage(f"name='g'\ntype='pv'\nkernel='{image}'\n")
    finally:
        image.unlink()
    assert guest.links == ((str(image), f"/usr/lib/xenqemu/staged{image}"),)
    assert str(image) not in overlay(guest)


def test_other_kinds_of_configs_are_refused(tmp_path: Path) -> None:
    def why(data: bytes) -> str:
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(VmConfigError) as caught:
            read_config(tmp_path / "x")
        return f"{caught.value.message} {caught.value.hint}"

    assert "domxml-to-native" in why(b"<domain type='xen'/>")
    assert "Python" in why(b"import os\nname = 'x'\n")
    assert "x:3:" in why(b"name='x'\ndisk = [\n")
    with pytest.raises(VmConfigError, match="nowhere: No such file"):
        read_config(tmp_path / "nowhere")
    with pytest.raises(VmConfigError, match="no regular file"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["disk=['vdev=hda,target=pipe']", "kernel='pipe'", "ramdisk='pipe'", "PIPE"])
def test_a_named_pipe_is_not_waited_for(tmp_path: Path, stage: Stage, text: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((LabError, VmConfigError), match=r"pipe: (it is a pipe|no regular file)"):
        read_config(tmp_path / "pipe") if text == "PIPE" else stage(f"name='g'\ntype='hvm'\n{text}\n")


def test_kernels(tmp_path: Path) -> None:
    path = tmp_path / "k"
    for data, right in (
        (BZIMAGE, True),
        (b"\x7fELF" + bytes(100), True),
        (bytes(100) + struct.pack("<I", 0x1BADB002), True),
        (gzip.compress(b"\x7fELF" + bytes(100)), True),
        (gzip.compress(b"text"), False),
        (b"\x1f\x8b broken", False),
        (b"", False),
        (b"just text", False),
    ):
        path.write_bytes(data)
        assert is_kernel(path) is right, data[:8]


def test_a_disk_of_a_guest_with_a_stub_domain_stays_a_block_device(tmp_path: Path, stage: Stage) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(1024))
    (tmp_path / "vmlinuz").write_bytes(BZIMAGE)
    text = (
        'name="g"; type = "hvm"; memory = 64\ndisk = [ "format=raw,vdev=hda,target=disk.img" ]\n'
        'device_model_stubdomain_override = 1; device_model_version = "qemu-xen"; stubdomain_kernel = "vmlinuz"\n'
    )
    guest = stage(text)
    assert "qdisk" not in staged_text(guest)
    assert str(tmp_path / "vmlinuz") in overlay(guest)
    assert "qdisk" in staged_text(stage(text.replace("override = 1", "override = 0")))
