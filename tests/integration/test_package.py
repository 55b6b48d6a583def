"""Packages of real builds: lintian's judgement, installed and removed by dpkg, twice the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from xenqemu.series.catalogue import load_series
from xenqemu.vm.binary import BUILT_HERE

MAINTAINER = ("--maintainer", "A Tester <tester@example.org>")
# For trying this on builds that are there: two folders, of a build for the system's Xen and of one that brings its own.
GIVEN = os.environ.get("XENQEMU_TEST_BUILDS", "").split(":")


@pytest.fixture(scope="module", params=["system", "bundled"])
def built(request: pytest.FixtureRequest, xenqemu: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build for the system's Xen, and one for another, with its libraries."""
    if len(GIVEN) == 2:
        return Path(GIVEN[request.param == "bundled"])
    out = tmp_path_factory.mktemp(request.param) / "dist"
    xen = ("--xen", "distro:4.20", "--build-xen-libs") if request.param == "bundled" else ()
    xenqemu("build", "--qemu", f"distro:{load_series().supported[-1]}", *xen, "--out", out)
    return out


@pytest.fixture(scope="module")
def package(built: Path, xenqemu: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package")
    done = xenqemu("package", "deb", "--from", built, "--out", out, *MAINTAINER, "--json")
    (made,) = json.loads(done.stdout)["packages"]
    return Path(made["file"])


def test_lintian_has_nothing_to_say(package: Path) -> None:
    root = ("--allow-root",) if os.geteuid() == 0 else ()
    argv = ["lintian", *root, "--fail-on", "error,warning", package]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.fixture
def dpkg(tmp_path: Path) -> Callable[..., None]:
    """Run dpkg on a system of its own, which has nothing in it but dpkg's own lists."""
    lists = tmp_path / "root/var/lib/dpkg"
    for name in ("info", "updates", "triggers"):
        (lists / name).mkdir(parents=True)
    (lists / "status").touch()

    def run(*words: str | Path) -> None:
        faked = () if os.geteuid() == 0 else ("fakeroot",)
        argv = [*faked, "dpkg", f"--root={tmp_path / 'root'}", "--force-depends", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run


def test_it_is_installed_works_and_leaves_nothing(
    package: Path, built: Path, dpkg: Callable[..., None], tmp_path: Path
) -> None:
    root, name = tmp_path / "root", package.name.partition("_")[0]

    def files() -> set[Path]:
        ours = (path.relative_to(root) for path in root.rglob("*"))
        return {path for path in ours if path.parts[0] != "var"}

    dpkg("--install", package)
    program = root / "usr/lib" / name / "bin" / BUILT_HERE.name
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert json.loads((built / "manifest.json").read_text())["qemu"]["version"] in said
    folders = subprocess.run([program, "-L", "help"], capture_output=True, text=True, check=True).stdout
    assert str(root / "usr/lib" / name / "share/qemu") in map(os.path.normpath, folders.splitlines())
    if (built / "lib").is_dir():
        loaded = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        xen = [line.split()[2] for line in loaded.splitlines() if line.strip().startswith("libxen")]
        assert xen
        assert {Path(os.path.normpath(path)).parent for path in xen} == {program.parents[1] / "lib"}
    dpkg("--remove", name)
    assert not list((root / "var/lib/dpkg/info").glob(f"{name}.*"))
    assert files() <= {Path("usr")}


def test_the_machine_can_install_it_beside_what_it_has(package: Path) -> None:
    # What it depends on is there to be had, and nothing that is installed would go.
    argv = ["apt-get", "install", "--simulate", "-o", "APT::Sandbox::User=root", str(package)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Remv" not in done.stdout
    listed = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
    names = subprocess.run(["tar", "-t"], input=listed, capture_output=True, check=True).stdout.decode().splitlines()
    paths = [name.removeprefix(".") for name in names if not name.endswith("/")]
    owners = subprocess.run(["dpkg-query", "--search", *paths], capture_output=True, text=True, check=False)
    others = [line for line in owners.stdout.splitlines() if not line.startswith(f"{package.name.partition('_')[0]}:")]
    assert others == []


def test_twice_the_same_bytes(package: Path, built: Path, xenqemu: Run, tmp_path: Path) -> None:
    env = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "DPKG_DEB_THREADS_MAX": "2", "XZ_DEFAULTS": "-9"}
    xenqemu("package", "deb", "--from", built, "--out", tmp_path, *MAINTAINER, env=env, state=tmp_path / "state")
    assert (tmp_path / package.name).read_bytes() == package.read_bytes()
    for number in ("1", "2"):
        xenqemu("package", "tar", "--from", built, "--out", tmp_path / number, env=env if number == "2" else None)
    first, second = (next((tmp_path / number).iterdir()) for number in ("1", "2"))
    assert first.read_bytes() == second.read_bytes()
