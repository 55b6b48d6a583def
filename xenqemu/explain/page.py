"""docs/troubleshooting.md, made of the table of causes so that the two cannot differ."""

from __future__ import annotations

from xenqemu.explain.matching import explain
from xenqemu.explain.model import Cause, Finding, Log
from xenqemu.explain.reading import log_of
from xenqemu.explain.report import text
from xenqemu.explain.table import causes, kinds, places
from xenqemu.templates import text_environment

# What a device model says that nobody has an explanation for, for the entries that quote it.
_WORDS = "qemu-system-xen: something new"


def example_logs(cause: Cause) -> tuple[Log, ...]:
    """Return logs of which `cause` is what is to be found: its example, and what it needs besides."""
    logs = [log_of(cause.example, cause.on[0], "log")]
    if cause.needs:
        logs.append(log_of(cause.needs.example, cause.needs.on))
    if cause.silent:
        logs.append(log_of("", cause.silent))
    if cause.talking:
        logs.append(log_of(_WORDS, cause.talking))
    return tuple(logs)


def example(cause: Cause) -> Finding:
    """Return what is made of the example of `cause`; raises `LookupError` when another entry is found there."""
    found = explain(example_logs(cause)).cause
    if found is None or found.id != cause.id:
        raise LookupError(f"the example of {cause.id} is explained by {found.id if found else 'nothing'}")
    return found


def page() -> str:
    """Return the text of docs/troubleshooting.md."""
    sections = [
        (title, [(cause, example(cause)) for cause in causes() if cause.on[0] == kind])
        for kind, title in kinds().items()
    ]
    template = text_environment("xenqemu.explain").get_template("troubleshooting.md.j2")
    return template.render(sections=[one for one in sections if one[1]], shown=text(explain(_shown(), "my-guest")))


def _shown() -> tuple[Log, ...]:
    """Return what xl and the device model say of a guest, each with an example of the table."""
    said = {cause.id: cause.example for cause in causes()}
    first, second = places("my-guest")[:2]
    return (
        log_of(said["no-acpi"], "device-model", str(first)),
        log_of(said["device-model-not-started"], "libxl", str(second)),
    )
