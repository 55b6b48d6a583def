"""xenqemu from Python: the stages of a build, the rewriting of VM configs and the lab, with what they hand on.

`import xenqemu` gives everything in `__all__`; what does the work is imported when it is used. Errors are those of
`xenqemu.errors`, with a message, a hint and the exit code that the command line has for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.build.model import Artifact, BuildOptions
from xenqemu.lab.result import Report
from xenqemu.series.model import PatchedTree
from xenqemu.settings import resolve
from xenqemu.source.model import QemuSource, QemuTree
from xenqemu.state import StateDir
from xenqemu.target.tree import TargetTree
from xenqemu.ui import QuietUi, Ui
from xenqemu.vm.result import FileResult
from xenqemu.xen.model import XenSdk


def default_state_dir() -> Path:
    """Return the state directory that the command line would use here: see `xenqemu config show`."""
    return resolve({}).state_dir


@dataclass(frozen=True)
class Workspace:
    """A state directory and somebody to tell of progress: what every stage needs.

    `ui` is told what happens: `QuietUi` (the default) shows warnings only, `PlainUi` lines on stderr. Any number of
    workspaces, and of command lines, can use one state directory at once. Methods raise `XenqemuError`s.
    """

    state_dir: Path = field(default_factory=default_state_dir)
    ui: Ui = field(default_factory=QuietUi)

    # ---- one stage after the other ----

    def obtain(self, qemu: str | QemuSource = "distro") -> QemuTree:
        """Return the pristine tree of a QEMU, named as `xenqemu build --qemu` takes it."""
        from xenqemu.pipeline import obtain_qemu

        with self._using() as state:
            return obtain_qemu(_source(qemu), state, self.ui)

    def patch(self, tree: QemuTree) -> PatchedTree:
        """Return `tree` with the xen-dm series applied; `PatchError` when a patch does not apply."""
        from xenqemu.series.apply import apply_series
        from xenqemu.series.catalogue import load_series

        with self._using() as state:
            return apply_series(load_series(), tree, state, self.ui)

    def add_target(self, patched: PatchedTree, profile: str = "hvm") -> TargetTree:
        """Return `patched` with the files of the target for `profile`, a name or the path of a profile file."""
        from xenqemu.target.profile import load_profile
        from xenqemu.target.tree import add_target

        with self._using() as state:
            return add_target(patched, load_profile(profile), state, self.ui)

    def locate_xen(self, where: str = "system", *, build_libs: bool = False) -> XenSdk:
        """Return headers and libraries of a Xen, named as `xenqemu build --xen` takes it."""
        from xenqemu import xen

        with self._using() as state:
            return xen.locate(where, state, self.ui, build_libs=build_libs)

    # ---- all of it ----

    def build(
        self,
        qemu: str | QemuSource = "distro",
        xen: str = "system",
        profile: str = "hvm",
        options: BuildOptions | None = None,
        *,
        build_xen_libs: bool = False,
    ) -> Artifact:
        """Return the device model of these, built unless it was before; its `binary` can be started where it is."""
        from xenqemu.pipeline import BuildRequest, carry_out, plan_build

        request = BuildRequest(_source(qemu), xen, profile, options or BuildOptions(), build_xen_libs)
        with self._using() as state:
            return carry_out(plan_build(request, state, self.ui), state, self.ui)

    def install(self, artifact: Artifact, out: Path) -> Path:
        """Put what `artifact` consists of into the folder `out` and return the path of the program there."""
        from xenqemu.build import install_to

        with self._using():
            return install_to(artifact, out, self.ui)

    def use(self, device_model: Path, *configs: Path, dry_run: bool = False) -> tuple[FileResult, ...]:
        """Point VM configs at a device model, as `xenqemu vm use` does; what came of each is in its result."""
        from xenqemu.vm.binary import choose_binary
        from xenqemu.vm.use import UseRequest, use

        with self._using() as state:
            return use(UseRequest(choose_binary(state, named=device_model), configs, dry_run=dry_run), state, self.ui)

    def boot(
        self, *configs: Path, device_model: Path | None = None, xen: str | None = None, timeout: float | None = None
    ) -> Report:
        """Boot VM configs as they stand in a virtual Xen host, and return what came of each guest.

        `device_model` None is the one that each config names, else the newest; `xen` (`4.17`, or the path of a built
        Xen tree) None is the one that it is linked against; `timeout` is in seconds for each guest. A guest that does
        not boot is a result; `LabError` is raised when the host does not come up.
        """
        from xenqemu.boot_pipeline import BootRequest, boot_configs

        request = BootRequest(device_model, xen, timeout)
        with self._using() as state, boot_configs(configs, request, state, self.ui) as booted:
            return booted.report

    def boot_cases(
        self, *names: str, device_model: Path | None = None, xen: str | None = None, timeout: float | None = None
    ) -> Report:
        """Boot the lab's own guests called `names` (cases or groups; default: the basic ones); see `boot`."""
        from xenqemu.boot_pipeline import BootRequest, boot_cases
        from xenqemu.lab.cases import BASIC, find_cases

        request = BootRequest(device_model, xen, timeout)
        with self._using() as state, boot_cases(find_cases(names or (BASIC,)), request, state, self.ui) as booted:
            return booted.report

    @contextmanager
    def _using(self) -> Iterator[StateDir]:
        """Enter the state directory, made if it is not there; nothing in it is pruned meanwhile."""
        state = StateDir(self.state_dir).create()
        with state.using(self.ui):
            yield state


def _source(qemu: str | QemuSource) -> QemuSource:
    from xenqemu.source import parse_source

    return parse_source(qemu) if isinstance(qemu, str) else qemu
