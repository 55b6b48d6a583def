"""Which libraries of the machine a build can come to use, in which versions: a part of the artifact's key."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from xenqemu.build.environment import build_environment, flag_words
from xenqemu.build.model import Compiler
from xenqemu.build.recipe import Library, load_recipe
from xenqemu.proc import run

_FOUND = re.compile(r"^xenqemu (?P<what>\S+) (?P<value>.+)$", re.MULTILINE)


def library_versions(arguments: Sequence[str], environment: Mapping[str, str], compiler: Compiler) -> dict[str, str]:
    """Return those libraries that a configure with `arguments` can use and that are there, name to version.

    Those with a .pc file are asked of pkg-config. For the others QEMU's meson.build calls `cc.find_library` with
    `has_headers`, so that the compiler is asked here as well; their version is the name of the file behind `-lNAME`.
    The C library is always among them. `environment` are the honoured variables.
    Raises `MissingError` without pkg-config or compiler, `UsageError` for flags that cannot be split into words.
    """
    wanted = _wanted(arguments)
    modules = [library.module for library in wanted if not library.header]
    found = _modules(modules, build_environment(environment))
    return found | _without_module([library for library in wanted if library.header], environment, compiler)


def _wanted(arguments: Sequence[str]) -> list[Library]:
    """Return the libraries that a configure with `arguments` may look at; Xen's own are hashed as files."""
    automatic = "--without-default-features" not in arguments
    wanted = []
    for library in load_recipe().libraries:
        feature = library.feature
        if feature == "xen" or f"--disable-{feature}" in arguments:
            continue
        if feature is None or library.always or automatic or f"--enable-{feature}" in arguments:
            wanted.append(library)
    return wanted


def _modules(wanted: list[str], env: Mapping[str, str]) -> dict[str, str]:
    together = run(("pkg-config", "--modversion", *wanted), env=env, check=False)
    versions = together.stdout.split()
    if together.ok and len(versions) == len(wanted):
        return dict(zip(wanted, versions, strict=True))
    found = {}
    for module in wanted:
        one = run(("pkg-config", "--modversion", module), env=env, check=False)
        if one.ok:
            found[module] = one.stdout.strip()
    return found


def _without_module(wanted: list[Library], environment: Mapping[str, str], compiler: Compiler) -> dict[str, str]:
    """Return what the preprocessor finds of the headers and the linker of the libraries, in one run of each.

    It is looked for in every build, also one that has nothing to do: both runs together take 20 ms.
    """
    env = build_environment(environment)
    cflags, ldflags = flag_words(environment, "CFLAGS"), flag_words(environment, "LDFLAGS")
    source = "#include <limits.h>\nxenqemu libc __GLIBC__ __GLIBC_MINOR__\n" + "".join(
        f"#if __has_include(<{library.header}>)\nxenqemu {number} header\n#endif\n"
        for number, library in enumerate(wanted)
    )
    said = run(
        (*compiler.command, *cflags, "-E", "-P", "-x", "c", "-"), env=env, stdin=source.encode(), check=False
    ).stdout
    answers = {match["what"]: match["value"] for match in _FOUND.finditer(said)}
    found = {"libc": ".".join(answers.pop("libc", "unknown").split())}
    there = [library for number, library in enumerate(wanted) if str(number) in answers]
    files = _linked(
        [library.library for library in there if library.library], (*compiler.command, *cflags, *ldflags), env
    )
    for library in there:
        if not library.library:
            found[library.module] = "header"
        elif library.library in files:
            found[library.module] = files[library.library]
    return found


def _linked(names: list[str], command: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """Return for each of the libraries `names` that the linker finds the name of the file that it comes down to."""
    if not names:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        # -t prints each file that is read, also where others are not found and the link fails.
        words = (*(f"-l{name}" for name in names), "-Wl,-t", "-o", str(Path(folder) / "probe.so"))
        said = run((*command, "-shared", "-nostdlib", *words), env=env, check=False).stdout
    files: dict[str, str] = {}
    for line in said.splitlines():
        path = Path(line.strip())
        name = path.name.removeprefix("lib").partition(".")[0]
        if name in names and path.is_file():
            files.setdefault(name, path.resolve().name)
    return files
