"""The precompiled header: gcc takes it, and nothing else changes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from xenqemu.build.launcher import launcher_environment
from xenqemu.build.model import Compiler
from xenqemu.build.precompile import PRECOMPILED_FLAGS, lead_to_header, precompile_header, precompiles

FLAGS = ("gcc", "-O2", "-Winvalid-pch", *PRECOMPILED_FLAGS, "-iquote", ".", "-iquote", "../src/include")


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A configured build of twelve files, half of them with -pthread, and one that has flags of its own."""
    include = tmp_path / "src/include/qemu"
    include.mkdir(parents=True)
    (include / "osdep.h").write_text("#ifndef OSDEP\n#define OSDEP\n#include <stdio.h>\nextern int here;\n#endif\n")
    folder = tmp_path / "build"
    folder.mkdir()
    commands = []
    for number in range(25):
        source = tmp_path / f"src/f{number}.c"
        again = '#include "again.c.inc"\n' if number == 0 else ""
        source.write_text(f'#include "qemu/osdep.h"\n{again}int f{number}(void) {{ return here + BUFSIZ; }}\n')
        extra = () if number < 12 else ("-pthread",) if number < 24 else ("-DALONE",)
        file = f"../src/f{number}.c"
        argv = (*FLAGS, *extra, f"-Ilib{number % 2}.p", "-MD", "-MF", "f.d", "-o", f"f{number}.o", "-c", file)
        commands.append({"directory": str(folder), "command": shlex.join(argv), "file": file})
    (tmp_path / "src/again.c.inc").write_text('#include "qemu/osdep.h"\n')
    (folder / "compile_commands.json").write_text(json.dumps(commands))
    return folder


def compile_one(build: Path, number: int) -> tuple[bytes, str]:
    """Compile a file as configured; return the object and gcc's list of what it included."""
    entry = json.loads((build / "compile_commands.json").read_text())[number]
    done = subprocess.run(
        [*shlex.split(entry["command"]), "-H"], cwd=build, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return (build / f"f{number}.o").read_bytes(), done.stderr


def test_every_common_set_of_flags_has_its_header_and_objects_stay_the_same(build: Path, tmp_path: Path) -> None:
    before = [compile_one(build, number)[0] for number in (0, 1, 13, 24)]
    assert precompile_header(tmp_path / "src", build, os.environ, tmp_path / "log") == 2
    results = [compile_one(build, number) for number in (0, 1, 13, 24)]
    assert [content for content, _ in results] == before
    taken = ["! ./qemu/osdep.h.gch" in said for _, said in results]
    assert taken[:3] == [True, True, True]


def test_a_header_that_does_not_compile_costs_nothing_but_a_line_in_the_log(build: Path, tmp_path: Path) -> None:
    header = tmp_path / "src/include/qemu/osdep.h"
    header.write_text("#ifdef _REENTRANT\n#error no threads\n#endif\n#include <stdio.h>\nextern int here;\n")
    assert precompile_header(tmp_path / "src", build, os.environ, tmp_path / "log") == 1
    assert "no threads" in (tmp_path / "log").read_text()
    compile_one(build, 1)


def test_its_compilers_hold_the_lock_of_the_build(build: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    guard = ("sh", "-c", f'echo held >> {seen}; exec "$@"', "guard")
    made = precompile_header(tmp_path / "src", build, os.environ, tmp_path / "log", lambda *argv: (*guard, *argv))
    assert made == 2
    assert seen.read_text().splitlines() == ["held"] * 2


def cached(build: Path, number: int, cache: Path, *flags: str) -> tuple[bytes, bool]:
    """Compile a file behind ccache, as a build does; return the object and whether it came out of the cache."""
    entry = json.loads((build / "compile_commands.json").read_text())[number]
    words = [*shlex.split(entry["command"]), f"-ffile-prefix-map={build}=/usr/src/qemu/build", *flags]
    work, statistics = build.parent, build / "statistics"
    statistics.unlink(missing_ok=True)
    environment = {"PATH": os.environ["PATH"], "CCACHE_DIR": str(cache), "CCACHE_STATSLOG": str(statistics)}
    environment |= launcher_environment(Compiler(("ccache", "gcc"), {}), work, environment)
    subprocess.run(["ccache", *words], cwd=build, env=environment, check=True)
    said = statistics.read_text().split()
    assert ("direct_cache_hit" in said) != ("cache_miss" in said)
    return (build / f"f{number}.o").read_bytes(), "direct_cache_hit" in said


def test_a_compiler_cache_knows_what_a_precompiled_header_was_made_of(build: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def compile_all(*flags: str) -> list[tuple[bytes, bool]]:
        assert precompile_header(tmp_path / "src", build, os.environ, tmp_path / "log") == 2
        return [cached(build, number, cache, *flags) for number in (1, 13)]

    plain = [compile_one(build, number)[0] for number in (1, 13)]
    assert compile_all() == [(content, False) for content in plain]
    assert compile_all() == [(content, True) for content in plain]
    header = tmp_path / "src/include/qemu/osdep.h"
    first = header.read_text()
    header.write_text(first.replace("extern int here;", "extern int here;\n#undef BUFSIZ\n#define BUFSIZ 17"))
    changed = compile_all()
    assert [hit for _, hit in changed] == [False, False]
    assert all(content != before for (content, _), before in zip(changed, plain, strict=True))
    header.write_text(first)
    assert compile_all() == [(content, True) for content in plain]
    assert [hit for _, hit in compile_all("-DOTHER")] == [False, False]


def test_a_compiler_cache_serves_another_folder_and_who_has_no_precompiled_header(build: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert precompile_header(tmp_path / "src", build, os.environ, tmp_path / "log") == 2
    made = [cached(build, number, cache) for number in (1, 13)]
    elsewhere = tmp_path / "elsewhere/deeper"
    for name in ("src", "build"):
        shutil.copytree(tmp_path / name, elsewhere / name)
    # The objects and the header go; a machine that hands compiles to others has never made the latter.
    assert lead_to_header(elsewhere / "src", elsewhere / "build")
    assert not (elsewhere / "build/qemu/osdep.h.gch").exists()
    assert [cached(elsewhere / "build", number, cache) for number in (1, 13)] == [
        (content, True) for content, _ in made
    ]


def test_a_tree_without_the_header_is_left_alone(build: Path, tmp_path: Path) -> None:
    assert precompile_header(tmp_path, build, os.environ, tmp_path / "log") == 0
    assert not (build / "qemu").exists()


@pytest.mark.parametrize(
    ("name", "argv", "expected"),
    [
        ("x86_64-linux-gnu-gcc-12", ("cc",), True),
        ("clang-14", ("cc",), False),
        ("ccache", ("cc",), False),
        ("gcc", ("ccache", "cc"), True),
        ("gcc", ("/opt/ccache", "distcc", "cc"), True),
        ("gcc", ("sccache", "cc"), False),
        ("clang-14", ("ccache", "cc"), False),
        ("gcc", ("ccache", "cc", "-m32"), False),
        ("gcc", ("no-such-compiler",), False),
    ],
)
def test_only_a_plain_gcc_precompiles_behind_what_can_do_with_it(
    name: str, argv: tuple[str, ...], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
    if name != "cc":
        (tmp_path / "cc").symlink_to(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert precompiles(Compiler(argv, {})) is expected
