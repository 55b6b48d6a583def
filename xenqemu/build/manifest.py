"""The manifest: every input and every output of a build, the same for the same build wherever it ran."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xenqemu
from xenqemu.build.key import key_document
from xenqemu.build.model import Artifact, BuildInput, BuildOptions, ChosenFlags, Compiler

FORMAT = 1
MANIFEST = "manifest.json"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content; raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_outputs(tree: Path) -> list[dict[str, Any]]:
    """Return path (relative, POSIX), SHA-256, size and mode of every file below `tree`, sorted by path."""
    outputs = []
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        status = path.stat()
        outputs.append(
            {
                "path": path.relative_to(tree).as_posix(),
                "sha256": file_sha256(path),
                "size": status.st_size,
                "mode": f"{status.st_mode & 0o7777:04o}",
            }
        )
    return outputs


def make_manifest(
    key: str,
    inputs: BuildInput,
    options: BuildOptions,
    compiler: Compiler,
    flags: ChosenFlags,
    tree: Path,
    build: Path,
) -> dict[str, Any]:
    """Return the manifest of the build in the folder `build` that left its files in `tree`.

    It holds no time, host or user name and no path of this machine, except where the user's own words have one
    (`origin`, flags).
    """
    from xenqemu.build.cost import measure_areas, measure_program
    from xenqemu.build.hardening import inspect_elf

    layout = options.layout
    document = key_document(inputs, options, compiler)
    return {
        "format": FORMAT,
        "xenqemu": xenqemu.__version__,
        "key": key,
        "program": layout.program.as_posix(),
        "layout": {**document["layout"], "root": layout.root.as_posix()},
        "qemu": {"version": str(inputs.version), "commit": inputs.commit, "origin": dict(inputs.origin)},
        "patches": [{"topic": p.topic, "file": p.file, "sha256": p.sha256} for p in inputs.patches],
        "target": [{"path": path, "sha256": digest} for path, digest in inputs.target_files],
        "profile": {"name": inputs.profile, "sha256": inputs.profile_sha256},
        "xen": {
            "kind": inputs.xen.origin,
            "version": document["xen"]["version"],
            "headers": document["xen"]["headers"],
            "bundled": document["xen"]["bundled"],
            "libraries": [
                {"name": x.name, "soname": x.soname, "sha256": x.sha256}
                for x in sorted(inputs.xen.libraries, key=lambda library: library.name)
            ],
        },
        "configure": document["configure"],
        "options": {
            name: document[name]
            for name in ("debug_info", "compiler_flags", "cflags", "ldflags", "pkg_config_path", "recipe")
        },
        "environment": dict(options.environment),
        "tools": {**document["tools"], "meson": document["meson"]},
        "libraries": document["libraries"],
        "hardening": {
            "features": list(flags.hardening.features),
            "flags": list(flags.hardening.words),
            "program": inspect_elf(tree / layout.program).as_dict(),
        },
        "size": {"features": list(flags.size.features), "flags": list(flags.size.words)},
        "cost": {"program": measure_program(tree / layout.program).as_dict(), "areas": measure_areas(build)},
        "outputs": list_outputs(tree),
    }


def dump_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest as the file is written: stable order, one value a line."""
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def load_manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest in the file `path`, or None when there is none or what is there is not one of xenqemu's."""
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("xenqemu"), str):
        return None
    outputs = manifest.get("outputs")
    if not isinstance(outputs, list) or not all(map(_is_output, outputs)):
        return None
    return manifest


def _is_output(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("path"), str)


def with_origin(artifact: Artifact, inputs: BuildInput, options: BuildOptions) -> Artifact:
    """Return `artifact` with a manifest that says how *this* run came by what it was made of.

    An artifact serves every build with its key, and the key knows nothing of where a source came from, which Xen had
    the libraries, or which launcher ran the compiler. What is kept has the words of whoever built it first; what is
    delivered is to have those of the build that it is delivered for. Outputs and hashes stay as they are.
    """
    manifest = dict(artifact.manifest)
    manifest["qemu"] = {**manifest["qemu"], "origin": dict(inputs.origin)}
    manifest["profile"] = {**manifest["profile"], "name": inputs.profile}
    manifest["xen"] = {**manifest["xen"], "kind": inputs.xen.origin}
    manifest["environment"] = dict(options.environment)
    return replace(artifact, manifest=manifest)
