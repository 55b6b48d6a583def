"""The ways of looking for a requirement. Each tries the thing: a package that is installed may still not work."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.version import InvalidVersion, Version

from xenqemu import proc
from xenqemu.doctor.model import Requirement
from xenqemu.environment import probe_environment
from xenqemu.errors import MissingError
from xenqemu.state import StateDir, why_not_writable

_VERSION = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)+)")
_PROGRAM = b'#include <stdio.h>\nint main(void) { return puts("42") < 0; }\n'


class _NotFoundError(Exception):
    """The requirement is not met; the text says why."""


def parse_version(text: str) -> Version | None:
    """Return the first thing in `text` that looks like a version (`GNU Make 4.3` has 4.3), or None."""
    match = _VERSION.search(text)
    try:
        return Version(match[1]) if match else None
    except InvalidVersion:  # digits that are none: U+0661 and its kind
        return None


def _compiler() -> list[str]:
    try:
        words = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise _NotFoundError(f"CC cannot be split into words: {error}") from error
    return words or [next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "cc")]


def _reason(done: proc.Completed) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    errors = [line for line in lines if "error:" in line or "cannot find" in line]  # gcc and clang, GNU ld
    return (errors or lines or [f"exit {done.returncode}"])[0]


def _run(argv: list[str], stdin: bytes | None = None) -> proc.Completed:
    """Run a tool as a build would: with the variables that reach one, so that both find the same."""
    try:
        return proc.run(argv, stdin=stdin, env=probe_environment(os.environ), check=False)
    except MissingError as error:
        raise _NotFoundError(error.message) from error


def _at_least(requirement: Requirement, version: Version | None) -> None:
    if requirement.minimum is not None and (version is None or version < requirement.minimum):
        raise _NotFoundError(f"{version or 'unknown version'}, too old: at least {requirement.minimum}")


def _check_compiler(requirement: Requirement, state: StateDir) -> str:
    compiler = _compiler()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "probe"
        done = _run([*compiler, "-x", "c", "-o", str(output), "-"], _PROGRAM)
        if not done.ok:
            raise _NotFoundError(f"does not compile a small program: {_reason(done)}")
        if _run([str(output)]).stdout.strip() != "42":
            raise _NotFoundError("what it compiles does not run")
    return (_run([*compiler, "--version"]).stdout.splitlines() or ["unknown version"])[0]


def _check_program(requirement: Requirement, state: StateDir) -> str:
    path = shutil.which(requirement.program)
    if path is None:
        raise _NotFoundError("not installed")
    done = _run([path, *requirement.args])
    if not done.ok:
        raise _NotFoundError(f"{path} does not run: {_reason(done)}")
    version = parse_version(done.stdout or done.stderr)
    _at_least(requirement, version)
    return f"{version or 'unknown version'} ({path})"


def _check_header(requirement: Requirement, flags: list[str]) -> None:
    source = f"#include <stdio.h>\n#include <{requirement.header}>\nint main(void) {{ return 0; }}\n".encode()
    # A library that is there without what links it is the usual half-installed state: link, but do not run.
    with tempfile.TemporaryDirectory() as folder:
        done = _run([*_compiler(), "-x", "c", "-o", str(Path(folder) / "probe"), "-", *flags], source)
    if not done.ok:
        raise _NotFoundError(f"no program with {requirement.header} compiles and links: {_reason(done)}")


def _check_pkg_config(requirement: Requirement, state: StateDir) -> str:
    done = _run(["pkg-config", "--modversion", requirement.module])
    if not done.ok:
        raise _NotFoundError(f"pkg-config does not know {requirement.module}")
    version = parse_version(done.stdout)
    _at_least(requirement, version)
    flags = _run(["pkg-config", "--cflags", "--libs", requirement.module])
    if not flags.ok:
        raise _NotFoundError(_reason(flags))
    _check_header(requirement, shlex.split(flags.stdout))
    return str(version or done.stdout.strip())


def _check_library(requirement: Requirement, state: StateDir) -> str:
    _check_header(requirement, [f"-l{requirement.library}"])
    return f"<{requirement.header}>, -l{requirement.library}"


def _check_python(requirement: Requirement, state: StateDir) -> str:
    _at_least(requirement, Version(platform.python_version().rstrip("+")))
    return f"{platform.python_version()} ({sys.executable})"


def _check_python_package(requirement: Requirement, state: StateDir) -> str:
    # QEMU's configure runs them with the interpreter that runs xenqemu (--python=).
    if importlib.util.find_spec(requirement.module) is None:
        raise _NotFoundError(f"{sys.executable} cannot import {requirement.module}; scripts/bootstrap installs it")
    version = parse_version(importlib.metadata.version(requirement.package))
    _at_least(requirement, version)
    return str(version)


def _check_disk(requirement: Requirement, state: StateDir) -> str:
    reason = why_not_writable(state.root)
    if reason:
        raise _NotFoundError(f"the state directory {state.root} cannot be written: {reason}")
    folder = next(path for path in (state.root.absolute(), *state.root.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free / 2**30
    if requirement.minimum is not None and free < float(str(requirement.minimum)):
        raise _NotFoundError(f"{free:.1f} GiB free in {state.root}, needed: {requirement.minimum} GiB")
    return f"{free:.1f} GiB free in {state.root}"


_KINDS: Mapping[str, Callable[[Requirement, StateDir], str]] = {
    "compiler": _check_compiler,
    "program": _check_program,
    "pkg-config": _check_pkg_config,
    "library": _check_library,
    "python": _check_python,
    "python-package": _check_python_package,
    "disk": _check_disk,
}


def look_for(requirement: Requirement, state: StateDir) -> tuple[bool, str]:
    """Return whether `requirement` is met, and its version and place or what is wrong with it.

    Raises `KeyError` for a kind that there is no check for.
    """
    check = _KINDS[requirement.kind]
    try:
        return True, check(requirement, state)
    except (_NotFoundError, importlib.metadata.PackageNotFoundError, OSError) as error:
        return False, str(error)
