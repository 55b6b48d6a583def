"""What came of a command, for those who were not there: JUnit XML, annotations and a summary in Markdown."""

from xenqemu.results.github import annotation, error_annotations, inside, on_github
from xenqemu.results.junit import junit
from xenqemu.results.model import Check, Results, Status
from xenqemu.results.outlets import Outlets, write_results
from xenqemu.results.summary import summary

__all__ = [
    "Check",
    "Outlets",
    "Results",
    "Status",
    "annotation",
    "error_annotations",
    "inside",
    "junit",
    "on_github",
    "summary",
    "write_results",
]
