"""The files of the project's own guests: disks, kernels, and the xl.cfg that names them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xenqemu.lab.assemble import BOOT_SECTOR, BootSector, assemble
from xenqemu.lab.cases import Case, Setting
from xenqemu.lab.cd_image import bootable_cd
from xenqemu.lab.disk_image import SECTOR, pattern_disk, to_qcow, to_qcow2, to_qed, to_vhd
from xenqemu.lab.linux_disk import linux_disk
from xenqemu.lab.linux_guest import build_initramfs
from xenqemu.lab.model import LabBase
from xenqemu.lab.spare import named_host
from xenqemu.lab.spare import words as spare_words
from xenqemu.lab.tools import compile_tool
from xenqemu.state import write_atomic
from xenqemu.vm.xlcfg.lexis import quote

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Of the case's disk.
_IMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "qcow2": to_qcow2,
    "qcow": to_qcow,
    "qed": to_qed,
    "vhd": to_vhd,
    "damaged": lambda raw: bytes(SECTOR) + to_qcow2(raw)[SECTOR:],
}
# Of code of its own.
_STARTED: Mapping[str, tuple[BootSector, Callable[[bytes], bytes]]] = {
    "bootable-cd": (BootSector.FROM_CD, bootable_cd),
}


@dataclass(frozen=True)
class BuiltCase:
    """A case made into files: its xl.cfg, what settings and steps call `{disk}` and so on, and those of steps alone.

    `before` is the case's with the files' paths in it.
    """

    config: Path
    files: Mapping[str, str]
    for_steps: tuple[Path, ...] = ()
    before: tuple[tuple[str, ...], ...] = ()


def build_case(
    case: Case,
    base: Callable[[], LabBase],
    folder: Path,
    words: Mapping[str, str] | None = None,
    stub_domain: Mapping[str, str] | None = None,
) -> BuiltCase:
    """Write the xl.cfg of `case`, and all files that it names, into the existing `folder`.

    The same case gives the same bytes but for the paths. `base` is asked for a Linux guest's kernel and modules, and
    not otherwise. `words` are what its host adds to what it can name (None: the host that it asks for), `stub_domain`
    what its stub domain does. Raises `MissingError` when the boot sector cannot be assembled or a tool not be compiled,
    `LabError` when the base lacks a module, and what `base` raises.
    """
    guest = case.guest
    files = {"folder": str(folder), **(_words_of(case) if words is None else words), **(stub_domain or {})}
    if case.kind.startswith("linux"):
        files["address"] = guest["address"].partition("/")[0]
        raw = pattern_disk()
        prepared = base()
        files["kernel"] = str(prepared.kernel)
        files["initramfs"] = str(build_initramfs(prepared, guest["modules"], folder))
        files["cmdline"] = _cmdline(case, raw)
        if "{boot_disk}" in str(case.settings):
            files["boot_disk"] = str(folder / "boot_disk.img")
            started = linux_disk(
                prepared.kernel.read_bytes(), Path(files["initramfs"]).read_bytes(), files["cmdline"], folder
            )
            write_atomic(folder / "boot_disk.img", started)
    else:
        variant = BootSector[guest.get("variant", "stays").upper()]
        raw = pattern_disk(assemble(folder, variant, guest.get("program", BOOT_SECTOR)))
    images = {"disk": guest.get("image", "raw"), **guest.get("images", {})}
    settings, steps = str(case.settings), f"{case.before} {case.steps}"
    if "{cdrom}" in settings + steps:
        images.setdefault("cdrom", "raw")
    for name, kind in images.items():
        files[name] = str(folder / f"{name}.img")
        write_atomic(folder / f"{name}.img", _image(kind, raw, folder))
    if "{not_a_kernel}" in settings:
        files["not_a_kernel"] = str(folder / "not-a-kernel")
        write_atomic(folder / "not-a-kernel", b"This is not a kernel.\n" * 100)
    config = b"".join(b"%s = %s\n" % (key.encode(), _value(value, files)) for key, value in case.settings.items())
    path = folder / f"{case.name}.cfg"
    write_atomic(path, config)
    files["config"] = str(path)
    for tool in guest.get("tools", ()):
        files[_stem(tool)] = str(compile_tool(tool, folder))
    others = [name for name in images if f"{{{name}}}" in steps and f"{{{name}}}" not in settings]
    before = tuple(tuple(_filled(word, files) for word in argv) for argv in case.before)
    return BuiltCase(
        path, files, tuple(Path(files[name]) for name in (*others, *map(_stem, guest.get("tools", ())))), before
    )


def _stem(tool: str) -> str:
    """Return what a tool is called in settings and steps: `vga/tracking.so` is {tracking}."""
    return Path(tool).stem


def _words_of(case: Case) -> dict[str, str]:
    return spare_words(named_host(case.host).pci) if case.host else {}


def _image(kind: str, raw: bytes, folder: Path) -> bytes:
    if kind in _IMAGES:
        return _IMAGES[kind](raw)
    variant, made = _STARTED[kind]
    return made(assemble(folder, variant))


def _cmdline(case: Case, raw: bytes) -> str:
    disks, cards = case.settings.get("disk", []), case.settings.get("vif", [])
    return " ".join(
        (
            case.guest["cmdline"],
            f"xenqemu.disks={len(disks) if isinstance(disks, list) else 0}",
            f"xenqemu.nics={len(cards) if isinstance(cards, list) else 0}",
            f"xenqemu.sha256={hashlib.sha256(raw).hexdigest()}",
            f"xenqemu.address={case.guest['address']}",
        )
    )


def _value(value: Setting, files: Mapping[str, str]) -> bytes:
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, list):
        return b"[" + b", ".join(_value(item, files) for item in value) + b"]"
    return quote(_filled(value, files))


def _filled(text: str, files: Mapping[str, str]) -> str:
    # In one pass, and not with str.format: a path may have braces in it.
    return _PLACEHOLDER.sub(lambda match: files.get(match[1], match[0]), text)
