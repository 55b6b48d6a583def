"""Finding the directories of a Xen: the system's, those of a prefix, those of a source tree."""

from __future__ import annotations

import os
import re
import sysconfig
from functools import cache
from pathlib import Path

from xenqemu import proc
from xenqemu.environment import probe_environment
from xenqemu.errors import MissingError
from xenqemu.xen.interface import interface
from xenqemu.xen.model import Layout

_ROOTS = ("usr/local", "usr", "local", ".")


def multiarch() -> str:
    """Return this machine's multiarch name (`x86_64-linux-gnu`), or nothing where there is none."""
    return str(sysconfig.get_config_var("MULTIARCH") or "")


def searched_anyway(directory: Path) -> bool:
    """Whether compiler and linker look into `directory` without being told (gcc's and GNU ld's built-in paths)."""
    parts = directory.parts
    if len(parts) > 1 and parts[-1] == multiarch():
        parts = parts[:-1]
    return "/".join(parts)[1:] in (
        *("/usr/include", "/usr/local/include"),
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"),
    )


@cache
def _loader_dirs() -> frozenset[Path]:
    """Return where the dynamic loader looks for libraries: glibc's own folders and those of /etc/ld.so.conf."""
    folders = [Path(f"{root}{name}") for root in ("", "/usr") for name in ("/lib", "/lib64", f"/lib/{multiarch()}")]
    waiting, read = [Path("/etc/ld.so.conf")], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in read:
            continue
        read.add(file)
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for words in (line.partition("#")[0].split() for line in lines):
            if words[:1] == ["include"]:  # relative ones are beside the file (ldconfig(8), elf/ldconfig.c)
                waiting += [path for word in words[1:] for path in Path("/").glob(str(file.parent / word).lstrip("/"))]
            elif words:
                folders.append(Path(words[0]))
    return frozenset(folder.resolve() for folder in folders)


def loader_searches(directory: Path) -> bool:
    """Whether a program finds the libraries in `directory` when it is started, without being told where they are."""
    return directory.resolve() in _loader_dirs()


def find_library(soname: str) -> Path | None:
    """Return the file of this machine that a program gets for `soname` when it is started, None when there is none."""
    return next((path for folder in sorted(_loader_dirs()) if (path := folder / soname).is_file()), None)


def is_tree(path: Path) -> bool:
    """Whether `path` is a Xen source tree."""
    return (path / "xen" / "Makefile").is_file() and (path / "tools" / "libs").is_dir()


def _unique(paths: list[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path for path in paths if path.is_dir()))


def _library_dirs(root: Path) -> tuple[Path, ...]:
    names = ["lib", "lib64", *(f"lib/{path.name}" for path in sorted(root.glob("lib/*-linux-*")))]
    if multiarch():
        names.insert(0, f"lib/{multiarch()}")
    # A dangling link counts: it is what shall be reported, not passed by.
    return _unique([root / name for name in names if any((root / name).glob("libxen*"))])


def prefix(path: Path, location: str, origin: str = "prefix") -> Layout:
    """Return the layout of the Xen installed below `path`, a DESTDIR or a prefix.

    Of the places where an installation has its include and lib directories (`usr/local` is where Xen's configure
    puts them, `usr` where the RFC's guide does) the one with the most of a Xen counts, headers and libraries both.
    """
    best = Layout(origin, location, (), ())
    best_score = 0
    for name in _ROOTS:
        root = (path / name).resolve()
        include = root / "include"
        headers = [header for header in interface().headers if (include / header).exists()]
        libraries = _library_dirs(root)
        found = sum(any(any(folder.glob(f"lib{lib}.*")) for folder in libraries) for lib in interface().modules)
        score = len(headers) + 2 * found
        if score > best_score:
            best_score = score
            best = Layout(origin, location, (include,) if headers else (), libraries)
    return best


def in_tree(path: Path, location: str) -> Layout:
    """Return the layout of the libraries that were built inside the Xen source tree at `path`.

    Headers are in tools/include since 4.15 (tools/libs/libs.mk, LIBHEADERS), in each library's own folder before.
    """
    tools = path.resolve() / "tools"
    libraries = sorted(tools.glob("libs/*/"))
    return Layout(
        "tree",
        location,
        _unique([tools / "include", *(folder / "include" for folder in libraries)]),
        _unique([folder for folder in libraries if any(folder.glob("libxen*.so"))]),
    )


_SEARCH_FLAGS = re.compile(r"(?:\\.|[^\s\\])+")


def parse_flags(text: str) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the -I and the -L directories of what `pkg-config --cflags --libs` printed (blanks come escaped)."""
    include: dict[Path, None] = {}
    library: dict[Path, None] = {}
    words = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in _SEARCH_FLAGS.findall(text)]
    for word in words:
        if word.startswith("-I") and word[2:]:
            include[Path(os.path.normpath(word[2:]))] = None
        elif word.startswith("-L") and word[2:]:
            library[Path(os.path.normpath(word[2:]))] = None
    return tuple(include), tuple(library)


def _default_dirs() -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    roots = [Path("/usr/local"), Path("/usr")]
    libraries = [folder for root in roots for folder in _library_dirs(root)]
    return _unique([root / "include" for root in roots]), _unique(libraries)


def system() -> Layout:
    """Return the layout of the Xen that pkg-config finds on this machine, else that of the compiler's own paths.

    One call for all modules: QEMU asks for them one by one, but all have to be there.
    """
    # The pkg-config and the variables that the build will have: another answer would be another Xen than it finds.
    environment = probe_environment(os.environ)
    environment |= {"PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1", "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1"}
    modules = interface().modules.values()
    try:
        done = proc.run(["pkg-config", "--cflags", "--libs", *modules], env=environment, check=False)
    except MissingError:
        done = None
    include, library = parse_flags(done.stdout) if done is not None and done.ok else ((), ())
    defaults = _default_dirs()
    return Layout("system", "system", include or defaults[0], library or defaults[1])
