"""Results as facts for JSON and as JUnit XML, which CI services show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from xenqemu.contract.model import CheckReport, Entry, Result, Verdict, xen_name
from xenqemu.errors import MissingError
from xenqemu.state import write_atomic


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


def junit(report: CheckReport) -> bytes:
    """Return `report` as JUnit XML: a refusal is a failure; what was not tried, or is known, is skipped."""
    suite = ElementTree.Element("testsuite", name=f"contract of Xen {xen_name(report.xen)} with QEMU {report.qemu}")
    for result in report.results:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"contract.{result.entry.group}", name=result.entry.id
        )
        case.set("time", f"{result.seconds:.3f}")
        if result.verdict is Verdict.REFUSED:
            failure = ElementTree.SubElement(case, "failure", message=result.message)
            failure.text = _details(result)
        elif result.verdict is not Verdict.TAKEN:
            ElementTree.SubElement(case, "skipped", message=f"{result.verdict.value}: {result.message}")
    return junit_bytes(suite, report.seconds)


def junit_bytes(suite: ElementTree.Element, seconds: float) -> bytes:
    """Return the JUnit XML of `suite`, which took so many seconds, with its test cases counted."""
    for element in suite.iter():
        element.text = element.text and _xml_text(element.text)
        element.attrib = {name: _xml_text(value) for name, value in element.attrib.items()}
    for name, counted in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for _ in suite.iter(counted))))
    suite.set("time", f"{seconds:.3f}")
    ElementTree.indent(suite)
    return bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)) + b"\n"


def write_junit(path: Path, xml: bytes) -> None:
    """Write JUnit XML to `path`, whole or not at all; raises `MissingError` when that cannot be written."""
    try:
        write_atomic(path, xml)
    except OSError as error:
        raise MissingError(f"{path} cannot be written: {error.strerror}", "name another file with --junit") from error


def _details(result: Result) -> str:
    changes = [f"QEMU {change.qemu} {change.what}" for change in result.entry.changes]
    return "\n".join((cause(result.entry), passed(result.entry), result.entry.source, *changes))


def _xml_text(text: str) -> str:
    """Return `text` without the control characters that XML cannot have (section 2.2 of the specification)."""
    return "".join(char if char in "\t\n" or char >= " " else "?" for char in text)
