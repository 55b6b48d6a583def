"""What this machine has of what a build needs, and how to get the rest."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from xenqemu.doctor.checks import look_for
from xenqemu.doctor.model import Check, load_requirements
from xenqemu.state import StateDir

__all__ = ["Check", "apt_command", "examine"]

# Waiting for compilers, mostly; more than there are CPUs gains nothing.
_AT_ONCE = 4


def examine(state: StateDir) -> tuple[Check, ...]:
    """Return one check for each entry of requirements.toml, in its order; nothing is changed anywhere.

    `state` says where the disk space is looked at; the directory need not exist.
    """
    requirements = load_requirements()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda requirement: look_for(requirement, state), requirements))
    return tuple(
        Check(entry.name, entry.kind, found, detail, entry.needed_for, entry.apt, entry.required)
        for entry, (found, detail) in zip(requirements, outcomes, strict=True)
    )


def apt_command(checks: Iterable[Check]) -> str:
    """Return the apt-get command that installs everything that `checks` found missing, or nothing if all is there."""
    packages = sorted({package for check in checks if not check.found for package in check.apt})
    return f"apt-get install --no-install-recommends {' '.join(packages)}" if packages else ""
