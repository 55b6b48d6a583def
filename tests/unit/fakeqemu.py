"""A tiny imitation of a QEMU tree: its configure writes a build.ninja that compiles three C files into the program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from packaging.version import Version

from xenqemu.build.model import BuildInput, BuildOptions, PatchRecord
from xenqemu.state import StateDir
from xenqemu.xen.model import XenLibrary, XenSdk

COMMIT = "c0ffee" + "0" * 34

# `control/` in the tree steers it: hold-configure and hold-compile make it wait as long as they exist, fail-configure
# is said before it fails; at-configure and at-compile are written when it gets there.
CONFIGURE = r"""
tree=$(cd "$(dirname "$0")" && pwd)
control=TREE/control
for word; do
    value=${word#*=}
    case $word in
        --cc=*) cc=$value ;;
        --extra-cflags=*) cflags=$value ;;
        --extra-ldflags=*) ldflags=$value ;;
        --with-pkgversion=*) define="-DPKGVERSION='\"$value\"'" ;;
    esac
done
echo "fake configure: $PKG_CONFIG_PATH"
printf '%s\n' "$@" > arguments
env > environment
echo x >> "$control/configured"
touch "$control/at-configure"
while [ -e "$control/hold-configure" ]; do sleep 0.02; done
if [ -e "$control/fail-configure" ]; then cat "$control/fail-configure"; exit 1; fi
quoted=
for word in $ldflags; do quoted="$quoted '$word'"; done
quoted=$(printf '%s' "$quoted" | sed 's/\$/$$/g')
src=$(realpath --relative-to=. "$tree")
{
    echo "rule cc"
    echo "  command = $cc -O2 -fPIE -I$src $define $cflags -c \$in -o \$out"
    echo "  description = Compiling C object \$out"
    echo "rule wait"
    echo "  command = echo x >> $control/compiled; touch $control/at-compile;" \
        "while [ -e $control/hold-compile ]; do sleep 0.02; done; touch \$out"
    echo "  description = Generating \$out"
    echo "rule rom"
    echo "  command = echo rom > \$out"
    echo "rule link"
    echo "  command = $cc -pie -o \$out \$in $quoted"
    echo "  description = Linking target \$out"
    for name in main first second; do echo "build $name.o: cc $src/$name.c | gate"; done
    echo "build gate: wait"
    echo "build qemu-system-xen: link main.o first.o second.o"
    echo "build pc-bios/xen-dm/linuxboot.bin: rom"
    echo "build xen-dm: phony qemu-system-xen pc-bios/xen-dm/linuxboot.bin"
} > build.ninja.new
mv build.ninja.new build.ninja
"""

MAIN = r"""
#include <stdio.h>
#include <string.h>
const char *first(void);
const char *second(int);
#ifdef WITH_XEN
int xc_answer(void);
#else
static int xc_answer(void) { return 0; }
#endif
int main(int argc, char **argv)
{
    char copy[32];
    strncpy(copy, argv[argc - 1], sizeof(copy) - 1);
    copy[sizeof(copy) - 1] = 0;
    printf("%s %s %s %s %d\n", __FILE__, PKGVERSION, first(), second(argc), xc_answer());
    return copy[0] == 0;
}
"""


def other_source() -> str:
    """A C file with enough functions that landing pads are no accident."""
    functions = "\n".join(f"int f{number}(int x) {{ return x * {number}; }}" for number in range(40))
    table = ", ".join(f"f{number}" for number in range(40))
    return (
        f"{functions}\ntypedef int (*function)(int);\nfunction table[] = {{ {table} }};\n"
        'const char *second(int n) { return table[n % 40](n) == 7 ? "seven" : __FILE__; }\n'
    )


def make_tree(state: StateDir, commit: str = COMMIT) -> Path:
    """Write the imitation where the state directory keeps the work tree of `commit`."""
    tree = state.trees / commit
    for folder in ("control", "pc-bios/keymaps", "subprojects"):
        (tree / folder).mkdir(parents=True)
    (tree / "configure").write_text(CONFIGURE.replace("TREE", str(tree)))
    (tree / "main.c").write_text(MAIN)
    (tree / "first.c").write_text("const char *first(void) { return __FILE__; }\n")
    (tree / "second.c").write_text(other_source())
    (tree / "pc-bios/keymaps/de").write_text("map 0x407\n")
    (tree / "pc-bios/keymaps/meson.build").write_text("keymaps = {}\n")
    return tree


SYSTEM_XEN = XenSdk("system", "system", Version("4.17"), (), (), ())


def fake_input(state: StateDir, commit: str = COMMIT, xen: XenSdk = SYSTEM_XEN, version: str = "10.2.2") -> BuildInput:
    """What the build stage gets for the imitation."""
    return BuildInput(
        tree=state.trees / commit,
        commit=commit,
        version=Version(version),
        origin={"kind": "directory", "location": "/somewhere"},
        patches=(PatchRecord("010-target", "010-target/7.2.patch", "1" * 64),),
        target_files=(("configs/targets/xen-dm-softmmu.mak", "2" * 64),),
        profile="hvm",
        profile_sha256="3" * 64,
        configure_arguments=("--target-list=xen-dm-softmmu", "--without-default-features"),
        xen=xen,
    )


def make_xen(folder: Path) -> XenSdk:
    """Compile a Xen of two libraries, one of which only the other needs."""
    library_dir, include = folder / "lib", folder / "include"
    for path in (library_dir, include):
        path.mkdir(parents=True)
    (include / "xenctrl.h").write_text("int xc_answer(void);\n")
    libraries = []
    for name, soname, source, flags in (
        ("xentoollog", "libxentoollog.so.1", "int xtl_answer(void) { return 42; }", ()),
        (
            "xenctrl",
            "libxenctrl.so.4.99",
            "int xtl_answer(void); int xc_answer(void) { return xtl_answer(); }",
            (f"-L{library_dir}", "-lxentoollog"),
        ),
    ):
        file = library_dir / soname
        argv = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(file), "-x", "c", "-", *flags]
        subprocess.run(argv, input=source.encode(), check=True)
        (library_dir / f"lib{name}.so").symlink_to(soname)
        if name == "xenctrl":
            libraries.append(XenLibrary(name, soname, file, sha256(file.read_bytes()).hexdigest()))
    return XenSdk("prefix", str(folder), Version("4.99"), (include,), (library_dir,), tuple(libraries))


def xen_input(state: StateDir, sdk: XenSdk) -> BuildInput:
    """The imitation, linked against `sdk`."""
    flags = (f"-L{sdk.library_dirs[0]}", f"-Wl,-rpath-link={sdk.library_dirs[0]}", "-lxenctrl")
    return replace(
        fake_input(state, xen=sdk),
        xen_compile_flags=(f"-I{sdk.include_dirs[0]}", "-DWITH_XEN"),
        xen_link_flags=flags,
        pkg_config_files={"xencontrol.pc": "Name: xencontrol\n"},
    )


OPTIONS = BuildOptions(environment={})

_DRIVER = """
import os, sys
from pathlib import Path
from tests.unit.fakeqemu import OPTIONS, fake_input
from xenqemu.build import build
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi
state = StateDir(Path(sys.argv[1]))
exec(sys.argv[2])
print(build(fake_input(state), OPTIONS, state, PlainUi()).binary)
"""


def start_build(state: StateDir, before: str = "", env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a build of the imitation in a process of its own, which runs the Python code `before` first."""
    argv: Sequence[str] = (sys.executable, "-c", _DRIVER, str(state.root), before)
    root = Path(__file__).parents[2]
    return subprocess.Popen(argv, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
