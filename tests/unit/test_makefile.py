"""What the Makefile asks of xenqemu, with an imitation that writes down how it was called."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xenqemu.ui import format_seconds

ROOT = Path(__file__).resolve().parents[2]
RECORDER = f"""#!{sys.executable}
import json, os, sys
with open("calls.json", "a") as calls:
    calls.write(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ)}}) + "\\n")
print("dist/bin/qemu-system-xen")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    for name, text in {"scripts/bootstrap": "#!/bin/sh\n", ".venv/bin/xenqemu": RECORDER}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    shutil.copy(ROOT / "Makefile", folder)
    return folder


def make(
    project: Path, *words: str, env: dict[str, str] | None = None, folder: Path | None = None
) -> tuple[list[str], dict[str, Any], str]:
    """Return the arguments and the environment of xenqemu's first call, and what make (in `folder`) said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for name in ("CC", "DESTDIR", "prefix", "LIBEXEC_BIN", "SHAREDIR", "XEN_ROOT", "QEMU_SRC"):
        kept.pop(name, None)
    (project / "calls.json").unlink(missing_ok=True)
    done = subprocess.run(
        ["make", "-C", str(folder or project), *words],
        env=kept | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    call = calls(project)[0]
    return call["argv"], call["env"], done.stdout + done.stderr


def calls(project: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project / "calls.json").read_text().splitlines()]


def test_default_is_a_build_into_dist_and_a_boot_with_it(project: Path) -> None:
    argv, _, said = make(project)
    assert argv == ["build", "--out", "dist"]
    assert [call["argv"] for call in calls(project)[1:]] == [
        ["lab", "cases", "boot-sector", "--dm", "dist/bin/qemu-system-xen"]
    ]
    assert "dist/bin/qemu-system-xen" in said


@pytest.mark.parametrize("target", ["build", "install"])
def test_what_only_builds_boots_nothing(project: Path, target: str) -> None:
    make(project, target)
    assert len(calls(project)) == 1


def test_subproject_of_xen(project: Path) -> None:
    argv, env, said = make(
        project,
        "-s",
        "-j3",
        "XEN_ROOT=/src/my xen",
        "QEMU_SRC=/src/it's qemu",
        "DESTDIR=/tmp/dest dir",
        "LIBEXEC_BIN=/usr/lib/xen/bin",
        "SHAREDIR=/usr/share",
        "prefix=/usr",
        "CC=ccache gcc",
        "install",
    )
    assert argv == [
        *("--quiet", "build", "--qemu", "/src/it's qemu", "--xen", "/src/my xen", "--jobs", "3", "--cc", "ccache gcc"),
        *("--prefix", "/usr", "--libexec-bin", "/usr/lib/xen/bin", "--share-dir", "/usr/share"),
        *("--destdir", "/tmp/dest dir"),
    ]
    assert not {"MAKEFLAGS", "MFLAGS", "DESTDIR", "prefix", "XEN_ROOT"} & env.keys()
    assert said == ""


def test_install_defaults_are_those_of_xen(project: Path) -> None:
    argv, _, _ = make(project, "install")
    assert argv[1:] == [
        *("--prefix", "/usr/local", "--libexec-bin", "/usr/local/lib/xen/bin"),
        *("--share-dir", "/usr/local/share", "--destdir", "/"),
    ]


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        ([], []),
        (["-j4"], ["--jobs", "4"]),
        (["-s", "-j", "2", "-k"], ["--jobs", "2"]),
        (["-j"], []),
        (["BUILD_FLAGS=--debug-info"], ["--debug-info"]),
    ],
)
def test_job_count_comes_from_the_outer_make(project: Path, words: list[str], jobs: list[str]) -> None:
    argv, _, _ = make(project, *words)
    assert [word for word in argv if word != "--quiet"] == ["build", *jobs, "--out", "dist"]


def test_compiler_of_the_environment_counts_and_makes_own_default_does_not(project: Path) -> None:
    assert make(project, env={"CC": "clang"})[0] == ["build", "--cc", "clang", "--out", "dist"]
    assert "--cc" not in make(project)[0]


def test_called_by_an_outer_make(project: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "Makefile").write_text(f"all:\n\t+$(MAKE) -C '{project}' install\n")
    argv, env, _ = make(project, "-j5", "XEN_ROOT=/src/xen", "prefix=/opt", folder=outer)
    assert argv[:5] == ["build", "--xen", "/src/xen", "--jobs", "5"]
    assert argv[5:7] == ["--prefix", "/opt"]
    assert "MAKEFLAGS" not in env


def test_clean_keeps_the_environment_and_distclean_does_not(project: Path) -> None:
    for folder in ("dist", ".mypy_cache", "xenqemu/__pycache__", ".venv/lib/__pycache__"):
        (project / folder).mkdir(parents=True)
    subprocess.run(["make", "-C", str(project), "clean"], check=True, capture_output=True)
    assert sorted(path.name for path in project.iterdir()) == [".venv", "Makefile", "scripts", "xenqemu"]
    assert (project / ".venv/lib/__pycache__").is_dir()
    assert not (project / "xenqemu/__pycache__").exists()
    said = subprocess.run(["make", "-C", str(project), "distclean"], check=True, capture_output=True, text=True).stdout
    assert "XENQEMU_STATE_DIR" in said
    assert not (project / ".venv").exists()


def test_help_lists_every_target(project: Path) -> None:
    text = subprocess.run(["make", "-C", str(project), "help"], check=True, capture_output=True, text=True).stdout
    phony = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:")]
    listed = {line.split()[0] for line in text.splitlines() if line.startswith("  ")}
    assert listed == {target for line in phony for target in line.split()[1:]}


def test_how_long_it_took_is_told_at_the_end(project: Path) -> None:
    *_, said = make(project)
    assert re.search(r"^from make to a booted guest: \d+ s$", said.splitlines()[-1])
    assert "booted guest" not in make(project, "build")[2]
    assert make(project, "-s")[2] == ""


@pytest.mark.parametrize("seconds", [10, 59, 60, 61, 725])
def test_time_is_told_as_everywhere(project: Path, seconds: int, tmp_path: Path) -> None:
    # The clock says one time when it is asked first, and another one ever after.
    clock = tmp_path / "bin/date"
    clock.parent.mkdir()
    clock.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/began ] && echo {1000 + seconds} || echo 1000\n: > {tmp_path}/began\n"
    )
    clock.chmod(0o755)
    said = make(project, env={"PATH": f"{clock.parent}:{os.environ['PATH']}"})[2]
    assert f"from make to a booted guest: {format_seconds(seconds)}" in said
