"""The stage itself: from a patched tree to an artifact in the state directory."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from xenqemu.build.compile import NINJA_STATUS, NinjaOutput
from xenqemu.build.compiler import choose_flags, identify_compiler
from xenqemu.build.configure import configure_argv, configure_error, console_script, no_space, source_folder
from xenqemu.build.distribute import LostHosts, distribute, local_environment
from xenqemu.build.environment import build_environment
from xenqemu.build.install import stage_tree
from xenqemu.build.key import artifact_key
from xenqemu.build.launcher import Statistics, engines, launcher_environment, server
from xenqemu.build.manifest import MANIFEST, dump_manifest, load_manifest, make_manifest, with_origin
from xenqemu.build.model import Artifact, BuildInput, BuildOptions, ChosenFlags, Compiler
from xenqemu.build.ninja_log import STEPS, dump_steps, read_ninja_log
from xenqemu.build.precompile import lead_to_header, precompile_header, precompiles
from xenqemu.build.recipe import load_recipe
from xenqemu.build.remote import remote_environment
from xenqemu.errors import BuildError, is_disk_full
from xenqemu.proc import CommandFailedError, run, stream
from xenqemu.state import StateDir, publish, write_atomic
from xenqemu.ui import Ui

LAST_USED = "last-used"
COMMIT = "commit"
TIMINGS = "timings.json"
STAMP = "configured.json"
FAMILY_LOCK = "family.lock"
_ORPHAN_SECONDS = 120


def lock_name(key: str) -> str:
    """Return the name of the lock that a build with `key` holds."""
    return f"build-{key}"


def find_artifact(key: str, state: StateDir) -> Artifact | None:
    """Return the finished artifact with `key`, or None when there is none or a file of it is gone or cut short.

    Its manifest tells of the build that made it: see `manifest.with_origin`.
    """
    path = state.artifacts / key
    manifest = load_manifest(path / MANIFEST)
    if manifest is None or manifest.get("key") != key:
        return None
    for output in manifest["outputs"]:
        try:
            if (path / "tree" / output["path"]).stat().st_size != output.get("size"):
                return None
        except (OSError, ValueError):
            return None
    with suppress(OSError):  # a shared cache may be readable only; whoever can write it prunes it
        (path / LAST_USED).touch()
    return Artifact(key, path, manifest)


def configure_command(inputs: BuildInput, options: BuildOptions, key: str, state: StateDir) -> tuple[str, ...]:
    """Return the command with which a build with `key` in `state` configures QEMU, without running it.

    Raises `MissingError` without a compiler, `UsageError` for what configure cannot take.
    """
    compiler = identify_compiler(options)
    flags = choose_flags(compiler, options, state).together
    return configure_argv(inputs, options, compiler, flags, state.builds / key / "build")


@contextmanager
def _disk_full_is_an_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise no_space(path) from error


def build(inputs: BuildInput, options: BuildOptions, state: StateDir, ui: Ui) -> Artifact:
    """Configure, compile and keep the device model that `inputs` and `options` describe; return it.

    An artifact with the same key is returned, with a manifest that tells of these inputs (`with_origin`). Two runs
    that want the same build wait for one another; one that was interrupted after its configure goes on where it
    stopped. The source tree is not written to.

    Raises `MissingError` (a compiler, a library, disk space), `BuildError` (configure, compile) and `UsageError`
    (flags or paths that QEMU's configure cannot take).
    """
    with _disk_full_is_an_error(state.root):
        compiler = identify_compiler(options)
        key = artifact_key(inputs, options, compiler)
        found = find_artifact(key, state)
        if found is None:
            with state.lock(lock_name(key), ui):
                found = find_artifact(key, state)  # another run may have built it meanwhile
                if found is None:
                    return _Run(key, inputs, options, compiler, state, ui).execute()
        return with_origin(found, inputs, options)


class _Run:
    """One run of a build that holds its lock."""

    def __init__(
        self, key: str, inputs: BuildInput, options: BuildOptions, compiler: Compiler, state: StateDir, ui: Ui
    ) -> None:
        self.key = key
        self.inputs = inputs
        self.options = options
        self.compiler = compiler
        self.state = state
        self.ui = ui
        self.work = state.builds / key
        self.build = self.work / "build"
        self.log = self.work / "build.log"
        self.timings: dict[str, dict[str, float]] = {}

    def execute(self) -> Artifact:
        self.work.mkdir(parents=True, exist_ok=True)
        write_atomic(self.work / COMMIT, self.inputs.commit.encode())  # keeps the tree from being pruned
        if not (self.inputs.tree / "configure").is_file():
            raise BuildError(f"there is no QEMU work tree at {self.inputs.tree}", "run the build again")
        self._wait_for_orphans()
        flags = choose_flags(self.compiler, self.options, self.state)
        environment = self._environment()
        command = configure_argv(self.inputs, self.options, self.compiler, flags.together, self.build)
        with server(self.compiler, environment) as environment:
            if self._configured() == list(command):
                self.ui.note("going on with the compile that was interrupted")
            else:
                with self.ui.step("configure"), self._timed("configure"):
                    self._configure(command, {**environment, **local_environment(self.options.offload)})
            with self._timed("compile"):
                self._compile(environment)
        with self.ui.step("install"):
            artifact = self._publish(flags)
        if not self.options.keep_build:
            shutil.rmtree(self.work, ignore_errors=True)
        return artifact

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Keep the wall clock and processor seconds (children included) that a phase took."""
        usage, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        own = time.process_time()
        yield
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime + time.process_time() - own
        self.timings[phase] = {"wall": round(time.monotonic() - wall, 2), "cpu": round(cpu, 2)}

    def _environment(self) -> dict[str, str]:
        folder = self.work / "pkgconfig"
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in self.inputs.pkg_config_files.items():
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")
        environment = build_environment(
            self.options.environment,
            (folder,) if self.inputs.pkg_config_files else (),
            library_dirs=self.inputs.xen.library_dirs,
        )
        # QEMU 7.2's configure wants a Python for its own scripts, and takes --python for a reason to refuse --meson.
        environment["PYTHON"] = sys.executable
        environment["NINJA_STATUS"] = NINJA_STATUS
        environment |= launcher_environment(self.compiler, self.work, environment)
        return environment | remote_environment(self.compiler, self.options.offload, environment, self.ui)

    def _guarded(self, *argv: str) -> tuple[str, ...]:
        """Return `argv` as a command whose whole family of processes holds the lock of the build directory.

        A killed xenqemu takes its child along (`proc.stream`), but not the child's children: the meson that
        configure's shell runs, ninja's compilers. `flock --no-fork` hands the lock down to all of them,
        shared: a compiler server that one command started keeps it, and must not keep the next command waiting.
        """
        if shutil.which("flock") is None:
            return argv
        return ("flock", "--shared", "--no-fork", str(self.work / FAMILY_LOCK), *argv)

    def _wait_for_orphans(self) -> None:
        """Wait until no process of an earlier, killed run works in the build directory."""
        with (self.work / FAMILY_LOCK).open("ab") as file:
            deadline = time.monotonic() + _ORPHAN_SECONDS
            said = False
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not said:
                        self.ui.note("waiting for what is left of an interrupted build to end")
                        said = True
                    if time.monotonic() > deadline:
                        # A compiler server (sccache, distcc's pump) started by that build may live on with the lock.
                        self.ui.warn(f"processes of an earlier build still run in {self.work}; going on")
                        return
                    time.sleep(0.05)
                else:
                    return

    def _configured(self) -> list[str] | None:
        try:
            stamp = json.loads((self.work / STAMP).read_bytes())
        except (OSError, ValueError):
            return None
        return stamp.get("command") if isinstance(stamp, dict) and (self.build / "build.ninja").is_file() else None

    def _configure(self, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        (self.work / STAMP).unlink(missing_ok=True)
        shutil.rmtree(self.build, ignore_errors=True)
        self._link_source()
        self.build.mkdir()
        self.log.unlink(missing_ok=True)
        lines: list[str] = []
        code = stream(self._guarded("sh", *command), lines.append, cwd=self.build, env=environment, log=self.log)
        if code != 0:
            raise configure_error(lines, self.log, self.build)
        write_atomic(self.work / STAMP, json.dumps({"command": list(command)}, indent=1).encode())

    def _link_source(self) -> None:
        """Make `src` beside `build` a copy of the tree, of hard links where the file system has them.

        With it every build sees its sources as `../src`, so that a compiler cache knows a file that did not change
        since another commit; and meson's lock file in `subprojects` does not get into the tree.
        """
        source = source_folder(self.build)
        shutil.rmtree(source, ignore_errors=True)
        try:
            run(("cp", "-al", self.inputs.tree, source))
        except CommandFailedError:
            shutil.rmtree(source, ignore_errors=True)
            shutil.copytree(self.inputs.tree, source, symlinks=True)

    def _precompile(self, environment: Mapping[str, str]) -> None:
        recipe = load_recipe()
        argv = self._guarded(str(console_script("ninja")), "-C", str(self.build), *recipe.precompiled_needs)
        if stream(argv, lambda line: None, cwd=self.build, env=environment, log=self.log) == 0:
            precompile_header(source_folder(self.build), self.build, environment, self.log, self._guarded)

    def _compile(self, environment: Mapping[str, str]) -> None:
        work = distribute(self.compiler, self.options.offload, self.work, environment, self.state, self.ui)
        if precompiles(self.compiler) and (work.engine or not set(engines()).isdisjoint(self.compiler.launchers)):
            # The engines preprocess without a precompiled header.
            lead_to_header(source_folder(self.build), self.build)
        elif precompiles(self.compiler):
            with self.ui.step("precompile the common header"):
                self._precompile(environment)
        argv = [str(console_script("ninja")), "-C", str(self.build), load_recipe().ninja_target]
        jobs = self.options.jobs or work.jobs
        if jobs is not None:
            argv.append(f"-j{jobs}")
        lost, statistics = LostHosts(work, self.ui), Statistics(self.compiler, environment)
        with self.ui.progress("compile") as progress:
            output = NinjaOutput(progress)

            def on_line(line: str) -> None:
                output.feed(line)
                lost.look()

            code = stream(self._guarded(*argv), on_line, cwd=self.build, env=work.environment, log=self.log)
            lost.look()
            if code != 0:
                if any("No space left on device" in line for line in (*output.message, output.last)):
                    raise no_space(self.build)
                raise output.error(self.log, source_folder(self.build))
        statistics.tell(self.ui)

    def _publish(self, flags: ChosenFlags) -> Artifact:
        destination = self.state.artifacts / self.key
        with self.state.scratch("artifact") as folder:
            result = folder / "result"
            tree = result / "tree"
            tree.mkdir(parents=True)
            with self._timed("install"):
                stage_tree(self.inputs, self.options, self.build, tree)
                manifest = make_manifest(self.key, self.inputs, self.options, self.compiler, flags, tree, self.build)
            (result / MANIFEST).write_bytes(dump_manifest(manifest))
            shutil.copyfile(self.log, result / "build.log")
            (result / TIMINGS).write_text(json.dumps(self.timings, indent=1) + "\n", encoding="utf-8")
            (result / STEPS).write_bytes(dump_steps(read_ninja_log(self.build)))
            (result / LAST_USED).touch()
            for path in (result, *(p for p in result.rglob("*") if p.is_dir())):
                path.chmod(0o755)
            os.sync()
            if destination.exists():
                # What find_artifact did not accept: a file of it is gone or cut short.
                destination.rename(folder / "damaged")
            publish(result, destination)
        return Artifact(self.key, destination, manifest)
