"""Results as facts for JSON, and as those of every report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xenqemu.contract.model import CheckReport, Entry, Result, Verdict, xen_name
from xenqemu.results import Check, Results, Status


def passed(entry: Entry) -> str:
    """Return what libxl passes, in a line: words of a command line, a QMP command, or an environment."""
    if entry.execute:
        arguments = ", ".join(f"{name}={value!r}" for name, value in entry.arguments.items())
        return f"QMP {entry.execute}({arguments})"
    return " ".join((*entry.argv, *entry.environment))


def cause(entry: Entry) -> str:
    """Return what makes libxl pass it: of an xl.cfg, of a command, or that every guest has it."""
    return "; ".join(filter(None, (entry.xl, entry.command))) or "every guest"


def entry_facts(entry: Entry) -> dict[str, Any]:
    """Return `entry` as JSON has it."""
    return {
        "id": entry.id,
        "group": entry.group,
        "kind": entry.kind,
        "xl": entry.xl,
        "command": entry.command,
        "argv": list(entry.argv),
        "execute": entry.execute,
        "arguments": entry.arguments,
        "environment": list(entry.environment),
        "source": entry.source,
        "xen": str(entry.xen),
        "qemu": str(entry.qemu),
        "unless": entry.unless,
        "case": entry.case,
        "changes": [{"qemu": str(change.qemu), "what": change.what} for change in entry.changes],
        "gaps": [
            {"xen": str(gap.xen), "qemu": str(gap.qemu), "reason": gap.reason, "reference": gap.reference}
            for gap in entry.gaps
        ],
    }


def report_facts(report: CheckReport) -> dict[str, Any]:
    """Return `report` as JSON has it: counts by verdict, and every entry."""
    return {
        "qemu": str(report.qemu),
        "package": report.package,
        "xen": xen_name(report.xen),
        "seconds": round(report.seconds, 3),
        "counts": counts(report),
        "results": [
            {
                "id": result.entry.id,
                "case": result.entry.case,
                "xl": result.entry.xl,
                "verdict": result.verdict.value,
                "message": result.message,
                "seconds": round(result.seconds, 3),
            }
            for result in report.results
        ],
    }


def counts(report: CheckReport) -> Mapping[str, int]:
    """Return how many results there are of each verdict."""
    return {verdict.value: sum(result.verdict is verdict for result in report.results) for verdict in Verdict}


def results(report: CheckReport) -> Results:
    """Return `report` for JUnit XML and summaries: a refusal fails; what was not tried, or is known, is skipped."""
    title = f"contract of Xen {xen_name(report.xen)} with QEMU {report.qemu}"
    facts = {"package": report.package} if report.package else {}
    return Results(title, tuple(map(_checked, report.results)), report.seconds, facts)


def _checked(result: Result) -> Check:
    group, name = f"contract.{result.entry.group}", result.entry.id
    if result.verdict is Verdict.TAKEN:
        return Check(group, name, seconds=result.seconds)
    if result.verdict is Verdict.REFUSED:
        return Check(group, name, Status.FAILED, result.message, _details(result), result.seconds)
    message = f"{result.verdict.value}: {result.message}"
    return Check(group, name, Status.SKIPPED, message, seconds=result.seconds)


def _details(result: Result) -> str:
    changes = [f"QEMU {change.qemu} {change.what}" for change in result.entry.changes]
    return "\n".join((cause(result.entry), passed(result.entry), result.entry.source, *changes))
