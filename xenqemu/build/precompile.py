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

# QEMU compiles with -Winvalid-pch (meson's default), which would report each header that gcc tries in vain.
PRECOMPILED_FLAGS = ("-Wno-invalid-pch",)
# Flags that a handful of files has are not worth a header of their own.
_WORTH_IT = 10
_WITH_VALUE = ("-o", "-MF", "-MQ", "-MT")
_LEFT_OUT = ("-c", "-MD", "-MMD")


def precompiles(compiler: Compiler) -> bool:
    """Whether headers are precompiled with `compiler`: a plain gcc.

    clang looks for a precompiled header only where it is told to, and ccache does not cache a compile that uses one.
    """
    program = shutil.which(compiler.argv[0])
    return len(compiler.argv) == 1 and program is not None and "gcc" in Path(program).resolve().name


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
    name = load_recipe().precompiled
    header = source / "include" / name
    if not header.is_file():
        return 0
    folder = build / f"{name}.gch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # gcc falls back on the file beside the folder, for the files that include the header for a second time.
    (build / name).write_text(f'#include "{os.path.relpath(header, (build / name).parent)}"\n', encoding="utf-8")
    made = 0
    for flags in _sets_of_flags(build):
        target = folder / f"{made}.gch"
        argv = guarded(*flags, "-x", "c-header", "-c", f"./{name}", "-o", str(target))
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
