"""The artifact key: one hash over everything that decides the bytes of a build, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xenqemu.build.environment import flag_words
from xenqemu.build.libraries import library_versions
from xenqemu.build.model import BuildInput, BuildOptions, Compiler
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import MissingError
from xenqemu.xen.layout import loader_searches
from xenqemu.xen.model import XenSdk


def canonical_json(document: object) -> bytes:
    """Return `document` as JSON that is the same for equal documents: sorted keys, no spaces, ASCII only."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def artifact_key(inputs: BuildInput, options: BuildOptions, compiler: Compiler) -> str:
    """Return the key (64 hex digits) of the artifact that these make.

    Where the sources came from, where things are on this machine, the number of jobs, user and time are no part of
    it, nor is a launcher before the compiler (`ccache`). Raises `MissingError` without pkg-config, `UsageError` for
    flags that cannot be split into words.
    """
    return hashlib.sha256(canonical_json(key_document(inputs, options, compiler))).hexdigest()


def key_document(inputs: BuildInput, options: BuildOptions, compiler: Compiler) -> dict[str, Any]:
    """Return what `artifact_key` hashes; the manifest shows the same."""
    recipe = load_recipe()
    layout = options.layout
    return {
        "recipe": {
            "revision": recipe.revision,
            "arguments": [recipe.pkgversion, recipe.ninja_target, *recipe.arguments],
            "hardening": [entry.as_list() for entry in recipe.hardening],
            "size": [entry.as_list() for entry in recipe.size],
            "environment": dict(recipe.environment.fixed),
        },
        "source": inputs.commit,
        "version": str(inputs.version),
        "profile": inputs.profile_sha256,
        "configure": list(inputs.configure_arguments),
        "xen": {
            "version": str(inputs.xen.version),
            "libraries": sorted([x.name, x.soname, x.sha256] for x in inputs.xen.libraries),
            "headers": header_digest(inputs.xen),
            "bundled": bundles_libraries(inputs, options),
        },
        "tools": dict(compiler.tools),
        "meson": meson_version(),
        "compiler_flags": list(compiler.flags),
        "libraries": library_versions(inputs.configure_arguments, options.environment, compiler),
        "cflags": list(flag_words(options.environment, "CFLAGS")),
        "ldflags": list(flag_words(options.environment, "LDFLAGS")),
        "pkg_config_path": options.environment.get("PKG_CONFIG_PATH", ""),
        "debug_info": options.debug_info,
        "layout": {"prefix": layout.prefix, "bindir": layout.bindir, "datadir": layout.datadir},
    }


def bundles_libraries(inputs: BuildInput, options: BuildOptions) -> bool:
    """Whether the artifact carries Xen's libraries: those that the system's loader does not find by itself.

    That Xen of a prefix or a tree does not belong to the system, wherever it is; and pkg-config, by PKG_CONFIG_PATH,
    can take even the "system" one from a folder that no loader looks into.
    """
    if not options.layout.bundle_libraries:
        return False
    return inputs.xen.origin != "system" or not all(loader_searches(x.path.parent) for x in inputs.xen.libraries)


def meson_version() -> str:
    """Return the version of the meson that belongs to this Python; raises `MissingError` when there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("meson")
    except PackageNotFoundError as error:
        raise MissingError("meson is not installed beside xenqemu", "install it: pip install 'meson>=1.5'") from error


def _below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """Yield the headers below `folder`, also behind links to folders: a Xen tree's include folder is full of those.

    A folder that is its own ancestor ends there. (`Path.glob("**")` does not follow links.)
    """
    try:
        status = folder.stat()
        entries = list(folder.iterdir())
    except OSError:
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _below(entry, above | {identity})
        elif entry.suffix == ".h":
            yield entry


def _xen_headers(folder: Path) -> Iterator[Path]:
    """Yield what Xen installs into an include directory, which may be shared with others (`/usr/local/include`)."""
    for pattern in ("xen*.h", "_xen*.h", "xenstore-compat/*.h"):
        yield from folder.glob(pattern)
    yield from _below(folder / "xen")


def header_digest(sdk: XenSdk) -> str:
    """Return a SHA-256 over Xen's headers (names and contents) in `sdk.include_dirs`, empty when there are none.

    The headers of the system's Xen are covered by its version: a package replaces headers and libraries together.
    In somebody's build tree a header can change while the libraries' versions stay.
    """
    if not sdk.include_dirs:
        return ""
    digest = hashlib.sha256()
    for folder in sdk.include_dirs:
        for header in sorted(_xen_headers(folder)):
            if header.is_file():
                content = header.read_bytes()
                digest.update(f"{header.relative_to(folder)}\0{len(content)}\0".encode())
                digest.update(content)
    return digest.hexdigest()
