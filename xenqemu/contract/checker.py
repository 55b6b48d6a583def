"""What a device model makes of the contract, without Xen: each entry is tried as far as that goes."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from xenqemu.contract.machine import Machine, Started, descriptors, free_port
from xenqemu.contract.model import CheckReport, Contract, Entry, Probe, Result, Verdict, xen_name
from xenqemu.errors import UsageError
from xenqemu.ui import Ui

_SENTINEL = "-the-last-option"
# What is said when all that is missing is Xen (accel/xen/xen-all.c and hw/xen of QEMU, libs/call of Xen); or, on a
# Xen host, the domain.
_NO_XEN = re.compile(
    r"failed to initialize xen|can't open xen|privileged command interface|xen hardware virtual machine"
)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SURVEY = (
    "query-version",
    "query-command-line-options",
    "query-qmp-schema",
    "query-hotpluggable-cpus",
)


@dataclass(frozen=True)
class _Survey:
    """What a device model says about itself: its options with their parameters, its QMP schema, its CPU type."""

    version: Version
    package: str
    options: Mapping[str, frozenset[str]]
    schema: Mapping[str, Mapping[str, Any]]
    cpu_type: str


def check(binary: Path, xen: Version, contract: Contract, ui: Ui, *, data: Sequence[Path] = ()) -> CheckReport:
    """Return what the device model `binary` makes of everything that libxl of `xen` can pass to it.

    `data` are folders with the data files of a `binary` that does not find them by itself.
    Nothing on the machine is changed: no network interface, no user, no file outside of a temporary folder; ports of
    the loopback address are listened to for a moment. Raises `MissingError` when `binary` cannot be run and
    `UsageError` when it is no QEMU for PCs.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="xenqemu-contract-") as folder, descriptors() as fds:
        checker = _Checker(Machine(binary.absolute(), Path(folder), data), contract, fds)
        with ui.step(f"asking {binary.name} for what libxl of Xen {xen_name(xen)} can pass"):
            entries = [entry for entry in contract.entries if entry.passed_by(xen)]
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                results = list(pool.map(checker.check, entries))
    survey = checker.survey
    judged = tuple(_known(result, xen, survey.version) for result in _chosen(results))
    return CheckReport(survey.version, survey.package, xen, judged, time.monotonic() - started)


def _chosen(results: Sequence[Result]) -> Iterator[Result]:
    """Yield the results with what libxl would not pass to this device model marked as such.

    Of an old spelling and its successor libxl passes the successor where that is known (device_model_probe_cmdline()
    in libxl_dm.c since Xen 4.20.3), else the old one.
    """
    verdicts = {result.entry.id: result.verdict for result in results}
    old = {result.entry.unless: result.entry.id for result in results if result.entry.unless}
    for result in results:
        entry = result.entry
        if entry.unless and verdicts.get(entry.unless) is Verdict.TAKEN:
            yield replace(result, verdict=Verdict.ELSEWHERE, message=f"libxl passes {entry.unless} instead")
        elif entry.id in old and result.verdict is Verdict.REFUSED:
            yield replace(result, verdict=Verdict.ELSEWHERE, message=f"libxl passes {old[entry.id]} instead")
        else:
            yield result


def _known(result: Result, xen: Version, qemu: Version) -> Result:
    if result.verdict is Verdict.REFUSED:
        for gap in result.entry.gap(xen, qemu):
            if not gap.message or re.search(gap.message, result.message):
                return replace(result, verdict=Verdict.GAP, message=f"{result.message} ({gap.reason})")
    return result


class _Checker:
    def __init__(self, machine: Machine, contract: Contract, fds: Mapping[str, int]) -> None:
        self._machine = machine
        self._fds = fds
        self.survey = _survey(machine)
        self._samples = {
            **contract.samples,
            "scratch": ".",  # where it runs; a socket's path may have 107 bytes, and a folder's may be long
            "cpu_type": self.survey.cpu_type,
            **{name: str(number) for name, number in fds.items()},
        }

    def check(self, entry: Entry) -> Result:
        """Return what the device model makes of `entry`."""
        began = time.monotonic()
        if not entry.sent_to(self.survey.version):
            verdict, message = Verdict.ELSEWHERE, f"libxl sends it to QEMU {entry.qemu} only"
        elif entry.probe is Probe.NONE:
            verdict, message = Verdict.UNTRIED, "nothing to ask without a guest"
        else:
            message = _PROBES[entry.probe](self, entry)
            taken = not message or (entry.taken and re.search(entry.taken, message))
            verdict = Verdict.TAKEN if taken else Verdict.REFUSED
        return Result(entry, verdict, message, time.monotonic() - began)

    def _words(self, words: Sequence[str], entry: Entry) -> tuple[str, ...]:
        samples = {
            **self._samples,
            "port": str(free_port()),
            "disk": self._machine.disk(entry.id).name,
            **entry.samples,
        }
        return tuple(_fill(word, samples) for word in words)

    def _argv(self, entry: Entry) -> tuple[str, ...]:
        return self._words((*entry.setup, *(entry.check or entry.argv)), entry)

    def _start(self, entry: Entry) -> str:
        return self._machine.start(self._argv(entry), (), tuple(self._fds.values()), entry.limits).complaint

    def _name(self, entry: Entry) -> str:
        complaint = self._machine.start((*self._argv(entry), _SENTINEL)).complaint
        return "" if _SENTINEL in complaint else complaint

    def _xen(self, entry: Entry) -> str:
        domid = () if "-xen-domid" in entry.argv else ("-xen-domid", self._samples["domid"])
        started = self._machine.start_xen((*domid, *self._argv(entry)), tuple(self._fds.values()))
        return "" if started.up or _NO_XEN.search(started.output) else started.complaint

    def _options(self, entry: Entry) -> str:
        option, value = entry.argv[0].removeprefix("-"), entry.argv[1].partition("=")[0]
        known = self.survey.options.get(option)
        if known is None:
            return f"query-command-line-options has no {option}"
        return "" if value in known else f"query-command-line-options has no {value} for {option}"

    def _schema(self, entry: Entry) -> str:
        if entry.execute:
            return _described(self.survey.schema, entry.execute, entry.arguments)
        command, *names = entry.check
        known = _names(self.survey.schema, command)
        missing = [name for name in names if name not in known]
        return f"{command} has no {', '.join(missing)}" if missing else ""

    def _execute(self, entry: Entry) -> str:
        started = self._machine.start(self._words(entry.setup, entry), [self._command(entry)])
        return _refusal(started)

    def _properties(self, entry: Entry) -> str:
        driver = entry.arguments["driver"]
        asked = {"execute": "device-list-properties", "arguments": {"typename": driver}}
        started = self._machine.start((), [asked])
        if refusal := _refusal(started):
            return refusal
        known = {item["name"] for item in started.answer(0)}
        missing = [name for name in entry.arguments if name not in known | {"driver", "id"}]
        return f"{driver} has no property {', '.join(missing)}" if missing else ""

    def _command(self, entry: Entry) -> dict[str, Any]:
        filled = {
            name: self._words([value], entry)[0] if isinstance(value, str) else value
            for name, value in entry.arguments.items()
        }
        return {"execute": entry.execute, "arguments": filled}


_PROBES = {
    Probe.START: _Checker._start,
    Probe.NAME: _Checker._name,
    Probe.XEN: _Checker._xen,
    Probe.OPTIONS: _Checker._options,
    Probe.SCHEMA: _Checker._schema,
    Probe.EXECUTE: _Checker._execute,
    Probe.PROPERTIES: _Checker._properties,
}


def _fill(word: str, samples: Mapping[str, str]) -> str:
    """Return `word` with each `{name}` replaced; samples may have them too, unknown names stand for themselves."""
    return _PLACEHOLDER.sub(lambda match: _fill(samples[match[1]], samples) if match[1] in samples else match[1], word)


def _refusal(started: Started) -> str:
    if not started.up:
        return started.complaint
    error = started.answers[0].get("error") if started.answers else {"desc": "no answer"}
    return str(error["desc"]) if error else ""


def _survey(machine: Machine) -> _Survey:
    started = machine.start((), [{"execute": name} for name in _SURVEY])
    version, options, schema, cpus = (started.answer(index) for index in range(len(_SURVEY)))
    if not started.up or version is None or schema is None:
        raise UsageError(
            f"{machine.binary} does not start as an idle PC: {started.complaint or 'QMP does not answer'}",
            "name the binary of a device model: a QEMU for x86",
        )
    qemu = version["qemu"]
    return _Survey(
        Version(f"{qemu['major']}.{qemu['minor']}.{qemu['micro']}"),
        version["package"],
        {item["option"]: frozenset(parameter["name"] for parameter in item["parameters"]) for item in options or ()},
        {item["name"]: item for item in schema},
        next((item["type"] for item in cpus or ()), ""),
    )


_JSON_TYPES = {str: "string", bool: "boolean", int: "int"}


def _described(schema: Mapping[str, Mapping[str, Any]], command: str, arguments: Mapping[str, Any]) -> str:
    """Return what the device model's own description (docs/interop/qmp-spec of QEMU) says against a command, if any."""
    if schema.get(command, {}).get("meta-type") != "command":
        return f"there is no QMP command {command}"
    return _members(schema, schema[command]["arg-type"], arguments, command)


def _members(schema: Mapping[str, Mapping[str, Any]], type_: str, values: Mapping[str, Any], where: str) -> str:
    info = schema[type_]
    known = {member["name"]: member["type"] for member in info.get("members", ())}
    for variant in info.get("variants", ()):
        if variant["case"] == values.get(info["tag"]):
            known |= {member["name"]: member["type"] for member in schema[variant["type"]].get("members", ())}
    for name, value in values.items():
        if name not in known:
            return f"{where} has no argument {name}"
        kind = schema[known[name]]
        if isinstance(value, Mapping):
            if reason := _members(schema, known[name], value, f"{where}.{name}"):
                return reason
        elif kind["meta-type"] == "builtin" and kind["json-type"] != _JSON_TYPES[type(value)]:
            return f"{where} takes a JSON {kind['json-type']} for {name}"
    missing = {m["name"] for m in info.get("members", ()) if "default" not in m} - values.keys()
    return f"{where} wants {', '.join(sorted(missing))} too" if missing else ""


def _names(schema: Mapping[str, Mapping[str, Any]], command: str) -> set[str]:
    """Return the names of all arguments, their members and their values, below a command."""
    waiting, seen, names = [schema.get(command, {}).get("arg-type", "")], set[str](), set[str]()
    while waiting:
        info = schema.get(waiting.pop(), {})
        if info.get("name") in seen or not info:
            continue
        seen.add(info["name"])
        names |= {str(item["name"]) for item in info.get("members", ())} | set(info.get("values", ()))
        names |= {str(variant["case"]) for variant in info.get("variants", ())}
        waiting += [item["type"] for key in ("members", "variants") for item in info.get(key, ()) if "type" in item]
        waiting += [info["element-type"]] if "element-type" in info else []
    return names
