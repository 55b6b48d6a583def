"""A build as a tarball: one folder, to be unpacked anywhere."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from pathlib import Path

from xenqemu.build.manifest import MANIFEST, dump_manifest
from xenqemu.errors import UsageError
from xenqemu.package.model import Build, Packaged, PackageRequest
from xenqemu.state import write_atomic
from xenqemu.ui import Ui

# One of liblzma's threads, and no more: the blocks of several would make other bytes.
_PRESET = 6


def package_tar(build: Build, request: PackageRequest, ui: Ui) -> Packaged:
    """Write `NAME-VERSION-MACHINE.tar.xz` into the folder of `request`, and return what it is.

    Its members are sorted, belong to root by number and have one date; modes are those of the manifest. Raises
    `UsageError` for a name or a revision that no package can have, and for a folder that cannot be written.
    """
    name, version = request.name_for(build), request.version_for(build)
    machine = str(build.manifest["tools"]["target"]).partition("-")[0]
    top = f"{name}-{version}-{machine}"
    with ui.step(f"packing {top}.tar.xz"):
        content = lzma.compress(_tar(build, top, request.date), preset=_PRESET)
    return put(request.out / f"{top}.tar.xz", content, name, version)


def _tar(build: Build, top: str, date: int) -> bytes:
    modes = {output["path"]: int(output["mode"], 8) for output in build.manifest["outputs"]}
    files = {str(path): (build.tree / path).read_bytes() for path in sorted(map(str, modes))}
    files[MANIFEST] = dump_manifest(build.manifest)
    folders = {str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted({".", *folders, *files}):
            member = tarfile.TarInfo(top if path == "." else f"{top}/{path}")
            member.mtime = date
            if path in files:
                member.mode, member.size = modes.get(path, 0o644), len(files[path])
                archive.addfile(member, io.BytesIO(files[path]))
            else:
                member.mode, member.type = 0o755, tarfile.DIRTYPE
                archive.addfile(member)
    return written.getvalue()


def put(path: Path, content: bytes, name: str, version: str, depends: tuple[str, ...] = ()) -> Packaged:
    """Write the package `content` to `path`, whole or not at all; raises `UsageError` when that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "name another folder as --out") from error
    return Packaged(path, name, version, hashlib.sha256(content).hexdigest(), len(content), depends)
