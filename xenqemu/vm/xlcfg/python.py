"""Telling the Python files that xm read from the xl.cfg files that look like them."""

from __future__ import annotations

import re

from xenqemu.text import printable
from xenqemu.vm.xlcfg.lexis import STRING
from xenqemu.vm.xlcfg.parser import XlSyntaxError, parse

_blanked = re.compile(rb"(\"\"\"|''')|(" + STRING + rb")|#[^\n]*")
_assigned = re.compile(rb"^[ \t]*([A-Za-z_]\w*)[ \t]*=", re.MULTILINE)
_binary = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_variable = re.compile(rb"=[ \t]*([A-Za-z_]\w*)\s*$")

# In a line whose strings are empty and whose comment is gone. A value without its quotes (a path, a UUID) is no sign.
_SIGNS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (rb"^\s*(?:import\s+[\w.]+|from\s+[\w.]+\s+import\b)", "an import"),
        (rb"^\s*(?:def|class)\s+\w+\s*[(:]", "a definition"),
        (rb"^\s*(?:(?:if|elif|for|while|with|except)\b.*|else\s*|try\s*|finally\s*):", "a compound statement"),
        (rb"^\s*(?:print|exec|raise|assert|del|global|return)\b(?!\s*\+?=)", "a Python statement"),
        (rb"\"\"\"|'''", "a string in triple quotes"),
        (rb'""\s*%', "`%` formatting"),
        (rb'[\w\])"]\s*\.\s*[A-Za-z_]\w*\s*\(', "a method call"),
        (rb"\b[A-Za-z_]\w*\s*\(", "a function call"),
        (rb"[=\[,]\s*\{", "a dictionary"),
        (rb"^\s*\w+\s*\[[^\]]*\]\s*\+?=|[=(\[,+]\s*[A-Za-z_][\w.]*\s*\[", "an item of a list or dictionary"),
        (rb"[=\[,]\s*\(", "an expression in parentheses"),
        (rb"\bfor\s+\w+\s+in\b|\blambda\b", "a Python expression"),
        (rb'[\w"\])]\s*(?:\*|\+(?!=))\s*[\w"\[(]', "an expression"),
        (rb"=\s*(?:True|False|None)\b", "a Python constant"),
    )
)


def is_python(data: bytes) -> str | None:
    """Return what makes `data` a Python config of the old xm toolstack, as "line N: what (`code`)", or None.

    What libxlutil accepts is never taken for Python, nor a file with control characters, which is no text.
    libxlutil itself warns of Python on any of `+-.():` outside a string (likely_python in libxlu_cfg_l.l), also in a
    slip of the pen; this wants to see a statement or an expression.
    """
    if _binary.search(data):
        return None
    try:
        parse(data, "")
    except XlSyntaxError:
        pass
    else:
        return None
    lines = data.split(b"\n")
    bare = _blanked.sub(_blank, data)
    assigned = set(_assigned.findall(bare))
    for number, line in enumerate(bare.split(b"\n")):
        what = next((what for sign, what in _SIGNS if sign.search(line)), None)
        variable = _variable.search(line)
        if what is None and variable and variable[1] in assigned:
            what = "the value of a variable"
        if what is not None:
            code = printable(lines[number].strip().decode("utf-8", "surrogateescape"))
            return f"line {number + 1}: {what} (`{code if len(code) <= 60 else code[:57] + '...'}`)"
    return None


def _blank(match: re.Match[bytes]) -> bytes:
    return match[1] or (b'""' if match[2] else b"")
