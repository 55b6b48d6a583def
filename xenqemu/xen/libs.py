"""Building Xen's libraries from a source tree: in a copy, and only those that QEMU needs."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from xenqemu import proc
from xenqemu.errors import BuildError, MissingError
from xenqemu.state import StateDir, publish, write_atomic
from xenqemu.ui import Ui

_USELIBS = re.compile(r"^USELIBS_(\w+)\s*:?=([^\n#]*)", re.MULTILINE)
_LIBS_LIBS = re.compile(r"^LIBS_LIBS\s*\+=\s*(\w+)", re.MULTILINE)
_CONFIGURED = ".xenqemu-configured"
_DONE = ".xenqemu-done"
# Raised when the same tree would be built otherwise than before.
_RECIPE = 1


@cache
def _recipe() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "libs.toml").read_text(encoding="utf-8"))


def parse_uselibs(text: str) -> dict[str, tuple[str, ...]]:
    """Return what tools/libs/uselibs.mk says: each library of Xen with those that it is linked with, in build order.

    Only the two kinds of assignment are read that the file consists of: `LIBS_LIBS += x` and `USELIBS_x := a b`.
    """
    uses = {name: tuple(words.split()) for name, words in _USELIBS.findall(text)}
    return {name: uses.get(name, ()) for name in _LIBS_LIBS.findall(text)}


def build_order(uses: Mapping[str, tuple[str, ...]], roots: Iterable[str]) -> tuple[str, ...]:
    """Return the libraries that `roots` consist of and need, directly or indirectly, in the order of `uses`."""
    wanted: set[str] = set()
    queue = list(roots)
    while queue:
        name = queue.pop()
        if name in uses and name not in wanted:
            wanted.add(name)
            queue.extend(uses[name])
    return tuple(name for name in uses if name in wanted)


def _sources(tree: Path) -> list[Path]:
    """Return the files of `tree` that take part, relative and sorted; links that a build made are not among them."""
    recipe = _recipe()
    found: set[Path] = set()
    for pattern in recipe["sources"]:
        for path in tree.glob(pattern):
            relative = path.relative_to(tree)
            if path.is_file() and not any(fnmatch.fnmatch(str(relative), product) for product in recipe["products"]):
                found.add(relative)
    return sorted(found)


def _digest(tree: Path, sources: list[Path], compiler: str) -> str:
    digest = hashlib.sha256(f"{_RECIPE}\n{compiler}\n".encode())
    digest.update((Path(__file__).parent / "libs.toml").read_bytes())
    for relative in sources:
        content = hashlib.sha256((tree / relative).read_bytes()).hexdigest()
        executable = os.access(tree / relative, os.X_OK)
        digest.update(f"{relative}\0{executable}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _environment() -> dict[str, str]:
    """Return the environment of the build: Xen's Makefiles take dozens of variables from it, so little gets in."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "HOME", "TMPDIR", "USER", "LOGNAME"} or name.startswith("CCACHE_")
    }
    # Where no python3 is installed system-wide, the one that runs this will do.
    kept["PATH"] = os.pathsep.join([kept.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    return {**kept, "LC_ALL": "C", **_recipe()["configure"]["answers"]}


def _check_tools(compiler: str) -> None:
    path = _environment()["PATH"]
    missing = {name: apt for name, apt in _recipe()["tools"].items() if shutil.which(name, path=path) is None}
    program = (shlex.split(compiler) or ["gcc"])[0]
    if shutil.which(program, path=path) is None:
        missing[program] = "gcc"
    if missing:
        raise MissingError(
            f"Xen's libraries cannot be built, these programs are missing: {', '.join(missing)}",
            f"apt-get install {' '.join(sorted(set(missing.values())))}",
        )


def _run(title: str, argv: list[str], where: Path, log: Path) -> None:
    last: deque[str] = deque(maxlen=12)
    code = proc.stream(argv, last.append, cwd=where, env=_environment(), log=log)
    if code != 0:
        raise BuildError("\n".join([f"{title} failed (exit {code}):", *last]), f"the whole log: {log}")


def _compiler(cc: str | None) -> str:
    return os.environ.get("CC", "") if cc is None else cc


def find_built(tree: Path, state: StateDir, cc: str | None = None) -> Path | None:
    """Return the `dist/install` that `build` made of `tree` with `cc` before, or None; nothing is built."""
    if not state.xen.is_dir():
        return None
    copy = state.xen / _digest(tree, _sources(tree), _compiler(cc))
    return copy / "dist" / "install" if (copy / _DONE).exists() else None


def build(tree: Path, state: StateDir, ui: Ui, jobs: int | None = None, cc: str | None = None) -> Path:
    """Build the libraries of the Xen source tree `tree` that QEMU needs and return the `dist/install` they are in.

    It happens in a copy in the state directory, named by the content of what takes part: `tree` is only read, a
    second call with the same content only looks, an interrupted one is taken up. `jobs` defaults to the number of
    CPUs, `cc` (a command as words) to `CC` of the environment and then to what Xen chooses. Raises `MissingError` for
    missing programs, `BuildError` when Xen's configure or make fails.
    """
    compiler = _compiler(cc)
    sources = _sources(tree)
    key = _digest(tree, sources, compiler)
    copy = state.xen / key
    installed = copy / "dist" / "install"
    if (copy / _DONE).exists():
        return installed
    _check_tools(compiler)
    with state.lock(f"xen-{key[:16]}", ui):
        if not (copy / _DONE).exists():
            with ui.step("building Xen's libraries"):
                resumed = copy.exists()
                try:
                    _build(tree, sources, copy, state, compiler, jobs or os.cpu_count() or 1)
                except BuildError:
                    if not resumed:
                        raise
                    # A machine that lost power leaves truncated files behind, and make goes by their dates.
                    shutil.rmtree(copy)
                    _build(tree, sources, copy, state, compiler, jobs or os.cpu_count() or 1)
    return installed


def _copy(tree: Path, sources: list[Path], copy: Path, state: StateDir) -> None:
    with state.scratch("xen") as scratch:
        for relative in sources:
            (scratch / "tree" / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / relative, scratch / "tree" / relative)
        publish(scratch / "tree", copy)


def _build(tree: Path, sources: list[Path], copy: Path, state: StateDir, compiler: str, jobs: int) -> None:
    if not copy.exists():
        _copy(tree, sources, copy, state)
    log = copy / "build.log"
    recipe = _recipe()
    variables = [*recipe["make"]["variables"], f"DESTDIR={copy / 'dist' / 'install'}"]
    if not (copy / _CONFIGURED).exists():
        words = ["sh", "./configure", *recipe["configure"]["arguments"]]
        _run("Xen's configure", [*words, f"CC={compiler}"] if compiler else words, copy, log)
        write_atomic(copy / _CONFIGURED, b"")
    if compiler:
        variables.append(f"CC={compiler}")  # config/StdGNU.mk sets it without looking at the environment
    uses = parse_uselibs((copy / "tools/libs/uselibs.mk").read_text(encoding="utf-8"))
    libraries = build_order(uses, recipe["libraries"]["roots"])
    # tools/libs/libs.mk installs .pc files into a folder that another part of Xen's build makes.
    for folder in ("lib/pkgconfig", "share/pkgconfig"):
        (copy / "dist/install/usr/local" / folder).mkdir(parents=True, exist_ok=True)
    make = ["make", "--no-print-directory", f"-j{jobs}"]
    _run("make -C tools/include", [*make, "-C", "tools/include", "install", *variables], copy, log)
    variables.append(f"SUBDIRS-y={' '.join(libraries)}")
    _run("make -C tools/libs", [*make, "-C", "tools/libs", "install", *variables], copy, log)
    write_atomic(copy / _DONE, b"")
