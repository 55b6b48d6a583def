"""From a finished build directory to the tree that is kept: the program, what it opens, Xen's libraries."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from xenqemu.build.hardening import inspect_elf
from xenqemu.build.key import bundles_libraries
from xenqemu.build.model import PROGRAM, BuildInput, BuildOptions
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import BuildError, MissingError
from xenqemu.proc import CommandFailedError, run
from xenqemu.xen.model import XenSdk


def stage_tree(inputs: BuildInput, options: BuildOptions, build: Path, tree: Path) -> None:
    """Fill the empty folder `tree` with what the build in `build` made.

    QEMU's own install target is not used: it also brings icons, desktop files and trace descriptions, and builds
    keymaps anew where the machine happens to have a qemu-keymap (pc-bios/keymaps/meson.build), so that its result
    depends on the machine. The keymaps in the source tree are the same everywhere.

    Raises `BuildError` when the program is missing or is linked against another Xen than the one that was asked for.
    """
    program = build / PROGRAM
    if not program.is_file():
        raise BuildError(f"the compile left no {PROGRAM} in {build}", "does the target list name the xen-dm target?")
    layout = options.layout
    target = tree / layout.program
    target.parent.mkdir(parents=True)
    place(program, target, 0o755)
    _strip(target, keep_debug_info=options.debug_info)
    for folder in load_recipe().data:
        base = build if folder.built else inputs.tree
        for file in sorted((base / folder.source).glob(folder.files)):
            if file.is_file() and file.name not in folder.exclude:
                place(file, tree / layout.data / folder.target / file.name, 0o644)
    check_xen(target, inputs.xen)
    if bundles_libraries(inputs, options):
        for soname, file in needed_libraries(target, inputs.xen):
            place(file, tree / layout.libraries / soname, 0o644)
            _run_binutils(("strip", "--strip-unneeded", tree / layout.libraries / soname))


def _strip(program: Path, *, keep_debug_info: bool) -> None:
    """Take symbols and debug information out of `program`; keep them in `program.debug` beside it, compressed.

    Debuggers find that file by name and checksum (.gnu_debuglink; "Separate Debug Files" in GDB's manual), and what
    runs in dom0 is the same program with debug information and without.
    """
    aside = program.with_name(f"{program.name}.debug")
    commands: list[tuple[str | Path, ...]] = [("strip", program)]
    if keep_debug_info:
        commands.insert(0, ("objcopy", "--only-keep-debug", "--compress-debug-sections=zlib", program, aside))
        commands.append(("objcopy", f"--add-gnu-debuglink={aside}", program))
    for command in commands:
        _run_binutils(command)
    if keep_debug_info:
        aside.chmod(0o644)


def _run_binutils(command: Sequence[str | Path]) -> None:
    try:
        run(command)
    except CommandFailedError as error:
        raise BuildError(
            f"{command[0]} failed on {Path(command[-1]).name}: {error.completed.stderr.strip()}"
        ) from error


def place(source: Path, target: Path, mode: int) -> None:
    """Copy the file `source` to `target`, whose folder is made, with that mode. Raises `OSError`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def check_xen(program: Path, sdk: XenSdk) -> None:
    """Raise `BuildError` when `program` needs a library of Xen that is none of those of `sdk`."""
    asked = {library.soname for library in sdk.libraries}
    others = [name for name in inspect_elf(program).needed if name.startswith("libxen") and name not in asked]
    for name in others:
        if _locate(name, sdk) is None:
            raise BuildError(
                f"{PROGRAM} was linked against {name}, which does not belong to the Xen at {sdk.location}",
                "look for -L flags of another Xen in LDFLAGS",
            )


def _locate(soname: str, sdk: XenSdk) -> Path | None:
    """Return the file of the Xen library `soname`, which may be one that QEMU itself does not link with."""
    for library in sdk.libraries:
        if library.soname == soname:
            return library.path
    folders = (*sdk.library_dirs, *(library.path.parent for library in sdk.libraries))
    return next((folder / soname for folder in folders if (folder / soname).is_file()), None)


def needed_libraries(program: Path, sdk: XenSdk) -> Iterator[tuple[str, Path]]:
    """Yield SONAME and file of every library of `sdk` that `program` needs, directly or through another of them.

    Raises `MissingError` when one is not there.
    """
    seen: set[str] = set()
    waiting = [program]
    while waiting:
        user = waiting.pop()
        for name in inspect_elf(user).needed:
            if name in seen or not name.startswith("libxen"):
                continue
            seen.add(name)
            file = _locate(name, sdk)
            if file is None:
                raise MissingError(
                    f"{user.name} needs {name}, which is not among the libraries of the Xen at {sdk.location}",
                    "install or build all of that Xen's tools/libs",
                )
            waiting.append(file)
            yield name, file
