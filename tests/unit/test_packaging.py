from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True).stdout
    return set(listed.decode().split("\0")) - {""}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that hatchling makes from this checkout, without network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_wheel_has_the_code_and_the_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {f"xenqemu/data/{name}" for name in tracked("patches", "targets", "contract")}
    assert data, "the checkout has no data to package"
    assert data | tracked("xenqemu") <= names


def test_data_is_found_in_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    names = ("patches", "targets", "contract")
    code = f"from xenqemu.resources import data_dir; print(*map(data_dir, {names}))"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == [str(tmp_path / "xenqemu/data" / name) for name in names]


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_locks_pin_every_requirement_by_hash_and_name_no_host(name: str) -> None:
    lock = (ROOT / f"requirements/{name}.txt").read_text()
    blocks = lock.replace(" \\\n", " ").splitlines()
    pinned = {line.split("==")[0].partition("[")[0]: line for line in blocks if line and not line.startswith("#")}
    assert all("==" in line and "--hash=sha256:" in line for line in pinned.values())
    assert "://" not in lock
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    wanted += project["project"]["optional-dependencies"]["dev"] if name == "dev" else []
    assert {word.split(">=")[0].lower() for word in wanted} <= pinned.keys()


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_locks_pin_extras_too_for_a_pip_that_does_not_see_the_plain_name_there(name: str) -> None:
    pins = [
        Requirement(line.rstrip(" \\"))
        for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines()
        if "==" in line
    ]
    pinned = {canonicalize_name(pin.name): pin.extras for pin in pins}
    asked = {
        (canonicalize_name(wanted.name), extra)
        for pin in pins
        for wanted in _requirements(pin)
        for extra in wanted.extras
    }
    assert name == "runtime" or asked, "no package asks for an extra any more: this test has nothing to look at"
    assert [(package, extra) for package, extra in sorted(asked) if extra not in pinned[package]] == []


def _requirements(pin: Requirement) -> Iterator[Requirement]:
    """What a pinned package asks for on this machine; what is for another system is not installed here."""
    if pin.marker and not pin.marker.evaluate():
        return
    for wanted in map(Requirement, importlib.metadata.requires(pin.name) or ()):
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *pin.extras)):
            yield wanted


def test_tests_run_with_the_versions_that_users_get() -> None:
    runtime, dev = (
        {line for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines() if "==" in line}
        for name in ("runtime", "dev")
    )
    assert runtime <= dev
