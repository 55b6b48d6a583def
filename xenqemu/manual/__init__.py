"""The manual pages: one for each command, made of what its `--help` says.

`click-man` from PyPI does the same without examples and without what follows the options, and does not escape what
troff would take for a request, so that a template of our own is shorter than what would go around it.
"""

from xenqemu.manual.pages import pages, write_pages

__all__ = ["pages", "write_pages"]
