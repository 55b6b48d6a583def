"""The project's own guests: what guests/cases.toml says, made into files that xl can be given."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from packaging.version import Version

from xenqemu.errors import UsageError
from xenqemu.lab.assemble import BootSector, assemble
from xenqemu.lab.boot import Check
from xenqemu.lab.disk_image import SECTOR, pattern_disk, to_qcow2
from xenqemu.lab.linux_guest import build_initramfs
from xenqemu.lab.model import LabBase
from xenqemu.state import write_atomic
from xenqemu.vm.xlcfg.lexis import quote

Setting = str | int | list[str]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_IMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "qcow2": to_qcow2,
    "damaged": lambda raw: bytes(SECTOR) + to_qcow2(raw)[SECTOR:],
}


@dataclass(frozen=True)
class Case:
    """One guest, see guests/cases.toml for what its parts mean.

    `kind` is `boot-sector` or `linux`. A guest that is to boot says what `expect` (a regular expression) matches within
    `timeout` seconds, and then `checks` hold; for one that is not to boot `fails` matches the reason, and is not empty.
    `xen` and `qemu` are the oldest that can do it (None: all that are supported). `guest` tells `build_case` what
    its files hold.
    """

    name: str
    summary: str
    kind: str
    settings: Mapping[str, Setting]
    expect: str
    timeout: float
    checks: tuple[Check, ...] = ()
    fails: str = ""
    xen: Version | None = None
    qemu: Version | None = None
    guest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def boots(self) -> bool:
        """Whether the guest is to boot."""
        return not self.fails


@cache
def load_cases() -> tuple[Case, ...]:
    """Return all cases, in the order of guests/cases.toml."""
    text = (resources.files("xenqemu.lab") / "guests" / "cases.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    return tuple(_case(name, table, tables["kind"][table["kind"]]) for name, table in tables["case"].items())


def find_case(name: str) -> Case:
    """Return the case called `name`. Raises `UsageError` when there is none."""
    cases = {case.name: case for case in load_cases()}
    if name not in cases:
        raise UsageError(f"the lab has no case '{name}'", f"it has {', '.join(cases)}")
    return cases[name]


def _case(name: str, table: Mapping[str, Any], kind: Mapping[str, Any]) -> Case:
    words = {**kind, **table}
    words["cmdline"] = " ".join(part for part in (kind.get("cmdline"), table.get("cmdline")) if part)
    needs = words.get("needs", {})
    known = {"name": name, "address": str(words.get("address", "")).partition("/")[0]}
    return Case(
        name=name,
        summary=words["summary"],
        kind=words["kind"],
        settings={"name": name, **kind["settings"], **table.get("settings", {})},
        expect=words["expect"],
        timeout=float(words["timeout"]),
        checks=tuple(
            Check(tuple(word.format(**known) for word in check["command"]), check["expect"])
            for check in words.get("checks", ())
        ),
        fails=words.get("fails", ""),
        xen=Version(needs["xen"]) if "xen" in needs else None,
        qemu=Version(needs["qemu"]) if "qemu" in needs else None,
        guest={key: words[key] for key in ("variant", "image", "modules", "cmdline", "address") if key in words},
    )


def build_case(case: Case, base: Callable[[], LabBase], folder: Path) -> Path:
    """Write the xl.cfg of `case`, and all files that it names, into the existing `folder`; return the xl.cfg.

    The same case gives the same bytes but for the paths. `base` is asked for a Linux guest's kernel and modules, and
    not otherwise. Raises `MissingError` when the boot sector cannot be assembled, `LabError` when the base lacks a
    module, and what `base` raises.
    """
    guest = case.guest
    files = {"folder": str(folder), "disk": str(folder / "disk.img"), "cdrom": str(folder / "cdrom.img")}
    if case.kind == "linux":
        raw = pattern_disk()
        prepared = base()
        files["kernel"] = str(prepared.kernel)
        files["initramfs"] = str(build_initramfs(prepared, guest["modules"], folder))
        files["cmdline"] = _cmdline(case, raw)
    else:
        raw = pattern_disk(assemble(folder, BootSector[guest.get("variant", "stays").upper()]))
    write_atomic(folder / "disk.img", _IMAGES[guest.get("image", "raw")](raw))
    wanted = str(case.settings)
    if "{cdrom}" in wanted:
        write_atomic(folder / "cdrom.img", pattern_disk())
    if "{not_a_kernel}" in wanted:
        files["not_a_kernel"] = str(folder / "not-a-kernel")
        write_atomic(folder / "not-a-kernel", b"This is not a kernel.\n" * 100)
    config = b"".join(b"%s = %s\n" % (key.encode(), _value(value, files)) for key, value in case.settings.items())
    path = folder / f"{case.name}.cfg"
    write_atomic(path, config)
    return path


def _cmdline(case: Case, raw: bytes) -> str:
    disks, cards = case.settings["disk"], case.settings["vif"]
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
    # In one pass, and not with str.format: a path may have braces in it.
    return quote(_PLACEHOLDER.sub(lambda match: files.get(match[1], match[0]), value))
