"""The header that every file of QEMU includes first, compiled once instead of a thousand times.

`qemu/osdep.h` brings the C library and GLib, which is most of what the compiler reads for a small file. gcc takes
`qemu/osdep.h.gch` from the first folder of its search path that has one, and QEMU puts the build directory first. If
`osdep.h.gch` is a folder, gcc tries what is in it until one was made with flags that fit (Using Precompiled Headers
in gcc's manual). What it makes of a source is the same, byte for byte; it is a sixth of the time of a compile.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from xenqemu.build.model import Compiler
from xenqemu.build.recipe import load_recipe
from xenqemu.proc import stream

# QEMU compiles with -Winvalid-pch (meson's default), which would report each header that gcc tries in vain. A list of
# what a compile has read (-MD) has the headers behind a precompiled one only with -fpch-deps, and where the precompiled
# one was made with -MD itself; ninja and ccache's depend mode go by that list.
PRECOMPILED_FLAGS = ("-Wno-invalid-pch", "-fpch-deps")
# Flags that a handful of files has are not worth a header of their own.
_WORTH_IT = 10
_WITH_VALUE = ("-o", "-MF", "-MQ", "-MT")
_LEFT_OUT = ("-c", "-MD", "-MMD")


def precompiles(compiler: Compiler) -> bool:
    """Whether headers are precompiled with `compiler`: a plain gcc, behind launchers that can do with it.

    clang looks for a precompiled header only where it is told to.
    """
    program = shutil.which(compiler.command[0])
    known = (load_recipe().launchers[name] for name in compiler.launchers)
    fits = all(launcher.precompiled or launcher.engine for launcher in known)
    return fits and len(compiler.command) == 1 and program is not None and "gcc" in Path(program).resolve().name


def lead_to_header(source: Path, build: Path) -> bool:
    """Write the file beside which gcc finds a precompiled header; return whether `source` has such a header.

    A compile that uses none goes through that file too, so that a cache knows it wherever it was compiled.
    """
    name = load_recipe().precompiled
    header = source / "include" / name
    if not header.is_file():
        return False
    place = build / name
    shutil.rmtree(build / f"{name}.gch", ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    # gcc falls back on it, for the files that include the header for a second time.
    place.write_text(f'#include "{os.path.relpath(header, place.parent)}"\n', encoding="utf-8")
    return True


def precompile_header(
    source: Path,
    build: Path,
    environment: Mapping[str, str],
    log: Path,
    guarded: Callable[..., tuple[str, ...]] = lambda *argv: argv,
) -> int:
    """Precompile the recipe's header for each set of flags that the configured `build` uses; return how many.

    `source` is QEMU's tree; `guarded` turns a command into one that holds the lock of the build directory, so that
    a compiler which outlives a killed run is waited for. A header that does not compile says so in `log` and is left
    out, and the files that it was for are compiled as ever; so is everything when the tree has no such header.
    """
    if not lead_to_header(source, build):
        return 0
    name = load_recipe().precompiled
    folder = build / f"{name}.gch"
    folder.mkdir()
    made = 0
    for flags in _sets_of_flags(build):
        target = folder / f"{made}.gch"
        dependencies = ("-MD", "-MF", os.devnull)  # for -fpch-deps; the list itself is of no use
        argv = guarded(*flags, "-x", "c-header", *dependencies, "-c", f"./{name}", "-o", str(target))
        made += stream(argv, lambda line: None, cwd=build, env=environment, log=log) == 0
    return made


def _sets_of_flags(build: Path) -> Iterator[tuple[str, ...]]:
    """Yield the compiler with its flags, without files, for each combination that many files are compiled with.

    Include folders differ from one library of QEMU's to the next and do not matter: the first command's are taken.
    """
    count: Counter[tuple[str, ...]] = Counter()
    first: dict[tuple[str, ...], tuple[str, ...]] = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        words = tuple(_without_files(shlex.split(entry["command"]), entry["file"]))
        key = tuple(word for word in words if not word.startswith("-I"))
        count[key] += 1
        first.setdefault(key, words)
    for key, number in count.items():
        # Helper programs of the build are compiled without QEMU's own include folders.
        if number >= _WORTH_IT and "-iquote" in key:
            yield first[key]


def _without_files(words: list[str], file: str) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif word not in _LEFT_OUT and word != file:
            yield word
