"""What a device model or a Xen will refuse of a VM config, told before a guest finds out. The rules are lint.toml."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from xenqemu.errors import MissingError, UsageError, VmConfigError
from xenqemu.state import StateDir
from xenqemu.vm.device_model import DeviceModel, Interview, default_path
from xenqemu.vm.guest import read_guest
from xenqemu.vm.lint_facts import disk_facts, file_facts, key_facts, machine_facts, pci_facts, usb_controllers
from xenqemu.vm.lint_rules import SEVERITIES, Rule, fill, fits, load_rules, words
from xenqemu.vm.model import GuestView

_RUNNING = Path("/sys/hypervisor/version")
# Which setting is to blame for what a rule looks at one by one.
_SETTINGS = {
    "disk": "disk",
    "vif": "vif",
    "problem": "vif",
    "usbdevice": "usbdevice",
    "usbctrl": "usbctrl",
    "pci": "pci",
    "file": "{file.key}",
}


@dataclass(frozen=True)
class Finding:
    """One thing found: by which rule, how bad, in which line (0: none in particular), what, and what to do.

    An "error" keeps the guest from starting or from working, with a "warning" it starts but not as written, a "hint"
    can be left as it is.
    """

    rule: str
    severity: str
    line: int
    message: str
    hint: str
    reference: str


@dataclass(frozen=True)
class LintReport:
    """What was found in the config at `path`, worst first.

    `device_model` was asked (empty: none, then the rules about device models did not apply) and comes from `origin`;
    `xen` is the version that was assumed, empty for none in particular.
    """

    path: Path
    device_model: str
    origin: str
    xen: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether an error was found."""
        return any(finding.severity == "error" for finding in self.findings)


def running_xen() -> str:
    """Return the version of the Xen that this machine runs under ("4.17"), empty when it runs under none."""
    try:
        return ".".join((_RUNNING / name).read_text().strip() for name in ("major", "minor"))
    except OSError:
        return ""


def lint_config(
    path: Path, state: StateDir, *, binary: Path | None = None, xen: str = "", here: bool = True
) -> LintReport:
    """Return what is wrong with the config at `path`; one that is not for `here` is for another machine.

    Asks the device model `binary`, else the one that the config names, else the toolstack's own if it is here. `xen` is
    the version of the toolstack (default: of the Xen that runs, else that the device model is linked against). For
    another machine only `binary` is asked, and no files that the config names are looked for.
    That it cannot be read is a finding. Raises `MissingError` when `binary` is no device model, `UsageError` when `xen`
    is no version.
    """
    _check_version(xen)
    try:
        guest = read_guest(path)
    except VmConfigError as error:
        finding = Finding("unreadable", "error", 0, error.message, error.hint, "")
        return LintReport(path, "", "the config cannot be read", xen, (finding,))
    return lint_guest(guest, state, binary=binary, xen=xen, here=here)


def _check_version(xen: str) -> None:
    try:
        Version(xen or "0")
    except InvalidVersion as error:
        raise UsageError(f"'{xen}' is no version of Xen", "give it like 4.17") from error


def device_model_of(guest: GuestView) -> tuple[Path | None, str]:
    """Return the device model that `guest` will get as far as it can be told here, and where that is said."""
    if guest.stubdomain.enabled:
        return None, "it runs in a stub domain"
    if guest.device_model_override:
        setting = "device_model_override" if guest.format == "xl" else "<emulator>"
        return Path(guest.device_model_override), setting
    own = default_path()
    return own, "Xen's default" if own else "Xen's default, which is not on this machine"


def lint_guest(
    guest: GuestView,
    state: StateDir,
    *,
    binary: Path | None = None,
    xen: str = "",
    ask: bool = True,
    here: bool = True,
) -> LintReport:
    """Return what is wrong with `guest`; see `lint_config`, whose errors about `binary` it has.

    Without `ask` no device model is started, and the rules that it would have to answer do not apply.
    """
    path, origin = device_model_of(guest) if here else (None, "the guest's machine is another")
    if binary:
        path, origin = binary, "--dm"
    interview, trouble = None, ""
    if path is not None:
        try:
            interview = _interview(path, state, ask=ask)
        except MissingError as error:
            if binary:
                raise
            trouble = error.message
    model = interview.model() if interview else None
    xen = xen or (running_xen() if here else "") or (model.xen if model else "")
    scope = {**_scope(guest, model, trouble, xen), "machine": machine_facts(runs_xen=here and bool(running_xen()))}
    things = _things(guest, xen, here=here)
    rules = [rule for rule in load_rules() if not str(rule.xen) or (xen and rule.xen.contains(xen))]
    found = [finding for rule in rules for finding in _apply(rule, things[rule.each], scope, interview)]
    found.sort(key=lambda finding: (SEVERITIES.index(finding.severity), finding.line))
    asked = os.fspath(path) if interview and path else ""
    return LintReport(guest.path, asked, origin, xen, tuple(dict.fromkeys(found)))


def _interview(path: Path, state: StateDir, *, ask: bool) -> Interview | None:
    interview = Interview(path, state)
    if not ask:
        return None
    interview.model()
    return interview


def _scope(guest: GuestView, model: DeviceModel | None, trouble: str, xen: str) -> dict[str, Any]:
    return {
        "guest": guest,
        "set": guest.config.effective() if guest.config else {},
        "dm": {
            "asked": model is not None,
            "trouble": trouble,
            "path": model.path if model else "",
            "xen": model.xen if model else "",
            "for_xen": model is None or model.for_xen,
            "brings_roms": model is not None and model.brings_roms,
            "missing_library": model.missing_library if model else "",
        },
        "xen": xen,
    }


def _things(guest: GuestView, xen: str, *, here: bool) -> dict[str, tuple[Any, ...]]:
    """Return what the rules look at one by one; the guest as a whole has no name."""
    return {
        "": (None,),
        "disk": tuple(disk_facts(guest, Path().absolute() if here else None)),
        "file": tuple(file_facts(guest.files)) if here else (),
        "key": tuple(key_facts(guest.config, xen)),
        "vif": guest.vifs,
        "problem": tuple(problem for vif in guest.vifs for problem in vif.problems),
        "usbdevice": guest.usbdevices,
        "usbctrl": tuple(usb_controllers(guest)),
        "pci": tuple(pci_facts(guest, here=here and bool(running_xen()))),
        "refusal": guest.refusals,
    }


def _apply(
    rule: Rule, things: tuple[Any, ...], scope: Mapping[str, Any], interview: Interview | None
) -> Iterator[Finding]:
    for thing in things:
        inner = {**scope, rule.each: thing} if rule.each else scope
        if not fits(rule.when, inner):
            continue
        said = _refusal(rule, inner, interview)
        if said is None:
            continue
        inner = {**inner, "said": said}
        setting = fill(rule.setting or _SETTINGS.get(rule.each, ""), inner)
        yield Finding(
            rule=rule.id,
            severity=rule.severity,
            line=thing.line if rule.each == "key" else _line(scope["guest"], setting),
            message=fill(rule.message, inner),
            hint=fill(rule.hint, inner),
            reference=rule.reference,
        )


def _line(guest: GuestView, setting: str) -> int:
    statements = guest.config.statements_of(setting) if guest.config and setting else ()
    return statements[-1].line if statements else 0


def _refusal(rule: Rule, scope: Mapping[str, Any], interview: Interview | None) -> str | None:
    """Return what the device model says to the last of the rule's questions, None if it refuses not all of them."""
    if not rule.asks:
        return ""
    # A device model that does not start, or is none for Xen, is told of once and not by each rule.
    if interview is None or not scope["dm"]["for_xen"] or scope["dm"]["missing_library"]:
        return None
    if rule.knows and interview.knows_option(*words(rule.knows, scope)):
        return None
    asking = {"option": interview.knows_option, "start": interview.starts_with, "sandbox": interview.starts_limited}
    said: str | None = None
    for question in rule.asks:
        said = asking[rule.ask](*words(question, scope))
        if not said or not re.search(rule.said, said):
            return None
    return said
