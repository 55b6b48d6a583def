"""The project's own guests, as guests/kinds.toml and guests/cases/*.toml describe them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xenqemu.errors import UsageError
from xenqemu.lab.steps import Step, read_step

Setting = str | int | list[str]

# The group of those that show at once whether anything works.
BASIC = "basics"
_GUEST = ("program", "variant", "image", "images", "modules", "cmdline", "address", "extra", "tools", "host")


@dataclass(frozen=True)
class KnownGap:
    """A combination in which a case fails, and is expected to: `fails` (a regular expression) matches how.

    `reason` says why in a sentence, `reference` where that can be read. `xen` and `qemu` are the releases. With
    `some_builds` not all builds of these fail: a case that works is no surprise. (It is not in `repr`, by which
    scripts/contract-table knows a case again: one that has it has another text and other releases, too.)
    """

    fails: str
    reason: str
    reference: str
    xen: SpecifierSet = field(default_factory=SpecifierSet)
    qemu: SpecifierSet = field(default_factory=SpecifierSet)
    some_builds: bool = field(default=False, repr=False)

    def concerns(self, xen: Version, qemu: Version) -> bool:
        """Whether this is about that Xen with that QEMU."""
        return self.xen.contains(xen, prereleases=True) and self.qemu.contains(qemu, prereleases=True)


@dataclass(frozen=True)
class Case:
    """One guest, see guests/kinds.toml for what its parts mean.

    `kind` is one of kinds.toml or of kinds/*.toml, or `none` for what the lab cannot do at all, with its `reason` and
    `reference`. A guest that is to boot says what `expect` (a regular expression) matches within `timeout` seconds,
    and then its `steps` hold; for one that is not to boot `fails` matches the reason, and is not empty. `xen` and
    `qemu` are the oldest that can do it (None: all that are supported), `gaps` where it is known to fail. `before` is
    what dom0 has to run in front of it. A `slow` one, or one whose devices others have too, is not for every day.
    `guest` tells `build_case` what its files hold.
    """

    name: str
    summary: str
    kind: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    expect: str = ""
    timeout: float = 0.0
    before: tuple[tuple[str, ...], ...] = ()
    steps: tuple[Step, ...] = ()
    fails: str = ""
    xen: Version | None = None
    qemu: Version | None = None
    gaps: tuple[KnownGap, ...] = ()
    reason: str = ""
    reference: str = ""
    group: str = ""
    slow: bool = False
    guest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether there is a guest to create."""
        return self.kind != "none"

    @property
    def host(self) -> str:
        """The name of the host that it needs (spare.toml), empty for the usual one."""
        return str(self.guest.get("host", ""))

    @property
    def stub_domain(self) -> bool:
        """Whether its device model runs in a stub domain."""
        return bool(self.settings.get("device_model_stubdomain_override"))

    @property
    def boots(self) -> bool:
        """Whether the guest is to boot."""
        return self.runs and not self.fails

    def known_gaps(self, xen: Version, qemu: Version) -> tuple[KnownGap, ...]:
        """Return what is known to keep this case from working with that Xen and that QEMU."""
        return tuple(gap for gap in self.gaps if gap.concerns(xen, qemu))


@cache
def load_cases() -> tuple[Case, ...]:
    """Return all cases, by group in alphabetical order, as they stand there."""
    folder = resources.files("xenqemu.lab") / "guests"
    tables = (folder / "kinds.toml", *(folder / "kinds").iterdir())
    kinds: dict[str, Any] = {}
    for table in (table for table in tables if table.name.endswith(".toml")):
        kinds |= tomllib.loads(table.read_text(encoding="utf-8"))["kind"]
    groups = {
        entry.name.removesuffix(".toml"): tomllib.loads(entry.read_text(encoding="utf-8"))
        for entry in (folder / "cases").iterdir()
        if entry.name.endswith(".toml")
    }
    cases = tuple(
        _case(group, name, table, {**kinds, **tables.get("kind", {})}[table["kind"]])
        for group, tables in sorted(groups.items())
        for name, table in tables["case"].items()
    )
    names = [case.name for case in cases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"cases of the same name: {', '.join(sorted(twice))}")
    return cases


def find_case(name: str) -> Case:
    """Return the case called `name`. Raises `UsageError` when there is none."""
    cases = {case.name: case for case in load_cases()}
    if name not in cases:
        groups = ", ".join(dict.fromkeys(case.group for case in cases.values()))
        raise UsageError(
            f"the lab has no case '{name}'",
            f"`xenqemu lab cases --list` shows what it has; a whole group is one of {groups}",
        )
    return cases[name]


def find_cases(names: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases called `names`, of which one may be a group's. Raises `UsageError` for one that there is not."""
    found: dict[str, Case] = {}
    for name in names:
        group = [case for case in load_cases() if case.group == name]
        found |= {case.name: case for case in group or [find_case(name)]}
    return tuple(found.values())


def _case(group: str, name: str, table: Mapping[str, Any], kind: Mapping[str, Any]) -> Case:
    words = {**kind, **table}
    words["cmdline"] = " ".join(part for part in (kind.get("cmdline"), table.get("cmdline")) if part)
    needs = words.get("needs", {})
    return Case(
        name=name,
        summary=words["summary"],
        kind=words["kind"],
        settings={"name": name, **kind.get("settings", {}), **table.get("settings", {})},
        expect=words.get("expect", ""),
        timeout=float(words.get("timeout", 0)),
        before=tuple(map(tuple, words.get("before", ()))),
        steps=tuple(map(read_step, words.get("steps", ()))),
        fails=words.get("fails", ""),
        xen=Version(needs["xen"]) if "xen" in needs else None,
        qemu=Version(needs["qemu"]) if "qemu" in needs else None,
        gaps=tuple(map(_gap, words.get("gaps", ()))),
        reason=words.get("reason", ""),
        reference=words.get("reference", ""),
        group=group,
        slow=words.get("slow", False),
        guest={key: words[key] for key in _GUEST if key in words},
    )


def _gap(table: Mapping[str, Any]) -> KnownGap:
    words = dict(table)
    return KnownGap(xen=SpecifierSet(words.pop("xen", "")), qemu=SpecifierSet(words.pop("qemu", "")), **words)
