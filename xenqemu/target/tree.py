"""The rendered target as a commit on top of the patched tree."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from packaging.version import Version

from xenqemu.gitstore import GitStore, StoreIndex, blobs_digest
from xenqemu.resources import data_dir
from xenqemu.series.model import PatchedTree
from xenqemu.series.patchfile import GENERATED_TRAILER
from xenqemu.state import StateDir
from xenqemu.target.kconfig import check_symbols
from xenqemu.target.profile import TARGET, Profile
from xenqemu.ui import Ui


@dataclass(frozen=True)
class TargetFile:
    """A rendered file in the tree: its path and the SHA-256 of its content."""

    path: str
    sha256: str


@dataclass(frozen=True)
class TargetTree:
    """A patched QEMU with the target's files: `commit` in the store identifies all sources of a build."""

    commit: str
    version: Version
    files: tuple[TargetFile, ...]
    profile_sha256: str


def add_target(patched: PatchedTree, profile: Profile, state: StateDir, ui: Ui) -> TargetTree:
    """Render the target for `profile` onto `patched` and return the result; the same input gives the same commit.

    Raises `UsageError` when the profile names a device that this QEMU does not have.
    """
    digest = profile_digest(profile, patched.version)
    key = hashlib.sha256(json.dumps([patched.commit, digest, _data_digest()]).encode()).hexdigest()
    store = GitStore.open(state)
    known = state.recall("target", key)
    if known is not None and store.has(known["commit"]):
        files = tuple(TargetFile(**file) for file in known["files"])
        return TargetTree(known["commit"], patched.version, files, digest)
    # jinja2 takes its time to import, and a build with nothing to do comes out above
    from xenqemu.target.render import render_target

    with ui.step(f"render target {TARGET}, profile {profile.name}"), store.index(patched.commit) as index:
        check_symbols(profile, patched.version, _kconfig(index))
        blobs, rendered = {}, []
        for file in render_target(profile, patched.version):
            blobs[file.path] = index.add(file.path, file.content, executable=file.executable)
            rendered.append(TargetFile(file.path, hashlib.sha256(file.content).hexdigest()))
        message = (
            f"Add target {TARGET}\n\nRendered from profile {profile.name}: {profile.description}.\n\n"
            f"{GENERATED_TRAILER}: {blobs_digest(blobs)}"
        )
        commit = store.commit(index.write_tree(), patched.commit, message)
    store.keep(commit, "target")
    result = TargetTree(commit, patched.version, tuple(rendered), digest)
    state.remember("target", key, {"commit": commit, "files": [asdict(file) for file in result.files]})
    return result


def profile_digest(profile: Profile, version: Version) -> str:
    """Return the SHA-256 of what a profile asks of a QEMU of `version`, after all that it extends was merged in.

    Names and texts are a part of that: they are rendered into the target's files.
    """
    asked = [
        profile.name,
        profile.description,
        profile.options_for(version),
        sorted((name, state.value) for name, state in profile.features_for(version).items()),
        [[device.kconfig, device.types, device.xl] for device in profile.devices_for(version)],
        sorted(profile.left_out_for(version)),
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _data_digest() -> str:
    """Return a digest over the templates and their list; profiles are accounted for apart."""
    folder = data_dir("targets") / TARGET
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.parent.name != "profiles":
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _kconfig(index: StoreIndex) -> tuple[str, ...]:
    """Return the lines of all Kconfig files that define a symbol, with one git command instead of 200 reads."""
    return (str(index.repo.git.grep("--cached", "-h", "^config[[:space:]]", "--", "Kconfig*", "**/Kconfig*")),)
