"""The contract between libxl and a device model, as values: what is passed, by which Xen, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

# A version of two numbers means the newest release of that series; no release has this third number.
_NEWEST = 99


def xen_version(text: str) -> Version:
    """Return the Xen that `text` names: a release (`4.20.1`), or the newest of a series (`4.20`).

    Raises `packaging.version.InvalidVersion`.
    """
    version = Version(text)
    return version if len(version.release) > 2 else Version(f"{version.major}.{version.minor}.{_NEWEST}")


def xen_name(version: Version) -> str:
    """Return what a user calls a Xen of `xen_version`."""
    return f"{version.major}.{version.minor}" if version.micro == _NEWEST else str(version)


class Probe(enum.Enum):
    """How far a device model can be asked for an entry on a machine without Xen."""

    START = "start"  # a PC is started with it
    NAME = "name"  # only whether the option exists: using it would change the machine, or needs files of a guest
    XEN = "xen"  # started with Xen as the accelerator; all that is wrong with it is that there is no Xen
    OPTIONS = "options"  # the option and its parameters are in query-command-line-options, where libxl looks too
    SCHEMA = "schema"  # the QMP command and its arguments' types are in the device model's own description
    EXECUTE = "execute"  # the QMP command is executed on a running PC
    PROPERTIES = "properties"  # the device type and its properties exist
    NONE = "none"  # nothing that the device model could refuse


@dataclass(frozen=True)
class Change:
    """What a QEMU release did to an entry: `qemu` is the first with it, `what` says so in a sentence."""

    qemu: Version
    what: str


@dataclass(frozen=True)
class Gap:
    """A combination that cannot work, and is expected not to: why, and where that can be read.

    `message` (a regular expression), when not empty, is what the device model must say: it names a build that lacks
    something, rather than versions.
    """

    reason: str
    reference: str
    xen: SpecifierSet
    qemu: SpecifierSet
    message: str = ""


@dataclass(frozen=True)
class Entry:
    """One thing that libxl passes to a device model.

    `id` is unique; `group` the file that has it; `kind` one of option, device, property, machine, drive, object,
    chardev, qmp and environment. `xl` is the part of an xl.cfg that causes it (empty: every guest has it), `command`
    what is done to the running guest (`{guest}` is its name). `source` names file and function of libxl.

    `argv` is what is passed, with `{names}` for what varies; `values` are literals that libxl puts into these;
    `samples` is what a check puts into them. Or `execute` and `arguments`: a QMP command; or `environment`.

    `xen` are the releases that pass it, `qemu` those to which libxl would send it. `unless` is the entry that libxl
    passes instead where the device model knows it. `case` names the guest of the lab that shows it working.

    `probe` says how it can be checked without Xen: with `check` in place of `argv` unless that is empty, after the
    arguments `setup` and with the resource `limits` that libxl sets (prlimit(1)'s names); messages that match `taken`
    say that the device model took it.
    """

    id: str
    group: str
    kind: str
    source: str
    case: str
    probe: Probe
    xl: str = ""
    command: str = ""
    argv: Sequence[str] = ()
    values: Sequence[str] = ()
    samples: Mapping[str, str] = field(default_factory=dict)
    execute: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Sequence[str] = ()
    xen: SpecifierSet = field(default_factory=SpecifierSet)
    qemu: SpecifierSet = field(default_factory=SpecifierSet)
    unless: str = ""
    changes: Sequence[Change] = ()
    gaps: Sequence[Gap] = ()
    setup: Sequence[str] = ()
    check: Sequence[str] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    taken: str = ""

    def passed_by(self, xen: Version) -> bool:
        """Whether libxl of this Xen can pass it."""
        return self.xen.contains(xen, prereleases=True)

    def sent_to(self, qemu: Version) -> bool:
        """Whether libxl would send it to this QEMU, whose version it asks for in some places."""
        return self.qemu.contains(qemu, prereleases=True)

    def gap(self, xen: Version, qemu: Version) -> tuple[Gap, ...]:
        """Return the gaps of this combination, those with a message among them."""
        return tuple(
            gap
            for gap in self.gaps
            if gap.xen.contains(xen, prereleases=True) and gap.qemu.contains(qemu, prereleases=True)
        )


@dataclass(frozen=True)
class Case:
    """A guest of the lab: lines of its xl.cfg, commands for when it runs (`{guest}`), and the entries that it shows.

    The lines are those of each entry, so that one setting may be in several.
    """

    id: str
    config: tuple[str, ...]
    commands: tuple[str, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Contract:
    """All entries in the order of `contract.toml`; `xens` are the Xen releases whose trees were read for it."""

    xens: tuple[Version, ...]
    samples: Mapping[str, str]
    entries: tuple[Entry, ...]


class Verdict(enum.Enum):
    """What a device model makes of an entry, as far as can be seen without Xen."""

    TAKEN = "taken"
    REFUSED = "refused"
    GAP = "gap"  # refused, and known to be
    UNTRIED = "untried"  # nothing to ask, or not to be asked here
    ELSEWHERE = "not passed"  # libxl passes something else to this device model


@dataclass(frozen=True)
class Result:
    """The verdict on one entry; `message` is the device model's own, or says why there is none."""

    entry: Entry
    verdict: Verdict
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckReport:
    """What `check` found: the device model's QEMU version, the Xen asked for, a result for each of its entries."""

    qemu: Version
    package: str
    xen: Version
    results: tuple[Result, ...]
    seconds: float

    @property
    def refused(self) -> tuple[Result, ...]:
        """The results that are neither taken nor known gaps."""
        return tuple(result for result in self.results if result.verdict is Verdict.REFUSED)
