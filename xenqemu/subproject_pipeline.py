"""From what Xen's build asks of a subproject's folder to the stages of a build."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xenqemu.build.deliver import link_beside
from xenqemu.build.model import BuildOptions, Layout
from xenqemu.errors import MissingError, UsageError
from xenqemu.gitstore import GitStore
from xenqemu.pipeline import BuildPlan, BuildRequest, Destination, carry_out, deliver, plan_build, prepare_sources
from xenqemu.state import StateDir
from xenqemu.subproject.flags import check_features, read_flags
from xenqemu.subproject.folder import read_build, spoil_build, write_build, write_subproject
from xenqemu.subproject.model import ALIAS, Configured, Subproject
from xenqemu.ui import Ui
from xenqemu.xen import inspect

# Where `case` labels of QEMU's configure are; the second is generated from meson_options.txt.
_CONFIGURE_SCRIPTS = ("configure", "scripts/meson-buildoptions.sh")
_SYSTEM = "system"
_BACKENDS = "--enable-trace-backends="


def create(folder: Path, subproject: Subproject, state: StateDir, ui: Ui) -> None:
    """Make `folder` a QEMU source for Xen's build.

    The QEMU is obtained, patched and given its target first: what is wrong with it comes up here, and Xen's build
    needs no network for it. Raises what those stages raise, and `UsageError` when the folder cannot be written.
    """
    prepared = prepare_sources(subproject.qemu, subproject.profile, state, ui)
    backends = [
        name
        for flag in prepared.profile.options_for(prepared.tree.version)
        if flag.startswith(_BACKENDS)
        for name in flag.removeprefix(_BACKENDS).split(",")
        if name != "nop"  # which is what there is without any
    ]
    write_subproject(folder, subproject, backends, _command(subproject.state_dir))


def configure(
    source: Path, words: Sequence[str], subproject: Subproject, options: BuildOptions, state: StateDir, ui: Ui
) -> Configured:
    """Do what QEMU's configure does for Xen's build: make the current folder one that `make` runs in.

    `source` is the subproject's folder, `words` the command line. Xen is the tree whose tools/pkg-config is in
    PKG_CONFIG_PATH, where Xen's build puts it, else the system's. Everything up to the compile is checked. Raises
    `UsageError` for flags that cannot be met, and what `plan_build` raises.
    """
    spoil_build(Path.cwd())
    asked = read_flags(words)
    for remark in asked.remarks:
        ui.note(remark)
    prepared = prepare_sources(subproject.qemu, subproject.profile, state, ui)
    with GitStore.open(state).index(prepared.target.commit) as index:
        check_features(asked.features, [index.read(path) or "" for path in _CONFIGURE_SCRIPTS])
    where = _xen(os.environ)
    if where != _SYSTEM and inspect(where, state).sdk is None:
        raise MissingError(
            f"the libraries of the Xen at {where} are not built yet",
            "make -C tools subdir-all-include subdir-all-libs, as Xen's own build does before it comes here",
        )
    configured = write_build(Path.cwd(), source, asked, where, _command(subproject.state_dir))
    plan = _plan(configured, options, state, ui)
    ui.note(f"configured: QEMU {plan.inputs.version}, Xen {plan.inputs.xen.version}, profile {plan.inputs.profile}")
    return configured


def make(folder: Path, options: BuildOptions, state: StateDir, ui: Ui, install: Path | None = None) -> Path | None:
    """Build what `folder` was configured for, and install it below `install` (DESTDIR), if that is given.

    Beside the program goes a link by the name that libxl starts where a VM config names no device model. Returns the
    installed program. Raises what the stages of a build raise.
    """
    configured = read_build(folder)
    plan = _plan(configured, options, state, ui)
    artifact = carry_out(plan, state, ui)
    if install is None:
        return None
    program = deliver(artifact, plan, Destination(destdir=install), ui)
    link_beside(program, ALIAS)
    return program


def _plan(configured: Configured, options: BuildOptions, state: StateDir, ui: Ui) -> BuildPlan:
    asked = configured.asked
    flags = {"CFLAGS": asked.cflags, "LDFLAGS": asked.ldflags}
    joined = {name: f"{options.environment.get(name, '')} {text}".strip() for name, text in flags.items()}
    environment = dict(options.environment)
    changed = replace(
        options,
        debug_info=asked.debug_info or options.debug_info,
        layout=_layout(configured),
        environment=environment | {name: text for name, text in joined.items() if text},
    )
    request = BuildRequest(configured.subproject.qemu, configured.xen, configured.profile, changed)
    return plan_build(request, state, ui)


def _layout(configured: Configured) -> Layout:
    asked = configured.asked
    base = asked.prefix.rstrip("/")
    # QEMU appends its own name to --datadir, as Xen's build knows (SHAREDIR/qemu-xen/qemu).
    return Layout(
        prefix=asked.prefix,
        bindir=asked.bindir or f"{base}/bin",
        datadir=asked.datadir or f"{base}/share",
        bundle_libraries=False,
    )


def _xen(environ: Mapping[str, str]) -> str:
    """Return the Xen whose build this is a part of: its tree, or `system`."""
    for text in environ.get("PKG_CONFIG_PATH", "").split(":"):
        folder = Path(text)
        if folder.parts[-2:] == ("tools", "pkg-config") and (folder.parents[1] / "xen" / "Makefile").is_file():
            return str(folder.parents[1].resolve())
    return _SYSTEM


def _command(state_dir: Path | None) -> tuple[str, ...]:
    """Return the words that run this xenqemu, whatever PATH there is then."""
    program = Path(sys.executable).with_name("xenqemu")
    if not program.is_file():
        raise UsageError(f"there is no {program}", "install xenqemu into that Python's environment")
    chosen = () if state_dir is None else ("--state-dir", str(state_dir.absolute()))
    return (str(program), *chosen)


def describe(subproject: Subproject, folder: Path) -> Mapping[str, object]:
    """Return the folder and the command of Xen's build that uses it, for people and as JSON."""
    place = shlex.quote(str(folder.absolute()))
    return {
        "folder": str(folder.absolute()),
        "profile": subproject.profile,
        "next": f"make -C tools subdir-install-qemu-xen-dir QEMU_UPSTREAM_LOC={place}",
    }
