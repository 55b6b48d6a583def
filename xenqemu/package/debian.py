"""A build as a Debian package, made with dpkg's own tools."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path, PurePosixPath
from typing import Any

import xenqemu
from xenqemu.build.install import place
from xenqemu.build.manifest import MANIFEST, dump_manifest
from xenqemu.errors import BuildError, MissingError
from xenqemu.package.model import Build, Packaged, PackageRequest
from xenqemu.package.tarball import put
from xenqemu.proc import Completed, run
from xenqemu.state import StateDir
from xenqemu.templates import text_environment
from xenqemu.ui import Ui

_UNKNOWN = re.compile(r"no dependency information found for (?P<library>\S+)")


def package_deb(build: Build, request: PackageRequest, state: StateDir, ui: Ui) -> tuple[Packaged, ...]:
    """Write the package of `build`, and one with its debug information if it has any, and return what they are.

    All of it is below /usr/lib/NAME, beside documentation under its own name: no file is one of a distribution's QEMU
    or Xen, and it has no scripts, so that removing it leaves nothing. What it depends on is asked of dpkg-shlibdeps;
    the libraries of Xen that the build carries are its own. The same build gives the same bytes with the same dpkg.

    Raises `UsageError` for a name, a revision or a maintainer that no package can have, `MissingError` without dpkg's
    tools or for a library that no package of this machine has, and `BuildError` when they fail.
    """
    facts = _facts(build, request)
    with state.scratch("package") as scratch:
        root = scratch / "root"
        ours = root / "usr/lib" / facts["name"]
        with ui.step(f"packing {facts['name']} {facts['version']}"):
            for path in build.files:
                place(build.tree / path, ours / path, _mode(build, path))
            _write(ours / MANIFEST, dump_manifest(build.manifest))
            depends = _shlibdeps(build, ours, scratch, facts)
            _document(root / "usr/share/doc" / facts["name"], facts)
            made = [_package(root, {**facts, "depends": depends}, "control", request)]
            if build.debug is not None:
                made.append(_debug_package(build.tree / build.debug, scratch / "debug", facts, request))
    return tuple(made)


def _facts(build: Build, request: PackageRequest) -> dict[str, Any]:
    """Return what the templates say of a build."""
    bundled = bool(build.libraries)
    return {
        "name": request.name_for(build),
        "version": request.version_for(build),
        "maintainer": request.checked_maintainer(),
        "architecture": _architecture(str(build.manifest["tools"]["target"])),
        "program": build.program,
        "bundled": bundled,
        "libraries": build.libraries[0].parent if bundled else "",
        "qemu": build.manifest["qemu"],
        "xen": build.manifest["xen"]["version"],
        "profile": build.profile,
        "topics": len(build.manifest["patches"]),
        "xenqemu": xenqemu.__version__,
        "build_id": build.manifest["hardening"]["program"]["build_id"],
        "date": format_datetime(datetime.fromtimestamp(request.date, UTC)),
    }


def _architecture(target: str) -> str:
    said = _dpkg("dpkg-architecture", "-f", "-t", target, "-q", "DEB_HOST_ARCH", env=_environment())
    return said.stdout.strip()


def _shlibdeps(build: Build, ours: Path, scratch: Path, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the packages that have the libraries which the program and its own libraries need."""
    # dpkg-shlibdeps takes a library for the package's own when a folder DEBIAN lies above it (guess_pkg_root_dir).
    (scratch / "root/DEBIAN").mkdir()
    _write(scratch / "debian/control", _render("source", facts))
    words = ["-O", f"-S{scratch / 'root'}", f"-x{facts['name']}"]
    if build.libraries:
        words.append(f"-l/usr/lib/{facts['name']}/{build.libraries[0].parent}")  # as it is installed
    files = [f"-e{ours / path}" for path in (build.program, *build.libraries)]
    said = run(("dpkg-shlibdeps", *words, *files), cwd=scratch, env=_environment(), check=False)
    unknown = _UNKNOWN.search(said.stderr)
    if unknown:
        raise MissingError(
            f"no package of this machine has {unknown['library']}, which the device model needs",
            "package it where it was built, or build it against the libraries of packages",
        )
    _check(said)
    return tuple(re.split(r",\s*", said.stdout.strip().removeprefix("shlibs:Depends=")))


def _document(folder: Path, facts: Mapping[str, Any]) -> None:
    _write(folder / "copyright", _render("copyright", facts))
    _write(folder / "changelog.Debian.gz", gzip.compress(_render("changelog", facts), 9, mtime=0))


def _package(root: Path, facts: Mapping[str, Any], control: str, request: PackageRequest) -> Packaged:
    """Add control files to what is below `root`, and return the package made of it."""
    name, version = str(facts["name"]), str(facts["version"])
    files = sorted(path for path in root.rglob("*") if path.is_file())
    sums = (f"{_md5(path)}  {path.relative_to(root)}\n" for path in files)
    size = sum(-(-path.stat().st_size // 1024) for path in files) + sum(path.is_dir() for path in root.rglob("*"))
    _write(root / "DEBIAN/md5sums", "".join(sums).encode())
    _write(root / "DEBIAN/control", _render(control, {**facts, "installed_size": size}))
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (request.date, request.date), follow_symlinks=False)
    made = root.parent / f"{name}_{version}_{facts['architecture']}.deb"
    # Several threads of xz make other bytes than one.
    environment = {**_environment(), "SOURCE_DATE_EPOCH": str(request.date), "DPKG_DEB_THREADS_MAX": "1"}
    _dpkg("dpkg-deb", "--root-owner-group", "-Zxz", "--build", root, made, env=environment)
    return put(request.out / made.name, made.read_bytes(), name, version, tuple(facts["depends"]))


def _debug_package(file: Path, root: Path, facts: Mapping[str, Any], request: PackageRequest) -> Packaged:
    """Return the package with the debug information in `file`, where debuggers and Debian's own such packages have it.

    By build id (`dh_strip`; "Separate Debug Files" in GDB's manual). Its documentation is that of the program.
    """
    identity = str(facts["build_id"])
    place(file, root / f"usr/lib/debug/.build-id/{identity[:2]}/{identity[2:]}.debug", 0o644)
    doc = root / "usr/share/doc" / f"{facts['name']}-dbgsym"
    doc.parent.mkdir(parents=True)
    doc.symlink_to(str(facts["name"]))
    depends = (f"{facts['name']} (= {facts['version']})",)
    debug = {**facts, "name": f"{facts['name']}-dbgsym", "of": facts["name"], "depends": depends}
    return _package(root, debug, "control-dbgsym", request)


def _mode(build: Build, path: PurePosixPath) -> int:
    return 0o755 if path == build.program else 0o644


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()  # the format of deb-md5sums(5), for no secret


def _environment() -> dict[str, str]:
    """Return the environment of dpkg's tools: nothing of the user's that could change what they make of a build."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _dpkg(*argv: str | Path, env: Mapping[str, str]) -> Completed:
    try:
        said = run(argv, env=env, check=False)
    except MissingError as error:
        raise MissingError(error.message, "Debian's package dpkg-dev has what packages are made with") from error
    return _check(said)


def _check(said: Completed) -> Completed:
    if not said.ok:
        raise BuildError(f"{said.argv[0]} failed: {said.stderr.strip()}")
    return said


def _render(template: str, facts: Mapping[str, Any]) -> bytes:
    return text_environment("xenqemu.package").get_template(f"{template}.j2").render(facts).encode()
