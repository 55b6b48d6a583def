"""scripts/bootstrap on a copy of the checkout, with imitations of pip's and Debian's side of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = """
[compiler]
group = "build"
apt = ["gcc", "libc6-dev"]

[[libraries]]
group = "build"
apt = ["libglib2.0-dev"]

[[libraries]]
group = "recommended"
apt = ["libusb-1.0-0-dev"]

[[libraries]]
group = "optional"
apt = ["libspice-server-dev"]

[[programs]]
group = "lab"
apt = ["qemu-system-x86"]
"""
# `python -m venv` makes a folder, `python -m pip` writes down what it was asked for.
PYTHON = """#!/bin/sh
case "$*" in
    *"-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; exit ;;
    *"-m pip"*) echo "$*" >>pip.log; test ! -e pip-fails; exit ;;
    -V) echo "Python 3.11.0"; exit ;;
    *"sys.executable"*) echo "$0"; exit ;;
esac
exec {python} "$@"
"""


class Checkout:
    def __init__(self, path: Path, env: dict[str, str]) -> None:
        self.path = path
        self.env = env

    def bootstrap(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [self.path / "scripts/bootstrap", *words], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert not done.stdout
        return done.stderr

    def pip_calls(self) -> list[str]:
        log = self.path / "pip.log"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    path = tmp_path / "a checkout"
    for name in ("scripts/bootstrap", "scripts/apt_packages.py", "requirements/runtime.txt", "requirements/dev.txt"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path / name)
    (path / "pyproject.toml").write_text("")
    (path / "xenqemu/doctor").mkdir(parents=True)
    (path / "xenqemu/doctor/requirements.toml").write_text(NEEDS)
    tools = tmp_path / "bin"
    tools.mkdir()
    stubs = {
        "python3": PYTHON.format(python=sys.executable),
        "dpkg-query": '#!/bin/sh\nshift 3\ntest "$1" = gcc && printf installed\n',
        "apt-get": f'#!/bin/sh\necho "$*" >>"{tmp_path}/apt.log"\n',
    }
    for name, text in stubs.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return Checkout(path, {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHON": "python3"})


def test_installs_once_and_then_does_nothing(checkout: Checkout) -> None:
    checkout.bootstrap("--no-packages")
    calls = checkout.pip_calls()
    assert "--require-hashes -r requirements/runtime.txt" in calls[0]
    assert "--no-build-isolation --no-deps" in calls[1]
    assert checkout.bootstrap("--no-packages") == ""
    assert checkout.pip_calls() == []


def test_a_test_environment_serves_a_build_but_not_the_reverse(checkout: Checkout) -> None:
    checkout.bootstrap("--no-packages", "--for", "build")
    checkout.pip_calls()
    checkout.bootstrap("--no-packages", "--for=test")
    assert "requirements/dev.txt" in checkout.pip_calls()[0]
    assert checkout.bootstrap("--no-packages", "--for", "build") == ""


def test_a_changed_lock_updates_in_place(checkout: Checkout) -> None:
    checkout.bootstrap("--no-packages", "--for", "test")
    checkout.pip_calls()
    with (checkout.path / "requirements/runtime.txt").open("a") as lock:
        lock.write("# changed\n")
    assert "up to date" in checkout.bootstrap("--no-packages", "--for", "build")
    assert "requirements/dev.txt" in checkout.pip_calls()[0]
    # Only the packages of a build were looked at.
    assert "up to date" in checkout.bootstrap("--no-packages", "--for", "test")


@pytest.mark.parametrize(
    ("first", "then", "current"), [("build", "boot", False), ("boot", "build", True), ("test", "boot", True)]
)
def test_one_purpose_may_serve_another(checkout: Checkout, first: str, then: str, current: bool) -> None:
    checkout.bootstrap("--no-packages", "--for", first)
    assert (checkout.bootstrap("--no-packages", "--for", then) == "") == current


def test_a_failed_run_is_repaired_from_scratch(checkout: Checkout) -> None:
    (checkout.path / "pip-fails").touch()
    assert "pip could not install" in checkout.bootstrap("--no-packages", code=5)
    (checkout.path / "pip-fails").unlink()
    (checkout.path / ".venv/half-installed").touch()
    assert "creating" in checkout.bootstrap("--no-packages")
    assert not (checkout.path / ".venv/half-installed").exists()


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.bootstrap("--no-packages")
    checkout.path = checkout.path.rename(checkout.path.with_name("moved"))
    assert "creating" in checkout.bootstrap("--no-packages")


def test_without_root_the_missing_packages_are_a_command(checkout: Checkout, tmp_path: Path) -> None:
    bash = (checkout.path / "scripts/bootstrap").read_text().replace("EUID != 0", "1000 != 0")
    (checkout.path / "scripts/bootstrap").write_text(bash)
    said = checkout.bootstrap(code=5)
    assert "sudo apt-get install --no-install-recommends -y libc6-dev libglib2.0-dev libusb-1.0-0-dev\n" in said
    assert not (tmp_path / "apt.log").exists()


def test_without_root_what_is_only_recommended_does_not_stop(checkout: Checkout, tmp_path: Path) -> None:
    bash = (checkout.path / "scripts/bootstrap").read_text().replace("EUID != 0", "1000 != 0")
    (checkout.path / "scripts/bootstrap").write_text(bash)
    needed = "case $1 in gcc | libc6-dev | libglib2.0-dev) printf installed ;; esac"
    (tmp_path / "bin/dpkg-query").write_text(f"#!/bin/sh\nshift 3\n{needed}\n")
    said = checkout.bootstrap("--for", "boot")
    assert "going on without libusb-1.0-0-dev qemu-system-x86;" in said
    assert "sudo apt-get install --no-install-recommends -y libusb-1.0-0-dev qemu-system-x86\n" in said
    assert checkout.pip_calls()
    assert not (tmp_path / "apt.log").exists()


def test_with_root_they_are_installed(checkout: Checkout, tmp_path: Path) -> None:
    bash = (checkout.path / "scripts/bootstrap").read_text().replace("EUID != 0", "0 != 0")
    (checkout.path / "scripts/bootstrap").write_text(bash)
    checkout.bootstrap()
    assert (tmp_path / "apt.log").read_text().splitlines() == [
        "update",
        "install --no-install-recommends -y libc6-dev libglib2.0-dev libusb-1.0-0-dev",
    ]


@pytest.mark.parametrize("words", [["--for", "fun"], ["--fro", "test"], ["--for"]])
def test_wrong_usage_exits_with_2(checkout: Checkout, words: list[str]) -> None:
    assert "bootstrap: " in checkout.bootstrap(*words, code=2)


def test_two_at_once_share_the_work(checkout: Checkout) -> None:
    command = [str(checkout.path / "scripts/bootstrap"), "--no-packages"]
    both = [subprocess.Popen(command, env=checkout.env, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(checkout.pip_calls()) == 2
