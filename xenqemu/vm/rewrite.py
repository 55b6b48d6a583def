"""What `vm use` makes of one config: its new bytes, and what has to be said about them. Nothing is written here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import VmConfigError
from xenqemu.text import printable
from xenqemu.vm.guest import parse_xl, view_xl
from xenqemu.vm.libvirt import Domain, is_xml, parse_domain, set_emulator
from xenqemu.vm.model import QEMU_XEN, TRADITIONAL, GuestView
from xenqemu.vm.replace import ConfigFile
from xenqemu.vm.stubdom import StubImages
from xenqemu.vm.xlcfg import Value, XlConfig, edit

_LIBVIRT = Path("/etc/libvirt")
# virXMLEmitWarning in src/util/virxml.c begins the files that libvirt writes for itself so.
_LIBVIRT_WARNING = b"AUTO-GENERATED FILE"
_GUESTS = {"pv": "a PV guest", "pvh": "a PVH guest"}
_OS_TYPES = {"linux": "pv", "xen": "pv", "xenpvh": "pvh"}


@dataclass(frozen=True)
class Setting:
    """A setting that changes: `before` is None where there was none."""

    name: str
    before: str | None
    after: str


@dataclass(frozen=True)
class Rewrite:
    """The new `content` of a config, the settings that change, notes for the user.

    `left_alone` says why the config is better not changed; empty if it should be.
    """

    content: bytes
    changes: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()
    left_alone: str = ""


@dataclass(frozen=True)
class XlVm:
    """An xl.cfg, understood."""

    file: ConfigFile
    config: XlConfig
    view: GuestView

    @property
    def is_hvm(self) -> bool:
        """Whether it is an HVM guest's, complete enough to have a name."""
        return self.view.hvm and bool(self.view.name)


@dataclass(frozen=True)
class LibvirtVm:
    """A libvirt domain, understood."""

    file: ConfigFile
    domain: Domain

    @property
    def is_hvm(self) -> bool:
        """Whether it is an HVM guest's under Xen, complete enough to have a name."""
        return self.domain.kind == "xen" and self.domain.os_type == "hvm" and bool(self.domain.name)


def understand(file: ConfigFile) -> XlVm | LibvirtVm:
    """Return what `file` says, told from its content; raises `VmConfigError` if it is no config."""
    if is_xml(file.content):
        return LibvirtVm(file, parse_domain(file.content, printable(file.path)))
    config = parse_xl(file.content, printable(file.path))
    return XlVm(file, config, view_xl(config, file.path.parent))


def rewrite(
    vm: XlVm | LibvirtVm, binary: Path, *, legacy: bool, force: bool, stubdom: StubImages | None = None
) -> Rewrite:
    """Return what becomes of `vm` when it shall use `binary`; `legacy` writes what only the oldest toolstacks read.

    With a `stubdom` its device model is to be the one in that stub domain, and `binary` what serves that in dom0.
    Raises `VmConfigError` for what must not be changed without `force`, or cannot be said in that format.
    """
    if isinstance(vm, XlVm):
        return _rewrite_xl(vm, binary, stubdom, legacy=legacy, force=force)
    if stubdom is not None:
        raise VmConfigError(
            f"{printable(vm.file.path)}: libvirt has no setting for a device model in a stub domain",
            "`virsh domxml-to-native xen-xl` makes an xl.cfg of it",
        )
    return _rewrite_libvirt(vm, binary, legacy=legacy, force=force)


def _rewrite_xl(vm: XlVm, binary: Path, stubdom: StubImages | None, *, legacy: bool, force: bool) -> Rewrite:
    config, view = vm.config, vm.view
    notes = [f"xl refuses this config: {refusal}" for refusal in view.refusals]
    if not view.hvm and (stubdom is not None or not force):
        reason = f"{_GUESTS[view.type]} ({view.type_reason}) has no device model but for its backends"
        return Rewrite(config.data, notes=tuple(notes), left_alone=reason)
    wanted = _settings(config, os.fspath(binary), notes, legacy=legacy, force=force)
    wanted |= stubdom.settings(max(view.memory, view.max_memory)) if stubdom is not None else {}
    changes = tuple(
        Setting(name, _shown(config.get(name)), value) for name, value in wanted.items() if config.get(name) != value
    )
    notes += _contradictions(view, config, binary, asked=stubdom is not None)
    return Rewrite(edit(config, wanted), changes, tuple(notes))


def _settings(config: XlConfig, binary: str, notes: list[str], *, legacy: bool, force: bool) -> dict[str, str]:
    obsolete = config.text("device_model")
    if legacy:
        notes.append("device_model is read by the oldest toolstacks only; xl of today warns of it and ignores it")
        return {"device_model": binary}
    version = config.text("device_model_version")
    if version not in (None, QEMU_XEN) and not force:
        why = (
            "a device model of its own kind: its guests were installed on other hardware and with another BIOS"
            if version == TRADITIONAL
            else "which xl does not know"
        )
        raise VmConfigError(
            f'{config.name}: it has device_model_version="{version}", {why}',
            f'--force makes it "{QEMU_XEN}"; try that with a copy of the guest first',
        )
    wanted = {"device_model_override": binary, "device_model_version": QEMU_XEN}
    if obsolete is not None and "stubdom-dm" in obsolete:
        # xl looks for this very word (parse_config_data in tools/xl/xl_parse.c).
        notes.append("device_model asks for a stub domain (stubdom-dm) and was left so; xl of today ignores it")
    elif obsolete is not None:
        wanted["device_model"] = binary
        notes.append("device_model, which xl of today warns of and ignores, goes along for older toolstacks")
    return wanted


def _contradictions(view: GuestView, config: XlConfig, binary: Path, *, asked: bool) -> list[str]:
    """Return what else in the config is about another device model than `binary`; it is left as it is."""
    notes = []
    stubdomain = [name for name in config.effective() if name.startswith("stubdomain_")]
    if asked:
        notes.append(f"the device model is the one in the stub domain, and {binary.name} serves that domain's consoles")
    elif view.stubdomain.enabled:
        # libxl__spawn_stub_dm in tools/libs/light/libxl_dm.c hands the guest's device_model on to the stub domain.
        notes.append(
            "device_model_stubdomain_override is set: the guest's device model is the one in the stub domain, and "
            f"{binary.name} only serves the stub domain's own disks and consoles"
        )
    elif stubdomain:
        notes.append(f"{', '.join(stubdomain)}: without effect, as device_model_stubdomain_override is not set")
    if view.firmware == "rombios":
        # libxl__domain_build_info_setdefault in tools/libs/light/libxl_create.c
        notes.append(f'bios="rombios" goes with {TRADITIONAL} only: libxl refuses it with {QEMU_XEN}')
    return notes


def _shown(value: Value | None) -> str | None:
    return value if value is None or isinstance(value, str) else "[...]"


def _rewrite_libvirt(vm: LibvirtVm, binary: Path, *, legacy: bool, force: bool) -> Rewrite:
    file, domain = vm.file, vm.domain
    reason = ""
    if domain.kind != "xen":
        reason = f"a domain of type '{domain.kind}', and not of Xen"
    elif domain.os_type in _OS_TYPES:
        reason = f"{_GUESTS[_OS_TYPES[domain.os_type]]} (<os><type>) has no device model but for its backends"
    elif domain.os_type != "hvm":
        reason = f"<os><type> is '{domain.os_type}', and only hvm has a device model"
    if reason and not force:
        return Rewrite(file.content, left_alone=reason)
    content = set_emulator(domain, os.fspath(binary))
    notes = []
    if content != file.content and (_LIBVIRT_WARNING in file.content[:500] or file.path.is_relative_to(_LIBVIRT)):
        notes.append(f"this is libvirt's own file, which it may overwrite: `virsh define {file.path}` makes it known")
    if legacy:
        notes.append("--legacy is about xl.cfg; libvirt has one setting, <emulator>")
    if len(domain.emulators) > 1:
        notes.append("it has more than one <emulator>; libvirt reads the first")
    changed = content != file.content
    changes = (Setting("emulator", domain.emulator, os.fspath(binary)),) if changed else ()
    return Rewrite(content, changes, tuple(notes))
