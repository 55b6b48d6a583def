"""Small Xens: real shared libraries of a few lines each, in the layouts that real ones come in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from xenqemu.xen.interface import interface

# Each library with its SONAME's suffix, and with what it is linked with; as in Xen's tools/libs/uselibs.mk.
LIBRARIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "xentoolcore": ("1", ()),
    "xentoollog": ("1", ()),
    "xencall": ("1", ("xentoollog", "xentoolcore")),
    "xenevtchn": ("1", ("xentoolcore",)),
    "xengnttab": ("1", ("xentoolcore",)),
    "xenforeignmemory": ("1", ("xentoolcore",)),
    "xendevicemodel": ("1", ("xencall",)),
    "xenstore": ("4", ("xentoolcore",)),
    "xenctrl": ("VERSION", ("xencall", "xenevtchn", "xendevicemodel")),
}


def make_library(folder: Path, name: str, suffix: str, needs: tuple[str, ...] = (), minor: str = "0") -> None:
    """Make lib`name`.so in `folder` with the links that an installation has; what it needs has to be there."""
    soname = f"lib{name}.so.{suffix}"
    argv = ["gcc", "-shared", f"-Wl,-soname,{soname}", "-o", str(folder / f"{soname}.{minor}"), "-x", "c", "-"]
    argv += ["-x", "none", "-Wl,--no-as-needed", *(str(folder / f"lib{need}.so") for need in needs)]
    subprocess.run(argv, input=f"int {name}_works(void) {{ return 1; }}\n".encode(), check=True)
    (folder / soname).symlink_to(f"{soname}.{minor}")
    (folder / f"lib{name}.so").symlink_to(soname)


def make_prefix(root: Path, version: str = "4.20", headers: str = "0x00041300", lib: str = "lib") -> Path:
    """Make an installed Xen in `root`, a folder such as dist/install/usr/local, and return it."""
    libraries = root / lib
    libraries.mkdir(parents=True)
    for name, (suffix, needs) in LIBRARIES.items():
        make_library(libraries, name, suffix.replace("VERSION", version), needs)
    make_headers(root / "include", headers)
    return root


def make_headers(include: Path, version: str = "0x00041300") -> None:
    for header in interface().headers:
        (include / header).parent.mkdir(parents=True, exist_ok=True)
        (include / header).write_text("/* nothing */\n")
    (include / "xen" / "xen-compat.h").write_text(f"#define __XEN_LATEST_INTERFACE_VERSION__ {version}\n")


def clone(prefix: Path, to: Path) -> Path:
    shutil.copytree(prefix, to, symlinks=True)
    return to


_CONFIGURE = """#!/bin/sh
echo "answers: $ac_cv_lib_yajl_yajl_alloc; arguments: $*"
test -z "$XEN_ROOT" || { echo "the environment leaks"; exit 3; }
echo CC_GIVEN=$CC > config/Tools.mk
"""

_INCLUDE_MAKEFILE = """install:
\tmkdir -p $(DESTDIR)/usr/local/include
\tcp -r *.h xen-public/xen $(DESTDIR)/usr/local/include/
"""

# "Compiling" takes what was compiled before, once for all tests, unless the source says #error.
_LIBS_MAKEFILE = """SUBDIRS-y := toolcore toollog call evtchn gnttab foreignmemory devicemodel ctrl store light
LIB := $(DESTDIR)/usr/local/lib
install:
\t@set -e; test -d $(LIB)/pkgconfig; for lib in $(SUBDIRS-y); do \\
\t  if grep '#error' $$lib/$$lib.c; then exit 1; fi; \\
\t  soname=$$(cat $$lib/soname); \\
\t  cp $$lib/compiled $(LIB)/$$soname; ln -sf $$soname $(LIB)/libxen$$lib.so; \\
\tdone
"""

_USELIBS = """# Libraries below tools/libs/ and their dependencies
LIBS_LIBS += toolcore
USELIBS_toolcore :=
LIBS_LIBS += toollog
USELIBS_toollog :=
LIBS_LIBS += evtchn
USELIBS_evtchn := toollog toolcore
LIBS_LIBS += gnttab
USELIBS_gnttab := toollog toolcore
LIBS_LIBS += call
USELIBS_call := toollog toolcore
LIBS_LIBS += foreignmemory
USELIBS_foreignmemory := toollog toolcore
LIBS_LIBS += devicemodel
USELIBS_devicemodel := toollog toolcore call
LIBS_LIBS += ctrl
USELIBS_ctrl := toollog call evtchn gnttab foreignmemory devicemodel
LIBS_LIBS += store
USELIBS_store := toolcore
LIBS_LIBS += light
USELIBS_light := toollog ctrl store
"""


def make_tree(tree: Path, made: Path) -> Path:
    """Make something that configures and builds as a Xen source tree does; its `light` does not build.

    `made` is an installed Xen of `make_prefix`, whose libraries it builds.
    """
    for folder in ("config", "m4", "xen", "tools/include/xen-public", "tools/libs"):
        (tree / folder).mkdir(parents=True)
    (tree / "xen" / "Makefile").write_text("export XEN_VERSION = 4\nexport XEN_SUBVERSION = 20\n")
    (tree / "config" / "Linux.mk").write_text("SYSCONFIG_DIR = init.d\n")
    (tree / "configure").write_text(_CONFIGURE)
    (tree / "tools" / "include" / "Makefile").write_text(_INCLUDE_MAKEFILE)
    (tree / "tools" / "libs" / "Makefile").write_text(_LIBS_MAKEFILE)
    (tree / "tools" / "libs" / "uselibs.mk").write_text(_USELIBS)
    make_headers(tree / "tools" / "include" / "headers")
    for header in (tree / "tools" / "include" / "headers").glob("*.h"):
        header.rename(tree / "tools" / "include" / header.name)
    (tree / "tools" / "include" / "headers" / "xen").rename(tree / "tools" / "include" / "xen-public" / "xen")
    (tree / "tools" / "include" / "headers").rmdir()
    for name in LIBRARIES:
        library = tree / "tools" / "libs" / name.removeprefix("xen")
        library.mkdir()
        (library / f"{library.name}.c").write_text(f"int {name}(void) {{ return 1; }}\n")
        link = made / "lib" / f"lib{name}.so"
        (library / "soname").write_text(str(link.readlink()))
        shutil.copy(link, library / "compiled")
    (tree / "tools" / "libs" / "light").mkdir()
    (tree / "tools" / "libs" / "light" / "light.c").write_text("#error nobody should build this\n")
    return tree
