"""The way through the house: each stage's result handed to the next. No other module knows more than one stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xenqemu.build.model import Artifact, BuildInput, BuildOptions, PatchRecord
from xenqemu.gitstore import GitStore
from xenqemu.series.apply import apply_series
from xenqemu.series.catalogue import load_series
from xenqemu.series.check import CheckReport, check_series
from xenqemu.series.model import PatchedTree
from xenqemu.source.model import QemuSource, QemuTree
from xenqemu.state import StateDir
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
    tree = _obtain(qemu, state, ui)
    patched = apply_series(load_series(), tree, state, ui)
    return Prepared(tree, patched, add_target(patched, profile, state, ui), profile)


def plan_build(request: BuildRequest, state: StateDir, ui: Ui) -> BuildPlan:
    """Do everything up to configure and return the plan; nothing outside the state directory is written.

    Raises what the stages before the build raise.
    """
    from xenqemu import xen
    from xenqemu.build import artifact_key, find_artifact, identify_compiler
    from xenqemu.target.flags import configure_arguments

    compiler = identify_compiler(request.options)
    prepared = prepare_sources(request.qemu, request.profile, state, ui)
    sdk = xen.locate(request.xen, state, ui, build_libs=request.build_xen_libs, jobs=request.options.jobs)
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
    return BuildPlan(request, inputs, key, find_artifact(key, state))


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


def check_patches(qemu: QemuSource, state: StateDir, ui: Ui) -> CheckReport:
    """Check the series against a QEMU; see `xenqemu.series.check.check_series`."""
    return check_series(load_series(), _obtain(qemu, state, ui), state)


def export_patches(qemu: QemuSource, profile: str, folder: Path, state: StateDir, ui: Ui) -> tuple[Path, ...]:
    """Export the series for a QEMU, the target's files as its last patch; see `xenqemu.series.export`."""
    from xenqemu.series.export import export_series

    prepared = prepare_sources(qemu, profile, state, ui)
    return export_series(prepared.patched.base, prepared.target.commit, folder, state)


def checkout_patches(qemu: QemuSource, profile: str, folder: Path, state: StateDir, ui: Ui) -> Path:
    """Make a work tree of a QEMU with the series and the target; see `xenqemu.series.worktree.checkout_series`."""
    from xenqemu.series.worktree import checkout_series

    prepared = prepare_sources(qemu, profile, state, ui)
    return checkout_series("target", prepared.target.commit, prepared.tree.version, folder, state)


def describe_plan(plan: BuildPlan) -> Mapping[str, object]:
    """Return the plan as plain data, for `build --dry-run` and its `--json`."""
    from xenqemu.build import configure_command

    return {
        "key": plan.key,
        "cached": plan.artifact is not None,
        "qemu": {"version": str(plan.inputs.version), "commit": plan.inputs.commit, "origin": dict(plan.inputs.origin)},
        "patches": [patch.file for patch in plan.inputs.patches],
        "profile": plan.inputs.profile,
        "xen": {"version": str(plan.inputs.xen.version), "origin": plan.inputs.xen.origin},
        "configure": list(configure_command(plan.inputs, plan.request.options, plan.key)),
    }


def _obtain(qemu: QemuSource, state: StateDir, ui: Ui) -> QemuTree:
    from xenqemu.source import obtain

    return obtain(qemu, state, ui, supported_series=load_series().supported)
