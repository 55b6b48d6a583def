"""The way through the house up to a device model: each stage's result handed to the next.

`boot_pipeline` is the rest of the way; no other module knows more than one stage.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xenqemu.build.model import Artifact, BuildInput, BuildOptions, PatchRecord
from xenqemu.errors import UsageError
from xenqemu.gitstore import GitStore
from xenqemu.resources import is_installed
from xenqemu.results import Check, Results
from xenqemu.series.apply import apply_series, apply_what_applies
from xenqemu.series.catalogue import load_series
from xenqemu.series.check import CheckReport, check_series
from xenqemu.series.model import PatchedTree
from xenqemu.series.worktree import RefreshedTopic
from xenqemu.source.model import QemuSource, QemuTree
from xenqemu.state import StateDir, why_not_writable
from xenqemu.target.profile import Profile, load_profile
from xenqemu.target.tree import TargetTree, add_target
from xenqemu.ui import Ui


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built from what; `xen` and `profile` as the user named them."""

    qemu: QemuSource
    xen: str
    profile: str
    options: BuildOptions
    build_xen_libs: bool = False


@dataclass(frozen=True)
class Destination:
    """Where the result goes: a folder of its own (`out`), or into Xen's folders below `destdir`."""

    out: Path | None = None
    destdir: Path | None = None

    def check(self) -> None:
        """Raise `UsageError` when nothing can be put there: better before a build than after it."""
        folder = self.out or self.destdir
        reason = "" if folder is None else why_not_writable(folder)
        if reason:
            raise UsageError(f"the result cannot be put into {folder}: {reason}", "name another place for it")


@dataclass(frozen=True)
class BuildPlan:
    """Everything that a build needs, decided: `artifact` is the result where it is there already."""

    request: BuildRequest
    inputs: BuildInput
    key: str
    artifact: Artifact | None


@dataclass(frozen=True)
class Prepared:
    """The sources of a build, as commits in the store."""

    tree: QemuTree
    patched: PatchedTree
    target: TargetTree
    profile: Profile


def prepare_sources(qemu: QemuSource, profile_name: str, state: StateDir, ui: Ui) -> Prepared:
    """Obtain the QEMU, apply the series and add the target.

    Raises what those stages raise: `SourceError`, `PatchError`, `UsageError`, `MissingError`.
    """
    profile = load_profile(profile_name)  # before anything is downloaded: a misspelt name should cost nothing
    tree = obtain_qemu(qemu, state, ui)
    patched = apply_series(load_series(), tree, state, ui)
    if ui.verbose:
        for patch in patched.patches:
            moved = [f"{hunk.path} {hunk.offset:+d}" for hunk in patch.hunks if hunk.offset or hunk.fuzz]
            ui.note(f"{patch.file}{': ' if moved else ''}{', '.join(moved)}")
    return Prepared(tree, patched, add_target(patched, profile, state, ui), profile)


def plan_build(request: BuildRequest, state: StateDir, ui: Ui) -> BuildPlan:
    """Do everything up to configure and return the plan; nothing outside the state directory is written.

    Raises what the stages before the build raise.
    """
    from xenqemu import xen
    from xenqemu.build import artifact_key, find_artifact, identify_compiler, with_origin
    from xenqemu.target.flags import configure_arguments

    compiler = identify_compiler(request.options)
    prepared = prepare_sources(request.qemu, request.profile, state, ui)
    sdk = xen.locate(
        request.xen,
        state,
        ui,
        build_libs=request.build_xen_libs,
        jobs=request.options.jobs,
        cc=request.options.cc,
    )
    inputs = BuildInput(
        tree=state.trees / prepared.target.commit,
        commit=prepared.target.commit,
        version=prepared.tree.version,
        origin=prepared.tree.origin,
        patches=tuple(PatchRecord(patch.topic, patch.file, patch.sha256) for patch in prepared.patched.patches),
        target_files=tuple((file.path, file.sha256) for file in prepared.target.files),
        profile=prepared.profile.name,
        profile_sha256=prepared.target.profile_sha256,
        configure_arguments=configure_arguments(prepared.profile, prepared.tree.version),
        xen=sdk,
        xen_compile_flags=xen.compile_flags(sdk),
        xen_link_flags=xen.link_flags(sdk),
        pkg_config_files=xen.pkg_config_files(sdk),
    )
    key = artifact_key(inputs, request.options, compiler)
    if ui.verbose:
        ui.note(f"artifact {key}")
    found = find_artifact(key, state)
    return BuildPlan(request, inputs, key, found and with_origin(found, inputs, request.options))


def carry_out(plan: BuildPlan, state: StateDir, ui: Ui) -> Artifact:
    """Build what is planned, or return it where it is there already.

    Raises `BuildError` and `MissingError`.
    """
    from xenqemu.build import build

    if plan.artifact is not None:
        ui.note(f"nothing to do: these inputs were built before (artifact {plan.key[:12]})")
        return plan.artifact
    GitStore.open(state).checkout(plan.inputs.commit, ui)
    return build(plan.inputs, plan.request.options, state, ui)


def deliver(artifact: Artifact, plan: BuildPlan, destination: Destination, ui: Ui) -> Path:
    """Put the artifact where it is wanted and return the path of the program there.

    Raises `UsageError` and `MissingError` when that place cannot be written.
    """
    from xenqemu.build import install_into_xen, install_to

    if destination.out is not None:
        return install_to(artifact, destination.out, ui)
    return install_into_xen(artifact, plan.request.options.layout, destination.destdir or Path("/"), ui)


@dataclass(frozen=True)
class BuildReport:
    """What came of a build: `facts` as JSON has them, and the same for JUnit XML and summaries."""

    facts: Mapping[str, object]
    results: Results


def report_build(plan: BuildPlan, binary: Path, seconds: float) -> BuildReport:
    """Return what came of `plan`, whose device model was delivered as `binary`."""
    inputs, cached, size = plan.inputs, plan.artifact is not None, binary.stat().st_size
    facts = {
        "binary": binary.absolute(),
        "key": plan.key,
        "cached": cached,
        "qemu": str(inputs.version),
        "xen": str(inputs.xen.version),
        "profile": inputs.profile,
        "size": size,
        "seconds": round(seconds, 1),
    }
    title = f"QEMU {inputs.version} for Xen {inputs.xen.version}, profile {inputs.profile}"
    message = f"{size / 1e6:.1f} MB{', built before' if cached else ''}"
    check = Check("build", title, message=message, seconds=seconds)
    shown = {"device model": str(binary), "patches": str(len(inputs.patches)), "artifact": plan.key}
    return BuildReport(facts, Results(f"build of {title}", (check,), seconds, shown))


def check_patches(qemu: QemuSource, state: StateDir, ui: Ui) -> CheckReport:
    """Check the series against a QEMU; see `xenqemu.series.check.check_series`."""
    return check_series(load_series(), obtain_qemu(qemu, state, ui), state, ui)


def export_patches(qemu: QemuSource, profile: str, folder: Path, state: StateDir, ui: Ui) -> tuple[Path, ...]:
    """Export the series for a QEMU, the target's files as its last patch; see `xenqemu.series.export`."""
    from xenqemu.series.export import export_series

    prepared = prepare_sources(qemu, profile, state, ui)
    return export_series(prepared.patched.base, prepared.target.commit, folder, state)


def checkout_patches(qemu: QemuSource, profile: str, folder: Path, state: StateDir, ui: Ui) -> Path:
    """Make a work tree of a QEMU with the series and the target; see `xenqemu.series.worktree.checkout_series`.

    It may be a QEMU that the series does not fit yet: topics that do not apply are left out, and that is said.
    """
    from xenqemu.series.worktree import checkout_series

    loaded = load_profile(profile)
    tree = obtain_qemu(qemu, state, ui)
    patched = apply_what_applies(load_series(), tree, state, ui)
    try:
        kind, commit = "target", add_target(patched, loaded, state, ui).commit
    except UsageError as error:
        ui.warn(f"left out, the target's files: {error.message}")
        kind, commit = "patched", patched.commit
    return checkout_series(kind, commit, tree.version, folder, state)


def refresh_patches(folder: Path, topic: str | None, split: bool, state: StateDir) -> tuple[RefreshedTopic, ...]:
    """Write a work tree's changes back into the series; see `xenqemu.series.worktree.refresh_series`.

    Raises `UsageError` when xenqemu was installed: its series is then a part of the installation.
    """
    from xenqemu.series.worktree import refresh_series

    if is_installed():
        raise UsageError(
            "the series of an installed xenqemu is not for editing", "run `patches refresh` of a checkout of xenqemu"
        )
    return refresh_series(load_series(), folder, state, topic=topic, split=split)


def describe_plan(plan: BuildPlan, state: StateDir) -> Mapping[str, object]:
    """Return the plan as plain data, for `build --dry-run` and its `--json`."""
    from xenqemu.build import configure_command

    return {
        "key": plan.key,
        "cached": plan.artifact is not None,
        "qemu": {"version": str(plan.inputs.version), "commit": plan.inputs.commit, "origin": dict(plan.inputs.origin)},
        "patches": [patch.file for patch in plan.inputs.patches],
        "profile": plan.inputs.profile,
        "xen": {"version": str(plan.inputs.xen.version), "origin": plan.inputs.xen.origin},
        "configure": shlex.join(configure_command(plan.inputs, plan.request.options, plan.key, state)),
    }


def obtain_qemu(qemu: QemuSource, state: StateDir, ui: Ui) -> QemuTree:
    """Return the pristine tree of a QEMU; see `xenqemu.source.obtain`."""
    from xenqemu.source import obtain

    return obtain(qemu, state, ui, supported_series=load_series().supported)
