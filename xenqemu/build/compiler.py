"""The compiler: which one, who it is, and which hardening flags it takes."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Mapping

from xenqemu.build.distribute import check_hosts
from xenqemu.build.environment import build_environment, flag_words
from xenqemu.build.launcher import launched
from xenqemu.build.model import BuildOptions, ChosenFlags, Compiler, Flags
from xenqemu.build.recipe import ProbedFlags, load_recipe
from xenqemu.errors import MissingError, UsageError
from xenqemu.proc import run
from xenqemu.state import StateDir

_DEFAULTS = ("cc", "gcc", "clang")
_INSTALL = "apt install gcc libc6-dev binutils"

# Enough of a program for a stack protector, fortified functions and an uninitialised variable to matter, and with a
# C library header in it: features.h is what complains about a _FORTIFY_SOURCE level that it does not know.
_PROBE = b"""
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    char buffer[64];
    strncpy(buffer, argv[argc - 1], sizeof(buffer) - 1);
    buffer[sizeof(buffer) - 1] = 0;
    return printf("%s", buffer) < 0;
}
"""


def _named(options: BuildOptions) -> tuple[str, ...]:
    chosen = options.cc or options.environment.get("CC")
    if chosen:
        try:
            words = tuple(shlex.split(chosen))
        except ValueError as error:
            raise UsageError(f"the compiler command cannot be split into words: {chosen}: {error}") from error
        if not words:
            raise UsageError("the compiler command is empty", "name one as --cc 'ccache gcc', or none")
        return words
    for name in _DEFAULTS:
        if shutil.which(name):
            return (name,)
    raise MissingError("there is no C compiler: none of " + ", ".join(_DEFAULTS) + " is installed", _INSTALL)


def _command(options: BuildOptions) -> tuple[str, ...]:
    check_hosts(options.offload)
    return launched(_named(options), options.offload, build_environment(options.environment).get("PATH"))


def _say(argv: tuple[str, ...], env: Mapping[str, str]) -> str:
    """Return the first line of what a tool says of itself."""
    completed = run(argv, env=env, check=False)
    lines = completed.stdout.splitlines()
    if not completed.ok or not lines:
        raise MissingError(
            f"'{shlex.join(argv)}' failed: {(completed.stderr.strip() or 'no output').splitlines()[-1]}", _INSTALL
        )
    return lines[0].strip()


def identify_compiler(options: BuildOptions) -> Compiler:
    """Return the compiler that a build with `options` uses, and the versions of the tools that it drives.

    What decides the bytes is the compiler proper, its target, the assembler and linker that it calls, and `strip`;
    a launcher before it (`ccache`) does not show. Raises `MissingError` when one does not run, `UsageError` for
    launchers that contradict each other.
    """
    argv = _command(options)
    command = Compiler(argv, {}).command
    env = build_environment(options.environment)
    for word in Compiler(argv, {}).programs:
        if shutil.which(word, path=env.get("PATH")) is None:
            raise MissingError(f"the compiler '{shlex.join(argv)}' is not installed: no program '{word}'", _INSTALL)
    tools = {
        "compiler": _say((*command, "--version"), env),
        "target": _say((*command, "-dumpmachine"), env),
        "linker": _say((*command, *_linker_choice(options), "-Wl,--version"), env),
        "strip": _say(("strip", "--version"), env),
    }
    assembler = _say((*command, "-print-prog-name=as"), env)
    if shutil.which(assembler, path=env.get("PATH")):
        tools["assembler"] = _say((assembler, "--version"), env)
    return Compiler(argv, tools)


def _linker_choice(options: BuildOptions) -> tuple[str, ...]:
    return tuple(word for word in flag_words(options.environment, "LDFLAGS") if word.startswith("-fuse-ld="))


def _digest(compiler: Compiler, entries: tuple[ProbedFlags, ...]) -> str:
    known = [dict(compiler.tools), list(compiler.flags), [entry.as_list() for entry in entries]]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def choose_flags(compiler: Compiler, options: BuildOptions, state: StateDir) -> ChosenFlags:
    """Return the flags of the recipe that `compiler` takes; raises as `hardening_flags` does."""
    return ChosenFlags(hardening_flags(compiler, options, state), size_flags(compiler, options, state))


def hardening_flags(compiler: Compiler, options: BuildOptions, state: StateDir) -> Flags:
    """Return the hardening that `compiler` can do, asked of it once and remembered by its identity.

    Its `features` are without those that the user's CFLAGS, which come last, switch off: not all of them can be read
    off a program (zeroed variables), so that the manifest's list is what tells.

    Raises `MissingError` when it cannot even build an empty program, which is what a missing C library looks like.
    """
    return _probed("hardening", load_recipe().hardening, compiler, options, state)


def size_flags(compiler: Compiler, options: BuildOptions, state: StateDir) -> Flags:
    """Return what makes the program small, as far as `compiler` and the C library go along; like `hardening_flags`."""
    return _probed("size", load_recipe().size, compiler, options, state)


def _probed(
    purpose: str, entries: tuple[ProbedFlags, ...], compiler: Compiler, options: BuildOptions, state: StateDir
) -> Flags:
    key = _digest(compiler, entries)
    facts = state.recall(purpose, key)
    if facts is None:
        env = build_environment(options.environment)
        _require_working(compiler, env, state)
        facts = {"taken": [_takes(compiler, entry, env, state) for entry in entries]}
        state.remember(purpose, key, facts)
    chosen: dict[str, ProbedFlags] = {}
    for entry, taken in zip(entries, facts["taken"], strict=True):
        if taken:
            chosen.setdefault(entry.feature, entry)
    return Flags(
        compile=tuple(flag for entry in chosen.values() for flag in entry.compile),
        link=tuple(flag for entry in chosen.values() for flag in entry.link),
        configure=tuple(flag for entry in chosen.values() for flag in entry.configure),
        features=tuple(name for name, entry in chosen.items() if not _overruled(entry, options)),
    )


def _overruled(entry: ProbedFlags, options: BuildOptions) -> bool:
    """Whether the user's flags undo a flag of `entry`: another value of the same switch, or its `no-` form."""
    words = flag_words(options.environment, "CFLAGS")
    # What configure switches on (-fstack-protector-strong) has the name of its feature.
    undone = {f"-fno-{entry.feature}", *map(_opposite, entry.compile)}
    macros = tuple(f"-{kind}{flag[2:].partition('=')[0]}" for flag in entry.compile if flag[1] in "DU" for kind in "DU")
    for flag in entry.compile:
        switch = _switch(flag)
        if any(_switch(word) in (switch, *macros) and word not in entry.compile for word in words):
            return True
    links = flag_words(options.environment, "LDFLAGS")
    return not undone.isdisjoint(words) or not set(entry.undone_by).isdisjoint(links)


def _switch(flag: str) -> str:
    """Return the part of a flag that another value of the same switch shares: `-O` of `-Os`, `-fx` of `-fx=y`."""
    return "-O" if flag.startswith("-O") else flag.partition("=")[0]


def _opposite(flag: str) -> str:
    return f"-f{flag[5:]}" if flag.startswith("-fno-") else f"-fno-{flag[2:].partition('=')[0]}"


def _try(
    compiler: Compiler, flags: tuple[str, ...], env: Mapping[str, str], state: StateDir, *, runs: bool = False
) -> str | None:
    """Build the probe with `flags`; return None when that worked, else what the compiler said.

    With `runs` the program has to run as well: the loader may not know what the linker knows.
    """
    with state.scratch("probe") as folder:
        (folder / "probe.c").write_bytes(_PROBE)
        argv = (*compiler.command, "-Werror", "-O2", *flags, "-o", "probe", "probe.c")
        completed = run(argv, cwd=folder, env=env, check=False)
        if completed.ok and runs:
            completed = run((folder / "probe",), cwd=folder, env=env, check=False)
    return None if completed.ok else completed.stderr.strip() or f"exit code {completed.returncode}"


def _require_working(compiler: Compiler, env: Mapping[str, str], state: StateDir) -> None:
    problem = _try(compiler, (), env, state)
    if problem is not None:
        if "No space left on device" in problem:
            raise MissingError("no space is left on the device of the state directory", "free some, or use another")
        command = shlex.join(compiler.command)
        raise MissingError(f"the compiler '{command}' cannot build a program: {problem.splitlines()[0]}", _INSTALL)


def _takes(compiler: Compiler, entry: ProbedFlags, env: Mapping[str, str], state: StateDir) -> bool:
    flags = (*entry.compile, *entry.link)
    # GNU ld only warns of a -z that it does not know, and links without.
    strict = ("-Wl,--fatal-warnings",) if entry.link else ()
    return not flags or _try(compiler, (*flags, *strict), env, state, runs=entry.runs) is None
