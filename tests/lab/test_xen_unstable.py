"""An upstream QEMU in Xen's own build: the commands of the page, and what they leave, with guests of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests import console
from xenqemu.state import StateDir

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def environment(xenqemu_command: Path, shared_state: StateDir, tmp_path: Path) -> Mapping[str, str]:
    return console.environment(tmp_path, xenqemu_command, shared_state)


def run(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run the commands of `script` in one shell, each of which has to succeed; return what they said."""
    log = folder / "said"
    with log.open("wb") as sink:
        argv = ["bash", "-euxc", script]
        done = subprocess.run(argv, cwd=folder, env=environment, stdout=sink, stderr=subprocess.STDOUT, check=False)
    said = log.read_text(errors="replace")
    assert done.returncode == 0, said[-6000:]
    return said


def test_the_pages_commands(
    request: pytest.FixtureRequest,
    newest_xen: str,
    xen_trees: Callable[[str], Path],
    environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    told = [command.line.split()[0] for command in console.commands("xen-unstable.md")]
    assert told == ["xenqemu", "cd", "./configure", "make", "xenqemu", "make"]
    # No link: the page's `..` is that of the tree.
    shutil.copytree(xen_trees(newest_xen), tmp_path / "xen", symlinks=True)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/xen").symlink_to("../xen")  # where other pages, which follow, have it
    said = console.execute(request.node.nodeid, tmp_path, environment)
    assert re.search(rf"^booted a guest under Xen {re.escape(newest_xen)}\.\d+: boot-sector, ", said, re.MULTILINE)
    folder = tmp_path / "xen/dist/install/usr/local/lib/xen/bin"
    assert (folder / "qemu-system-i386").readlink() == Path("qemu-system-xen")
    dynamic = subprocess.run(["readelf", "-d", folder / "qemu-system-xen"], capture_output=True, text=True, check=True)
    # Xen's own folder of libraries, and none of the build
    assert re.search(r"\(R(UN)?PATH\).*\[/usr/local/lib/xen/lib\]", dynamic.stdout)
    assert f"libxenctrl.so.{newest_xen}" in dynamic.stdout

    # The toolstack's default device model, for a VM whose config names none.
    script = (
        "ls -l /usr/local/lib/xen/bin/qemu-system-i386; xl info | grep xen_version\n"
        'printf \'name = "plain"\\ntype = "hvm"\\nmemory = 32\\nvnc = 0\\nboot = "c"\\n\' > /root/plain.cfg\n'
        "xl create -q /root/plain.cfg\n"
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'qemu-system-i386 -L.* -xen-domid [1-9]'\n"
        "xl destroy plain"
    )
    shell = ["xenqemu", "lab", "shell", "--xen", str(tmp_path / "xen")]
    done = subprocess.run(shell, input=script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"xen_version            : {newest_xen}." in done.stdout
    assert "-xen-domid 1\n" in done.stdout


def test_xen_4_17_with_the_libraries_of_its_tree(
    xen_trees: Callable[[str], Path], environment: Mapping[str, str], tmp_path: Path
) -> None:
    tree = xen_trees("4.17")
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
    run("xenqemu subproject device-model --qemu distro:10.2", tmp_path, environment)
    options = "--disable-docs --disable-stubdom --with-system-seabios=/usr/share/seabios/bios-256k.bin"
    make = f"make -j2 -C {tree}/tools QEMU_UPSTREAM_LOC={tmp_path}/device-model DESTDIR={tmp_path}/image"
    script = (
        f"(cd {tree}; ./configure {options})\n"
        f"make -j2 -C {tree}/tools subdir-all-include subdir-all-libs\n"
        f"{make} subdir-all-qemu-xen-dir subdir-install-qemu-xen-dir CONFIG_9PFS=y debug=y\n"
    )
    said = run(script, tmp_path, {**environment, **offline})
    assert "--enable-debug: debug information is kept" in said
    program = tmp_path / "image/usr/local/lib/xen/bin/qemu-system-i386"
    assert (program.parent / "qemu-system-xen.debug").is_file()
    # A second time nothing is compiled, and nothing written.
    before = {path: path.lstat().st_mtime_ns for path in (tmp_path / "image").rglob("*")}
    again = run(f"{make} subdir-install-qemu-xen-dir CONFIG_9PFS=y debug=y", tmp_path, {**environment, **offline})
    assert "nothing to do: these inputs were built before" in again
    assert {path: path.lstat().st_mtime_ns for path in (tmp_path / "image").rglob("*")} == before
    # An unknown flag of the user's ends Xen's build with its name.
    wrong = f"! {make} subdir-all-qemu-xen-dir CONFIG_QEMUU_EXTRA_ARGS=--enable-frobs"
    said = run(wrong, tmp_path, environment)
    assert "configure of this QEMU knows no --enable-frobs" in said
    assert "configure has failed" in said

    libraries = ":".join(str(folder) for folder in sorted(tree.glob("tools/libs/*/")))
    boot = f"LD_LIBRARY_PATH={libraries} xenqemu lab cases boot-sector --xen 4.17 --dm {program}"
    assert "booted a guest under Xen 4.17" in run(boot, tmp_path, environment)
