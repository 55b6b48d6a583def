"""What a profile becomes: files, flags, expected devices, and the check of its symbols."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest
from packaging.version import Version

from xenqemu.errors import UsageError
from xenqemu.target.flags import configure_arguments
from xenqemu.target.kconfig import check_symbols, read_kconfig
from xenqemu.target.profile import Profile, list_profiles, load_profile
from xenqemu.target.render import expected_devices, render_target

V72, V100, V102 = Version("7.2.0"), Version("10.0.13"), Version("10.2.2")
VERSIONS = (V72, V100, V102)


@pytest.fixture(scope="module")
def hvm() -> Profile:
    return load_profile("hvm")


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_rendered_files(hvm: Profile, version: Version) -> None:
    files = {file.path: file.content.decode() for file in render_target(hvm, version)}
    assert list(files) == sorted(files)
    assert all(not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts for path in files)
    target = files["configs/targets/xen-dm-softmmu.mak"].splitlines()
    assert "TARGET_ARCH=i386" in target
    assert "TARGET_LONG_BITS=32" in target
    assert "CONFIG_XEN_DM=y" in target
    devices = files["configs/devices/xen-dm-softmmu/default.mak"].splitlines()
    assert "CONFIG_I440FX=y" in devices
    assert "CONFIG_RTL8139_PCI=y" in devices
    assert not [line for line in devices if line and not line.startswith(("#", "CONFIG_"))]
    symbols = [line for line in devices if line.startswith("CONFIG_")]
    assert len(symbols) == len(set(symbols))


def test_option_roms_are_named_as_xen_load_linux_wants_them(hvm: Profile) -> None:
    text = {file.path: file.content.decode() for file in render_target(hvm, V102)}["pc-bios/xen-dm/meson.build"]
    for name in ("linuxboot", "linuxboot_dma", "multiboot", "multiboot_dma", "pvh"):
        assert f"'{name}':" in text
    assert "{{" not in text


def test_a_target_without_a_pc_has_no_option_roms() -> None:
    text = {file.path: file.content.decode() for file in render_target(load_profile("backend"), V102)}
    assert "linuxboot" not in text["pc-bios/xen-dm/meson.build"]
    assert "alias_target('xen-dm', emulators['qemu-system-xen'], xen_dm_roms)" in text["pc-bios/xen-dm/meson.build"]


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest.mark.parametrize("name", list_profiles())
def test_the_left_out_types_are_a_list_in_c(name: str, version: Version, tmp_path: Path) -> None:
    profile = load_profile(name)
    header = next(file for file in render_target(profile, version) if file.path.endswith("xen-dm-types.h"))
    (tmp_path / "types.h").write_bytes(header.content)
    source = (
        '#include <stdio.h>\n#include <stddef.h>\n#include "types.h"\n'
        "int main(void) { for (int i = 0; types_left_out[i]; i++) puts(types_left_out[i]); return 0; }"
    )
    program = tmp_path / "program"
    subprocess.run(["gcc", "-I", tmp_path, "-x", "c", "-", "-o", program], input=source.encode(), check=True)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == list(profile.left_out_for(version))


def test_rendering_is_repeatable(hvm: Profile) -> None:
    assert render_target(hvm, V102) == render_target(load_profile("hvm"), V102)


def test_profiles_differ_in_their_devices_only(hvm: Profile) -> None:
    ours = {file.path: file.content for file in render_target(hvm, V102)}
    full = {file.path: file.content for file in render_target(load_profile("full"), V102)}
    different = {path for path in ours if ours[path] != full[path]}
    assert different == {"configs/devices/xen-dm-softmmu/default.mak", "include/hw/xen/xen-dm-types.h"}
    assert b"CONFIG_VIRTIO_SERIAL=y" in full["configs/devices/xen-dm-softmmu/default.mak"]


def test_symbols_that_a_release_does_not_have_are_left_out(hvm: Profile) -> None:
    old = next(file for file in render_target(hvm, V72) if file.path.endswith("default.mak"))
    new = next(file for file in render_target(hvm, V102) if file.path.endswith("default.mak"))
    assert b"CONFIG_USB_HID" not in old.content
    assert b"CONFIG_USB_HID=y" in new.content


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest.mark.parametrize("name", list_profiles())
def test_configure_arguments(name: str, version: Version) -> None:
    arguments = configure_arguments(load_profile(name), version)
    assert arguments[0] == "--target-list=xen-dm-softmmu"
    assert len(arguments) == len(set(arguments))
    assert all(argument.startswith("-") for argument in arguments)
    assert not [argument for argument in arguments if "/" in argument or "optional" in argument]
    assert {"--disable-tcg", "--disable-kvm", "--enable-vnc", "--enable-xen"} <= set(arguments)
    for library in ("gcrypt", "nettle", "libusb", "virtfs") if name != "stubdom" else ():
        assert not [argument for argument in arguments if argument.endswith(f"able-{library}")]


def test_configure_arguments_follow_the_version(hvm: Profile) -> None:
    assert "--enable-vpc" in configure_arguments(hvm, V100)
    assert not [argument for argument in configure_arguments(hvm, V72) if "vpc" in argument]


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_expected_devices(hvm: Profile, version: Version) -> None:
    devices = expected_devices(hvm, version)
    assert list(devices) == sorted(set(devices))
    assert {"rtl8139", "cirrus-vga", "usb-tablet", "ide-hd", "xen-pci-passthrough", "AC97"} <= set(devices)
    assert "usb-host" not in devices  # hangs on libusb, which is optional
    assert "qxl-vga" not in expected_devices(load_profile("full"), version)


def test_check_symbols(hvm: Profile) -> None:
    symbols = sorted({symbol for device in hvm.devices_for(V102) for symbol in device.kconfig})
    check_symbols(hvm, V102, ["\n".join(f"config {symbol}\n    bool" for symbol in symbols)])
    symbols[symbols.index("VGA_CIRRUS")] = "VGA_CIRRUS_PCI"
    with pytest.raises(UsageError) as caught:
        check_symbols(hvm, V102, [f"config {symbol}" for symbol in symbols])
    assert "VGA_CIRRUS" in caught.value.message
    assert "10.2.2" in caught.value.message
    assert "VGA_CIRRUS_PCI" in caught.value.hint


def test_check_symbols_without_anything_close(hvm: Profile) -> None:
    with pytest.raises(UsageError) as caught:
        check_symbols(hvm, V102, ["config ZZZ"])
    assert "versions" in caught.value.hint


def test_read_kconfig_follows_source(tmp_path: Path) -> None:
    (tmp_path / "hw").mkdir()
    (tmp_path / "Kconfig").write_text("source hw/Kconfig\nsource absent/Kconfig\nconfig TOP\n")
    (tmp_path / "hw" / "Kconfig").write_text("source ../Kconfig\nconfig INNER\n")
    (tmp_path / "hw" / "Kconfig.other").write_text("config OTHER\n")
    texts = "".join(read_kconfig(tmp_path))
    assert "config TOP" in texts
    assert "config INNER" in texts
    assert "OTHER" not in texts
    assert read_kconfig(tmp_path / "absent") == ()
