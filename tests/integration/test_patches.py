"""The series on real QEMUs: it applies, it exports, and what is exported is what is built."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from xenqemu.series.catalogue import load_series
from xenqemu.state import StateDir

SERIES = load_series().supported


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Dev", "-c", "user.email=dev@example.invalid", "-c", "core.autocrlf=false")
    done = subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("series", SERIES)
def test_every_hunk_applies_without_fuzz(series: str, xenqemu: Run) -> None:
    report = json.loads(xenqemu("patches", "check", "--qemu", f"distro:{series}", "--json").stdout)
    assert report["listed"]
    assert report["failed"] == []
    assert len(report["applied"]) >= 6
    assert {hunk["fuzz"] for patch in report["applied"] for hunk in patch["hunks"]} == {0}


@pytest.mark.parametrize("series", SERIES)
def test_an_export_gives_the_tree_that_is_built(series: str, xenqemu: Run, tmp_path: Path) -> None:
    work = tmp_path / "work"
    xenqemu("patches", "checkout", work, "--qemu", f"distro:{series}")
    xenqemu("patches", "export", tmp_path / "export", "--qemu", f"distro:{series}")
    built = git(work, "rev-parse", "HEAD^{tree}")
    pristine = git(work, "rev-list", "--max-parents=0", "HEAD")

    git(work, "checkout", "--quiet", "--detach", pristine)
    git(work, "am", "--quiet", *(str(path) for path in sorted((tmp_path / "export").glob("*.patch"))))
    assert git(work, "rev-parse", "HEAD^{tree}") == built

    git(work, "checkout", "--quiet", "--detach", pristine)
    environment = {"QUILT_PATCHES": str(tmp_path / "export"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run(["quilt", "push", "-a"], cwd=work, env=environment, check=True, capture_output=True)
    (work / ".git/info/exclude").write_text(".pc/\n")
    git(work, "add", "--all", "--force", "--", ".", ":!.pc")
    assert git(work, "write-tree") == built


def test_a_work_tree_goes_back_into_the_series_unchanged(xenqemu: Run, tmp_path: Path) -> None:
    xenqemu("patches", "checkout", tmp_path / "work", "--qemu", f"distro:{SERIES[-1]}")
    report = json.loads(xenqemu("patches", "refresh", tmp_path / "work", "--json").stdout)
    assert {entry["action"] for entry in report["topics"]} == {"unchanged"}


def test_one_source_in_three_forms_is_one_artifact(xenqemu: Run, shared_state: StateDir, tmp_path: Path) -> None:
    newest = f"distro:{SERIES[-1]}"
    plan = json.loads(xenqemu("build", "--qemu", newest, "--dry-run", "--json").stdout)
    origin = plan["qemu"]["origin"]
    tarball = shared_state.downloads / origin["sha256"] / origin["file"]
    subprocess.run(["tar", "--no-same-owner", "-xf", tarball, "-C", tmp_path], check=True)
    (folder,) = (path for path in tmp_path.glob("qemu-*") if path.is_dir())
    keys = {plan["key"]}
    for source in (str(tarball), str(folder)):
        keys.add(json.loads(xenqemu("build", "--qemu", source, "--dry-run", "--json").stdout)["key"])
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "-m", "import")
    before = git(folder, "status", "--porcelain"), (folder / ".git/index").read_bytes()
    for source in (str(folder), f"{folder}@HEAD"):
        keys.add(json.loads(xenqemu("build", "--qemu", source, "--dry-run", "--json").stdout)["key"])
    assert (git(folder, "status", "--porcelain"), (folder / ".git/index").read_bytes()) == before
    assert keys == {plan["key"]}
