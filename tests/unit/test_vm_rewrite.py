"""What `vm use` makes of one config."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.vmconfigs import DM, DOMAIN, HVM, LINES, PV, as_read
from xenqemu.errors import VmConfigError
from xenqemu.vm.rewrite import Rewrite, rewrite, understand

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
