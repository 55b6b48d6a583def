"""The base of a virtual host whose hypervisor and toolstack are those of a built Xen tree."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.read_cpio import read_archive
from tests.unit.xens import make_library
from xenqemu.archive.packages import Closure, Unpacked
from xenqemu.errors import LabError, MissingError
from xenqemu.lab import base as lab_base
from xenqemu.lab.base import prepare, stale_bases
from xenqemu.lab.device_model import inspect_device_model
from xenqemu.lab.recipe import load_recipe
from xenqemu.lab.run import choose_xen
from xenqemu.lab.tree import check_glibc, inspect_tree, names_tree, own_device_model, series_of
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi

LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
MAKEFILE = """# comment
export XEN_VERSION       = 4
export XEN_SUBVERSION    = 20
export XEN_EXTRAVERSION ?= {}$(XEN_VENDORVERSION)
"""
_BIN, _SBIN = "usr/local/lib/xen/bin", "usr/local/sbin"
PROGRAMS = (
    *(
        f"{_BIN}/{name}"
        for name in ("init-xenstore-domain", "libxl-save-helper", "xen-init-dom0", "xenconsole", "xenctx")
    ),
    *(f"{_SBIN}/{name}" for name in ("xenconsoled", "xenstored", "xentop", "xl")),
    "usr/local/lib/xen/boot/hvmloader",
    "usr/local/bin/xenstore-ls",
    "usr/local/bin/xenstore",
    "etc/xen/scripts/block",
    "etc/xen/xl.conf",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree after `make dist-xen dist-tools`; its xl needs a library of its own and one of this machine."""
    top = tmp_path / "my xen"
    (top / "xen").mkdir(parents=True)
    (top / "tools" / "libs").mkdir(parents=True)
    (top / "xen" / "Makefile").write_text(MAKEFILE.format(".4-pre"))
    installed = top / "dist" / "install"
    (installed / "boot").mkdir(parents=True)
    (installed / "boot" / "xen-4.20.4-pre.gz").write_bytes(gzip.compress(b"\x7fELF my xen"))
    (installed / "boot" / "xen.gz").symlink_to("xen-4.20.4-pre.gz")
    (installed / "boot" / "xen-4.20.4-pre.config").write_text("CONFIG_X86=y\n")
    for path in PROGRAMS:
        (installed / path).parent.mkdir(parents=True, exist_ok=True)
        (installed / path).write_text("#!/bin/sh\n")
    libraries = installed / "usr/local/lib"
    make_library(libraries, "xenlight", "4.20")
    xl = installed / _SBIN / "xl"
    subprocess.run(
        ["gcc", "-o", xl, "-x", "c", "-", "-Wl,--no-as-needed", f"-L{libraries}", "-lxenlight", "-lm"],
        input=b"int main(void) { return 0; }\n",
        check=True,
    )
    return top


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the packages have, instead of an archive: they are another test's business."""
    root = tmp_path / "packages"
    kernel = "usr/lib/modules/6.12"
    files = {
        "boot/vmlinuz-6.12": b"kernel",
        f"{kernel}/modules.builtin": b"kernel/virtio.ko\n",
        "usr/bin/busybox": b"busybox",
        "usr/bin/tool": b"tool",
        "usr/share/seabios/vgabios.bin": b"bios",
        "usr/lib/ipxe/efi-x.rom": b"rom",
        "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC.read_bytes(),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    small = replace(
        load_recipe("4.20"), dom0_files=("usr/bin/tool",), dom0_modules=("virtio",), more_modules=(), guest_modules=()
    )
    monkeypatch.setattr("xenqemu.lab.tree.load_recipe", lambda _: small)
    monkeypatch.setattr(lab_base, "fetch_closure", lambda *_, **__: Closure({}, {"kernel": "6.12-1"}, tmp_path))
    monkeypatch.setattr(lab_base, "unpack", lambda *_: Unpacked([root]))
    return root


def test_hypervisor_and_toolstack_are_the_trees(tree: Path, packages: Path, state: StateDir, quiet_ui: QuietUi) -> None:
    base = prepare(str(tree), state, quiet_ui)
    assert (base.xen_version, base.series) == ("4.20.4", "4.20")
    assert base.hypervisor.read_bytes() == b"\x7fELF my xen"
    assert base.device_model == f"/{_BIN}/qemu-system-i386"
    entries = read_archive(base.base.read_bytes())
    assert set(PROGRAMS) <= set(entries)
    assert entries["usr/sbin/xl"].content == f"/{_SBIN}/xl".encode()
    assert f"/{_SBIN}:/usr/local/bin:/{_BIN}".encode() in entries["usr/lib/xenqemu/start"].content
    # its library where dom0's loader looks, one of the packages, and one of this machine that no package has
    folder = "usr/lib/x86_64-linux-gnu"
    assert entries[f"{folder}/libxenlight.so.4.20"].content == b"/usr/local/lib/libxenlight.so.4.20"
    assert entries["usr/local/lib/libxenlight.so.4.20.0"].content.startswith(b"\x7fELF")
    assert entries[f"{folder}/libc.so.6"].content == LIBC.read_bytes()
    assert entries[f"{folder}/libm.so.6"].content == LIBC.with_name("libm.so.6").read_bytes()
    assert "usr/bin/tool" in entries
    assert base.packages == {"kernel": "6.12-1"}


def test_a_tree_that_was_built_again_is_another_base(
    tree: Path, packages: Path, state: StateDir, quiet_ui: QuietUi
) -> None:
    first = prepare(str(tree), state, quiet_ui)
    assert prepare(str(tree), state, quiet_ui) == first
    assert stale_bases(state) == ()
    (tree / "dist/install/boot/xen-4.20.4-pre.gz").write_bytes(gzip.compress(b"\x7fELF newer"))
    second = prepare(str(tree), state, quiet_ui)
    assert second.hypervisor.read_bytes() == b"\x7fELF newer"
    assert stale_bases(state) == (first.base.parent,)


def test_nothing_in_the_tree_changes(tree: Path, packages: Path, state: StateDir, quiet_ui: QuietUi) -> None:
    before = {path: path.lstat().st_mtime_ns for path in tree.rglob("*")}
    prepare(str(tree), state, quiet_ui)
    assert {path: path.lstat().st_mtime_ns for path in tree.rglob("*")} == before


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("dist", "no hypervisor in dist/install/boot"),
        ("dist/install/boot/xen-4.20.4-pre.gz", "no hypervisor in dist/install/boot"),
        (f"dist/install/{_SBIN}/xl", "has no xl in dist/install"),
        (f"dist/install/{_BIN}", "has no libxl-save-helper in dist/install"),
        ("xen/Makefile", "there is no Xen tree at"),
    ],
)
def test_a_tree_that_is_not_built(gone: str, message: str, tree: Path) -> None:
    path = tree / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(MissingError) as caught:
        inspect_tree(str(tree))
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(("extra", "version"), [(".4-pre", "4.20.4"), ("-unstable", "4.20"), ("-rc", "4.20")])
def test_its_version(extra: str, version: str, tree: Path) -> None:
    (tree / "xen" / "Makefile").write_text(MAKEFILE.format(extra))
    assert inspect_tree(str(tree)).version == version
    assert series_of(str(tree)) == "4.20"
    (tree / "xen" / "Makefile").write_text("all:\n")
    with pytest.raises(MissingError, match="names no XEN_VERSION"):
        series_of(str(tree))


def test_what_names_a_tree(tree: Path, monkeypatch: pytest.MonkeyPatch, quiet_ui: QuietUi) -> None:
    monkeypatch.chdir(tree.parent)
    assert names_tree(".")
    assert names_tree(tree.name)
    assert not names_tree("4.20")
    assert not names_tree("distro:4.20")
    assert series_of("distro:4.17") == "4.17"
    assert choose_xen(str(tree), [], quiet_ui) == str(tree)
    with pytest.raises(MissingError, match="there is no Xen tree at /nonexistent"):
        choose_xen("/nonexistent", [], quiet_ui)


def test_its_own_device_model(tree: Path) -> None:
    assert own_device_model(None) is None
    assert own_device_model("4.20") is None
    assert own_device_model(str(tree)) is None
    libraries = tree / "dist/install/usr/local/lib"
    program = tree / "dist/install" / _BIN / "qemu-system-i386"
    make_library(libraries, "xenctrl", "4.20")
    subprocess.run(
        ["gcc", "-o", program, "-x", "c", "-", "-Wl,--no-as-needed", f"-L{libraries}", "-lxenctrl"],
        input=b"int main(void) { return 0; }\n",
        check=True,
    )
    assert own_device_model(str(tree)) == program
    model = inspect_device_model(program)
    assert model.libraries["libxenctrl.so.4.20"].parent == libraries
    assert model.xen == "4.20"


def test_a_newer_c_library_than_dom0s(tmp_path: Path) -> None:
    check_glibc(LIBC, [Path("/bin/true"), Path("/etc/passwd")])
    (tmp_path / "libc.so.6").write_bytes(b"no ELF file")
    with pytest.raises(LabError, match=r"/bin/true needs glibc 2\.\d+, and dom0's is 0"):
        check_glibc(tmp_path / "libc.so.6", [Path("/bin/true")])
