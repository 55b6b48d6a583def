"""Running QEMU's `configure`: its arguments, and what its failures mean."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from xenqemu.build.environment import flag_words
from xenqemu.build.key import bundles_libraries
from xenqemu.build.model import BuildInput, BuildOptions, Compiler, Flags
from xenqemu.build.precompile import PRECOMPILED_FLAGS, precompiles
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import BuildError, MissingError, UsageError, XenqemuError

_NO_SPACE = "No space left on device"
_ERROR = re.compile(r"(?:^|\s)ERROR: +(?P<text>.+)$")
_PLACE = re.compile(r"meson\.build:\d+:\d+: ERROR: ")
_DEPENDENCY = re.compile(r"""(?:Dependency|dependency|C shared or static library|Program) ['"](?P<name>[^'"]+)['"]""")
_REQUIRED = re.compile(r"^(?P<name>[\w.+-]+?)(?:-\d+(?:\.\d+)*)? .*(?:is|are) required")


def console_script(name: str) -> Path:
    """Return the path of the program `name` (`meson`, `ninja`) that the Python package of that name installed.

    It is asked of the package rather than of PATH: another meson there may be too old for QEMU, or too new for the
    Python that runs it. Raises `MissingError`.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        package = distribution(name)
    except PackageNotFoundError as error:
        raise MissingError(f"{name} is not installed beside xenqemu", f"install it: pip install {name}") from error
    for file in package.files or ():
        if file.name == name and file.parent.name in ("bin", "Scripts"):
            return Path(str(file.locate())).resolve()
    beside = Path(sys.executable).parent / name
    if beside.is_file():
        return beside
    raise MissingError(f"the package {name} is installed without its program", f"reinstall it: pip install -I {name}")


def check_paths(paths: Sequence[Path]) -> None:
    """Refuse paths that QEMU's configure refuses (white space, colon) or that would fall apart in its flags."""
    for path in paths:
        if re.search(r"[\s:'\"$`\\=,]", str(path)):
            raise UsageError(
                f"QEMU cannot be built in or with the folder '{path}': its path has a space or a special character",
                "choose another state directory (--state-dir) or Xen without such characters in the path",
            )


def source_folder(build: Path) -> Path:
    """Return where a build in the folder `build` has its copy of the source tree."""
    return build.parent / "src"


def prefix_maps(build: Path, xen: Sequence[Path]) -> tuple[str, ...]:
    """Return the flags that keep the machine's paths out of the binary (`__FILE__`, debug information).

    Meson names sources relative to the build directory and some include directories absolutely, so both forms of
    the tree are mapped. gcc and clang use the last map that matches, so that inner folders come last.
    """
    tree = source_folder(build)
    relative = os.path.relpath(tree, build)
    pairs = [(str(folder), f"/usr/src/xen/{number}") for number, folder in enumerate(xen)]
    pairs += [(relative, "/usr/src/qemu"), (str(tree), "/usr/src/qemu"), (str(build), "/usr/src/qemu/build")]
    return tuple(f"-ffile-prefix-map={old}={new}" for old, new in pairs)


def link_paths(inputs: BuildInput, options: BuildOptions) -> tuple[str, ...]:
    """Return the linker flags with which the program finds bundled libraries from wherever its tree is.

    DT_RPATH and not DT_RUNPATH: Xen's libraries need one another, and only the former is also searched for the
    needs of needed libraries (ld.so(8)), and before LD_LIBRARY_PATH. Two Xens on one machine must not mix.
    """
    if not bundles_libraries(inputs, options):
        return ()
    layout = options.layout
    up = "/".join([".."] * len(layout.program.parent.parts))
    return ("-Wl,--disable-new-dtags", f"-Wl,-rpath,$ORIGIN/{up}/{layout.libraries}")


def configure_argv(
    inputs: BuildInput, options: BuildOptions, compiler: Compiler, flags: Flags, build: Path
) -> tuple[str, ...]:
    """Return the whole command that configures the copy of `inputs.tree` beside the folder `build`.

    What the user says comes after what this stage says, and so wins where the two contradict.
    """
    recipe = load_recipe()
    names = {"python": sys.executable, "meson": str(console_script("meson")), "ninja": str(console_script("ninja"))}
    xen = (*inputs.xen.include_dirs, *inputs.xen.library_dirs)
    check_paths((build, *xen, *(Path(name) for name in names.values())))
    cflags = (
        *prefix_maps(build, inputs.xen.include_dirs),
        *flags.compile,
        *(PRECOMPILED_FLAGS if precompiles(compiler) else ()),
        *inputs.xen_compile_flags,
        *flag_words(options.environment, "CFLAGS"),
    )
    ldflags = (
        *flags.link,
        *inputs.xen_link_flags,
        *link_paths(inputs, options),
        *flag_words(options.environment, "LDFLAGS"),
    )
    layout = options.layout
    return (
        str(source_folder(build) / "configure"),
        *(template.format(**names) for template in recipe.tool_arguments(inputs.version)),
        f"--cc={' '.join(compiler.argv)}",
        f"--prefix={layout.prefix}",
        f"--bindir={layout.bindir}",
        f"--datadir={layout.datadir}",
        f"--with-pkgversion={recipe.pkgversion}",
        "--enable-debug-info" if options.debug_info else "--disable-debug-info",
        *recipe.arguments,
        *flags.configure,
        *inputs.configure_arguments,
        f"--extra-cflags={' '.join(cflags)}",
        f"--extra-ldflags={' '.join(ldflags)}",
    )


def no_space(path: Path) -> MissingError:
    """Return the error for a full disk, `path` being what was written."""
    return MissingError(
        f"no space is left on the device of {path}",
        "free some (`xenqemu cache prune` helps) or choose another --state-dir, then run again: it goes on from here",
    )


def configure_error(lines: Sequence[str], log: Path, build: Path) -> XenqemuError:
    """Return what went wrong in a failed configure, from the `lines` that it said.

    Meson names the place and says `ERROR: Dependency "x" not found`, QEMU's own configure `ERROR: ...` with more
    lines below. Missing libraries and programs are a `MissingError` with the Debian package where it is known.
    """
    if any(_NO_SPACE in line for line in lines):
        return no_space(build)
    errors = [match for match in map(_ERROR.search, lines) if match]
    # Meson names the place of what stops it; other lines with ERROR can be about what it could do without.
    errors.sort(key=lambda match: _PLACE.search(match.string) is None)
    text = errors[0]["text"] if errors else ""
    if not text:
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return BuildError(f"configure failed: {last.strip()}", f"the whole output is in {log}")
    match = _DEPENDENCY.search(text) or _REQUIRED.search(text)
    package = load_recipe().package_of(match["name"]) if match else None
    if match and (package or "not found" in text or "required" in text):
        hint = f"apt install {package}; the whole output is in {log}" if package else f"the whole output is in {log}"
        return MissingError(f"configure misses something: {text}", hint)
    return BuildError(f"configure failed: {text}", f"the whole output is in {log}")
