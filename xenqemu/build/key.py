"""The artifact key: one hash over everything that decides the bytes of a build, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xenqemu.build.environment import build_environment, flag_words
from xenqemu.build.model import BuildInput, BuildOptions, Compiler
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import MissingError
from xenqemu.proc import run
from xenqemu.xen.model import XenSdk


def canonical_json(document: object) -> bytes:
    """Return `document` as JSON that is the same for equal documents: sorted keys, no spaces, ASCII only."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def artifact_key(inputs: BuildInput, options: BuildOptions, compiler: Compiler) -> str:
    """Return the key (64 hex digits) of the artifact that these make.

    Where the sources came from, where things are on this machine, the number of jobs, user and time are no part of
    it. Raises `MissingError` without pkg-config, `UsageError` for flags that cannot be split into words.
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
            "hardening": [[e.feature, list(e.compile), list(e.link), list(e.configure)] for e in recipe.hardening],
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
        "libraries": library_versions(inputs.configure_arguments, options.environment),
        "cflags": [*flag_words(options.environment, "CFLAGS"), *options.extra_cflags],
        "ldflags": [*flag_words(options.environment, "LDFLAGS"), *options.extra_ldflags],
        "pkg_config_path": options.environment.get("PKG_CONFIG_PATH", ""),
        "debug_info": options.debug_info,
        "layout": {"prefix": layout.prefix, "bindir": layout.bindir, "datadir": layout.datadir},
    }


def bundles_libraries(inputs: BuildInput, options: BuildOptions) -> bool:
    """Whether the artifact carries Xen's libraries: those of a Xen that the system's linker does not find itself."""
    return inputs.xen.origin != "system" and options.layout.bundle_libraries


def meson_version() -> str:
    """Return the version of the meson that belongs to this Python; raises `MissingError` when there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("meson")
    except PackageNotFoundError as error:
        raise MissingError("meson is not installed beside xenqemu", "install it: pip install 'meson>=1.5'") from error


def _xen_headers(folder: Path) -> Iterable[Path]:
    """Yield what Xen installs into an include directory, which may be shared with others (`/usr/local/include`)."""
    for pattern in ("xen*.h", "_xen*.h", "xen/**/*.h", "xenstore-compat/*.h"):
        yield from folder.glob(pattern)


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


def _wanted(arguments: tuple[str, ...]) -> list[str]:
    """Return the pkg-config modules that a configure with `arguments` may look at; Xen's own are hashed as files."""
    automatic = "--without-default-features" not in arguments
    wanted = []
    for library in load_recipe().libraries:
        feature = library.feature
        if feature == "xen":
            continue
        on = feature is None or f"--enable-{feature}" in arguments
        if on or (automatic and f"--disable-{feature}" not in arguments):
            wanted.append(library.module)
    return wanted


def library_versions(arguments: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, str]:
    """Return pkg-config's versions of the libraries that a configure with `arguments` can use and that are there."""
    env = build_environment(environment)
    wanted = _wanted(arguments)
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
