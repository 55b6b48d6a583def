"""What came of the contract's guests under a real xl: each as expected or not, and what that says of the entries."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from xenqemu.contract.model import Contract, Entry, Gap
from xenqemu.lab.cases import Case, KnownGap
from xenqemu.lab.result import GuestResult
from xenqemu.results import Check, Results, Status


class Outcome(enum.Enum):
    """What came of a case."""

    WORKS = "works"
    GAP = "gap"  # it fails, as the table says it does
    FAILS = "fails"
    MENDED = "works now"  # though the table says that it fails: the table is wrong
    ELSEWHERE = "not here"  # no guest of this lab can show it; the table says why

    @property
    def expected(self) -> bool:
        """Whether it is as the table says."""
        return self not in (Outcome.FAILS, Outcome.MENDED)


@dataclass(frozen=True)
class CaseOutcome:
    """What came of `case`: `detail` is its sign or the reason for its failure, `reason` and `reference` those of a gap.

    `entries` are the ids of what of the contract it shows. `seconds` is what it took. `cause` and `remedy` are what the
    table of causes (xenqemu/explain) makes of a failure that nobody expected, `log` the end of what was written of it.
    `figures` are what its steps have measured.
    """

    case: Case
    outcome: Outcome
    detail: str = ""
    reason: str = ""
    reference: str = ""
    seconds: float = 0.0
    entries: tuple[str, ...] = ()
    cause: str = ""
    remedy: str = ""
    log: tuple[str, ...] = ()
    figures: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class RunReport:
    """What came of a run of the contract: on which device model, of which QEMU, under which Xen, and where logs are."""

    device_model: str
    qemu: Version
    xen: str
    outcomes: tuple[CaseOutcome, ...]
    seconds: float
    logs: tuple[Path, ...] = field(default=())

    @property
    def unexpected(self) -> tuple[CaseOutcome, ...]:
        """What is other than the table says."""
        return tuple(one for one in self.outcomes if not one.outcome.expected)

    def counts(self) -> dict[str, int]:
        """Return how many outcomes there are of each kind that there is."""
        counted = {kind.value: sum(one.outcome is kind for one in self.outcomes) for kind in Outcome}
        return {kind: number for kind, number in counted.items() if number}


def cases_of(cases: Sequence[Case], contract: Contract, xen: Version, qemu: Version) -> tuple[Case, ...]:
    """Return those of `cases` that a run with this Xen and this QEMU has to show.

    Left out are guests that are not to boot, those that need a newer Xen or QEMU, and those of which this libxl passes
    nothing to this device model.
    """
    shown = _shown(contract)
    return tuple(
        case
        for case in cases
        if not case.fails
        and not (case.xen and case.xen > xen)
        and not (case.qemu and case.qemu > qemu)
        and (case.name not in shown or any(e.passed_by(xen) and e.sent_to(qemu) for e in shown[case.name]))
    )


def _shown(contract: Contract) -> dict[str, list[Entry]]:
    shown: dict[str, list[Entry]] = {}
    for entry in contract.entries:
        shown.setdefault(entry.case, []).append(entry)
    return shown


def judge(case: Case, result: GuestResult | None, contract: Contract, xen: Version, qemu: Version) -> CaseOutcome:
    """Return what `result`, of the guest of `case` (None: there was none), means for this Xen and this QEMU."""
    judged = _judge(case, result, contract, xen, qemu)
    return replace(judged, figures=result.figures) if result else judged


def _judge(case: Case, result: GuestResult | None, contract: Contract, xen: Version, qemu: Version) -> CaseOutcome:
    entries = [e for e in contract.entries if e.case == case.name and e.passed_by(xen) and e.sent_to(qemu)]
    ids = tuple(entry.id for entry in entries)
    if result is None:
        return CaseOutcome(case, Outcome.ELSEWHERE, case.reason, case.reason, case.reference, entries=ids)
    parts = (result.create_seconds, result.boot_seconds, result.steps_seconds)
    seconds = sum(part or 0.0 for part in parts)
    known = case.known_gaps(xen, qemu)
    if result.booted:
        always = next((gap for gap in known if not gap.some_builds), None)
        if always is None:
            return CaseOutcome(case, Outcome.WORKS, result.sign, seconds=seconds, entries=ids)
        detail = f"it works, and the table says that it does not: {always.reason}"
        return CaseOutcome(case, Outcome.MENDED, detail, always.reason, always.reference, seconds, ids)
    said = "\n".join((result.reason, *result.log))
    gap = next((gap for gap in _gaps(known, entries, xen, qemu) if re.search(_pattern(gap), said)), None)
    if gap is None:
        failed = CaseOutcome(case, Outcome.FAILS, result.reason, "", "", seconds, ids)
        return replace(failed, cause=result.cause, remedy=result.remedy, log=result.log)
    return CaseOutcome(case, Outcome.GAP, result.reason, gap.reason, gap.reference, seconds, ids)


def _gaps(known: Sequence[KnownGap], entries: Sequence[Entry], xen: Version, qemu: Version) -> list[KnownGap | Gap]:
    # What a build lacks is known by what it says, not by its version.
    return [*known, *(gap for entry in entries for gap in entry.gap(xen, qemu) if gap.message)]


def _pattern(gap: KnownGap | Gap) -> str:
    return gap.fails if isinstance(gap, KnownGap) else gap.message


def facts(report: RunReport) -> dict[str, Any]:
    """Return `report` as JSON has it."""
    return {
        "device_model": report.device_model,
        "qemu": str(report.qemu),
        "xen": report.xen,
        "seconds": round(report.seconds, 1),
        "counts": report.counts(),
        "logs": [str(path) for path in report.logs],
        "cases": [
            {
                "case": one.case.name,
                "group": one.case.group,
                "summary": one.case.summary,
                "outcome": one.outcome.value,
                "expected": one.outcome.expected,
                "detail": one.detail,
                "reason": one.reason,
                "reference": one.reference,
                "cause": one.cause,
                "remedy": one.remedy,
                "seconds": round(one.seconds, 1),
                "entries": list(one.entries),
                **({"log": list(one.log)} if one.log else {}),
                **({"figures": list(one.figures)} if one.figures else {}),
            }
            for one in report.outcomes
        ],
    }


def causes(report: RunReport) -> tuple[str, ...]:
    """Return what causes the failures that nobody expected and what to do about it, each once, with its cases."""
    cases: dict[tuple[str, str], list[str]] = {}
    for one in report.unexpected:
        if one.cause:
            cases.setdefault((one.cause, one.remedy), []).append(one.case.name)
    return tuple(f"{', '.join(names)}: {cause} {remedy}" for (cause, remedy), names in cases.items())


def results(report: RunReport) -> Results:
    """Return `report` for JUnit XML and summaries: what is not as the table says fails, gaps are skipped."""
    title = f"contract under Xen {report.xen} with QEMU {report.qemu}"
    facts = {"device model": report.device_model, "logs": " ".join(map(str, report.logs))}
    return Results(title, tuple(map(_checked, report.outcomes)), report.seconds, facts)


def _checked(one: CaseOutcome) -> Check:
    group, name = f"contract.{one.case.group}", one.case.name
    if one.outcome is Outcome.WORKS:
        return Check(group, name, message=one.detail, seconds=one.seconds)
    if not one.outcome.expected:
        details = "\n".join(filter(None, (one.case.summary, *one.entries, one.cause, one.remedy, *one.log)))
        return Check(group, name, Status.FAILED, one.detail, details, one.seconds)
    message = f"{one.outcome.value}: {one.reason or one.detail} ({one.reference})"
    return Check(group, name, Status.SKIPPED, message, seconds=one.seconds)


def table(report: RunReport, *, everything: bool) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of a table: what does not simply work, or all `everything`."""
    rows: list[tuple[str, ...]] = [
        (one.case.name, one.outcome.value, f"{one.seconds:.0f} s" if one.seconds else "-", _because(one))
        for one in report.outcomes
        if everything or one.outcome is not Outcome.WORKS
    ]
    return ("case", "outcome", "took", "because"), rows


def _because(one: CaseOutcome) -> str:
    if one.outcome is Outcome.WORKS:
        return one.case.summary
    return f"{one.reason} ({one.reference})" if one.outcome.expected else one.detail


def sentence(report: RunReport) -> str:
    """Return a line about the whole."""
    counted: Mapping[str, int] = report.counts()
    parts = ", ".join(f"{number} {kind}" for kind, number in counted.items())
    return f"QEMU {report.qemu} under Xen {report.xen}: {parts}"
