"""Telling the Python files that xm read from the xl.cfg files that look like them."""

from __future__ import annotations

import re

from xenqemu.vm.xlcfg.lexis import COMMENT, STRING
from xenqemu.vm.xlcfg.parser import XlSyntaxError, parse

_string_or_comment = re.compile(rb"(\"\"\"|''')|(" + STRING + rb")|" + COMMENT[:-2] + rb"")

# In what is left of a line when its strings are empty and its comment is gone.
_SIGNS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (rb"^\s*(?:import\s+[\w.]+|from\s+[\w.]+\s+import\b)", "an import"),
        (rb"^\s*(?:def|class)\s+\w+\s*[(:]", "a definition"),
        (rb"^\s*(?:if|elif|for|while|with)\b.*:|^\s*(?:else|try|finally|except\b.*)\s*:", "a compound statement"),
        (rb"^\s*(?:print|exec|raise|assert|del|global|return)\b(?!\s*\+?=)", "a Python statement"),
        (rb'""\s*%|%\s*\(|%\s*[a-zA-Z_]', "`%` formatting"),
        (rb"\b[A-Za-z_]\w*(?:\.\w+)*\s*\(", "a function call"),
        (rb'[\w\])"]\s*\.\s*[A-Za-z_]\w*\s*\(', "a method call"),
        (rb"=\s*\{|[\[,]\s*\{", "a dictionary"),
        (rb"\b[A-Za-z_]\w*\s*\[", "an access to an item"),
        (rb"=\s*\(|\[\s*\(", "a tuple or an expression"),
        (rb"\bfor\s+\w+\s+in\b|\blambda\b", "a Python expression"),
        (rb'[\w"\])]\s*(?:[-*/]|\+(?!=))\s*[\w"\[(]', "an expression"),
        (rb"=\s*(?:True|False|None)\b", "a Python constant"),
        (rb"=\s*[A-Za-z_][\w.]*\s*$", "the value of a variable"),
    )
)


def is_python(data: bytes) -> str | None:
    """Return what makes `data` a Python config of the old xm toolstack, as `line N: what`, or None if nothing does.

    What libxlutil accepts is never taken for Python. libxlutil itself warns of Python on any of `+-.():` outside
    a string (likely_python in libxlu_cfg_l.l), also in a mere slip of the pen; this wants to see an expression.
    """
    try:
        parse(data, "")
    except XlSyntaxError:
        pass
    else:
        return None
    bare = _string_or_comment.sub(_empty, data)
    for number, line in enumerate(bare.split(b"\n"), 1):
        for sign, what in _SIGNS:
            if sign.search(line):
                return f"line {number}: {what}"
        if b'"""' in line or b"'''" in line:
            return f"line {number}: a string in triple quotes"
    return None


def _empty(match: re.Match[bytes]) -> bytes:
    return match[1] or (b'""' if match[2] else b"")
