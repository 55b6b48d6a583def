"""Which VM configs there are, and what is wrong with each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import UsageError, VmConfigError
from xenqemu.state import StateDir
from xenqemu.vm.guest import read_guest
from xenqemu.vm.libvirt import is_xml
from xenqemu.vm.lint import Finding, device_model_of, lint_guest
from xenqemu.vm.xlcfg import XlSyntaxError, parse

DEFAULT_FOLDERS = (Path("/etc/xen"), Path("/etc/libvirt/libxl"))
# A guest has some of these; no configuration of xl itself, of a CPU pool or of xendomains has one.
_GUEST_KEYS = frozenset(("memory", "disk", "vif", "kernel", "builder", "type", "bootloader", "maxmem", "vcpus"))
_ASSIGNMENT = re.compile(rb"^[ \t]*([a-z_0-9]+)[ \t]*\+?=", re.MULTILINE)
_DOMAIN = re.compile(rb"<domain\b")
# Larger than any config that somebody wrote.
_MAX_SIZE = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A VM config: what it makes, which device model it gets and where that is said, what is wrong with it.

    `type` is empty for what cannot be read; `device_model` for what is not known here (a toolstack's default).
    """

    path: Path
    name: str
    type: str
    device_model: str
    origin: str
    problems: tuple[str, ...]


def list_guests(paths: Sequence[Path], state: StateDir) -> tuple[Entry, ...]:
    """Return the VM configs among `paths`, files as they are and folders for the configs in them, each once.

    Without `paths` those of Xen and of libvirt are looked through where they exist. No device model is started. A
    folder is not descended into. Raises `UsageError` for a path that does not exist, `VmConfigError` for a folder that
    cannot be read.
    """
    folders = [folder for folder in DEFAULT_FOLDERS if folder.is_dir()]
    files = dict.fromkeys(file for path in (paths or folders) for file in _files(path))
    return tuple(_entry(file, state) for file in files)


def _files(path: Path) -> Iterator[Path]:
    if not os.path.lexists(path):
        raise UsageError(f"{path} does not exist", "name a VM config or a folder with some")
    if not path.is_dir():
        yield path
        return
    try:
        found = sorted(path.iterdir())
    except OSError as error:
        raise VmConfigError(f"{path} cannot be read: {error.strerror}", "become who may read it") from error
    yield from (file for file in found if is_vm_config(file))


def is_vm_config(path: Path) -> bool:
    """Whether the file at `path` looks like the config of a guest: two settings of one, or domain XML.

    One that xl would refuse counts too; a backup (NAME~), a hidden file or a program does not.
    """
    if path.name.startswith(".") or path.name.endswith("~"):
        return False
    try:
        if not path.is_file() or path.stat().st_size > _MAX_SIZE:
            return False
        data = path.read_bytes()
    except OSError:
        return False
    if is_xml(data):
        return _DOMAIN.search(data) is not None
    if data.startswith(b"#!") and os.access(path, os.X_OK):
        return False
    try:
        keys = set(parse(data, path.name).effective())
    except XlSyntaxError:
        keys = {key.decode() for key in _ASSIGNMENT.findall(data)}
    return len(keys & _GUEST_KEYS) + ("name" in keys) > 1


def _entry(path: Path, state: StateDir) -> Entry:
    try:
        guest = read_guest(path)
    except VmConfigError as error:
        return Entry(path, "", "", "", "", (error.message,))
    model, origin = device_model_of(guest)
    report = lint_guest(guest, state, ask=False)
    problems = tuple(_problem(finding) for finding in report.findings if finding.severity != "hint")
    return Entry(path, guest.name, guest.type, os.fspath(model) if model else "", origin, problems)


def _problem(finding: Finding) -> str:
    return f"line {finding.line}: {finding.message}" if finding.line else finding.message
