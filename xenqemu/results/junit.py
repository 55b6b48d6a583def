"""Results as JUnit XML, which CI services show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from xenqemu.results.model import Check, Results, Status
from xenqemu.text import decodable

# What XML cannot have, not even escaped (section 2.2 of its specification).
_FORBIDDEN = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {Status.FAILED: "failure", Status.ERROR: "error", Status.SKIPPED: "skipped"}


def junit(results: Results) -> bytes:
    """Return `results` as one test suite; the attributes are those that Jenkins' and GitLab's readers know."""
    suite = ElementTree.Element("testsuite", name=_text(results.title), tests=str(len(results.checks)))
    for name, status in (("failures", Status.FAILED), ("errors", Status.ERROR), ("skipped", Status.SKIPPED)):
        suite.set(name, str(results.count(status)))
    suite.set("time", f"{results.seconds:.3f}")
    if results.facts:
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in results.facts.items():
            ElementTree.SubElement(properties, "property", name=_text(name), value=_text(value))
    for check in results.checks:
        _add(suite, check)
    ElementTree.indent(suite)
    return bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)) + b"\n"


def _add(suite: ElementTree.Element, check: Check) -> None:
    test = ElementTree.SubElement(suite, "testcase", classname=_text(check.group), name=_text(check.name))
    test.set("time", f"{check.seconds:.3f}")
    if check.file:
        test.set("file", _text(check.file))
    element = _ELEMENTS.get(check.status)
    if element:
        said = ElementTree.SubElement(test, element, message=_text(check.message))
        said.text = _text(check.details) or None


def _text(text: str) -> str:
    return _FORBIDDEN.sub("?", decodable(text))
