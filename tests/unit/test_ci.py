"""Pipelines: held against the schemas that the CI systems publish, their shell against shellcheck."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from xenqemu.ci import CiRequest, load_systems, render, write_pipeline
from xenqemu.cli.main import _run as run_cli
from xenqemu.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {"github": ("vendor.github-workflows",), "gitlab": ("vendor.gitlab-ci", "--data-transform", "gitlab-ci")}
PLAIN = CiRequest(("10.2",), ("system",), ("hvm",), ("boot-sector",), "https://example.org/xenqemu.git")
MANY = CiRequest(("10.0", "./qemu@main", 'a "b" \\'), ("system", "4.20"), ("hvm", "full"), shards=3, ref="v1")
OURS = {"github": ROOT / ".github/workflows/ci.yml", "gitlab": ROOT / ".gitlab-ci.yml"}
SYSTEMS = load_systems()


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def fits_the_schema(name: str, file: Path) -> None:
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *SCHEMAS[name], str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shell_of(name: str, pipeline: Any) -> Iterator[str]:
    """Yield each script of a pipeline as the system's shell gets it."""
    if name == "github":
        for job in pipeline["jobs"].values():
            assert job["defaults"]["run"]["shell"] == "bash"
            yield from (step["run"] for step in job["steps"] if "run" in step)
        return
    for job in pipeline.values():
        if "script" in job:
            yield "\n".join((*job.get("before_script", ()), *job["script"]))
            yield "\n".join(job.get("after_script", ()))


def is_good_shell(script: str, name: str) -> None:
    # GitLab's runner takes sh where a container has no bash.
    shell = "bash" if name == "github" else "sh"
    assert "${{" not in script  # it would be put in before the shell reads it, whatever it has in it
    for argv in (["bash", "-n"], ["sh", "-n"] if shell == "sh" else ["bash", "-n"], ["shellcheck", "-s", shell, "-"]):
        done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("request_", [PLAIN, MANY, replace(PLAIN, git="", boot=())], ids=["plain", "many", "bare"])
def test_a_pipeline_is_what_the_system_takes(name: str, request_: CiRequest, tmp_path: Path) -> None:
    text = render(SYSTEMS[name], request_)
    (tmp_path / "pipeline.yml").write_text(text)
    fits_the_schema(name, tmp_path / "pipeline.yml")
    for script in filter(None, shell_of(name, load(text))):
        is_good_shell(script, name)
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    assert "<%" not in text
    assert ("--boot" in text) is bool(request_.boot)
    assert ("xen-libs optional" in text) is (request_ is MANY)


@pytest.mark.parametrize("name", OURS)
def test_the_projects_own_pipelines(name: str) -> None:
    text = OURS[name].read_text()
    fits_the_schema(name, OURS[name])
    for script in filter(None, shell_of(name, load(text))):
        is_good_shell(script, name)
    assert "bash .ci/run" in text


def test_no_pipeline_names_a_host() -> None:
    texts = [render(system, replace(PLAIN, git="")) for system in SYSTEMS.values()]
    texts += [file.read_text() for file in OURS.values()]
    assert not [text for text in texts if "://" in text]


def test_the_variables_of_a_pipeline_are_what_was_asked_for() -> None:
    for name, system in SYSTEMS.items():
        pipeline = load(render(system, MANY))
        variables = pipeline["env" if name == "github" else "variables"]
        assert variables["QEMUS"] == '10.0,./qemu@main,a "b" \\'
        assert (variables["XENS"], variables["PROFILES"]) == ("system,4.20", "hvm,full")
        assert variables["XENQEMU_REF"] == "v1"
        assert "BOOT" not in variables
    github, gitlab = (load(render(SYSTEMS[name], MANY)) for name in ("github", "gitlab"))
    assert github["jobs"]["device-models"]["strategy"]["matrix"]["shard"] == [1, 2, 3]
    assert gitlab["device-models"]["parallel"] == 3
    assert gitlab["device-models"]["artifacts"]["reports"]["junit"] == "report/junit.xml"
    assert "parallel" not in load(render(SYSTEMS["gitlab"], PLAIN))["device-models"]
    unset = load(render(SYSTEMS["github"], replace(PLAIN, git="")))
    assert unset["env"]["XENQEMU_GIT"] == "${{ vars.XENQEMU_GIT }}"


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(exclude_characters="$", exclude_categories=["C", "Z"])).filter(str.isprintable))
def test_any_word_comes_through(word: str) -> None:
    for name, system in SYSTEMS.items():
        pipeline = load(render(system, replace(PLAIN, ref=word)))
        assert pipeline["env" if name == "github" else "variables"]["XENQEMU_REF"] == word


def test_the_shell_gets_as_far_as_it_can(tmp_path: Path) -> None:
    """The scripts themselves, with a xenqemu that writes down what it was asked: no word falls apart."""
    script = next(s for s in shell_of("gitlab", load(render(SYSTEMS["gitlab"], PLAIN))) if "matrix" in s)
    command = tmp_path / "xenqemu"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\n')
    command.chmod(0o755)
    lines = script[script.index("export SHARD") :].replace("/opt/xenqemu/.venv/bin/xenqemu", str(command))
    (tmp_path / ".git/info").mkdir(parents=True)
    env = {"PATH": "/usr/bin:/bin", "QEMUS": "a b,c", "XENS": "system", "PROFILES": "hvm", "BOOT": "boot-sector"}
    subprocess.run(["sh", "-eu"], input=lines, cwd=tmp_path, env=env, text=True, check=True)
    words = (tmp_path / "words").read_text().splitlines()
    assert words[words.index("--qemu") + 1] == "a b,c"
    assert words[words.index("--shard") + 1] == "1/1"
    assert (tmp_path / ".git/info/exclude").read_text() == "/.xenqemu/\n/dist/\n/report/\n/logs/\n"
    again = {**env, "CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "3"}
    subprocess.run(["sh", "-eu"], input=lines, cwd=tmp_path, env=again, text=True, check=True)
    assert "2/3" in (tmp_path / "words").read_text().splitlines()


def test_the_logs_are_collected_or_there_are_none(tmp_path: Path) -> None:
    script = list(shell_of("gitlab", load(render(SYSTEMS["gitlab"], PLAIN))))[-1]
    state = tmp_path / "state"
    for name in ("lab/runs/7/console.log", "builds/abc/build.log", "builds/abc/build/other"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text(name)
    (tmp_path / "logs").mkdir()
    for folder in (state, tmp_path / "none"):
        env = {"PATH": "/usr/bin:/bin", "XENQEMU_STATE_DIR": str(folder)}
        subprocess.run(["sh", "-e"], input=script, cwd=tmp_path, env=env, text=True, check=True)
    found = {str(path.relative_to(tmp_path / "logs")) for path in (tmp_path / "logs").rglob("*") if path.is_file()}
    assert found == {"lab/runs/7/console.log", "builds/abc/build.log"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ref": "${{ secrets.X }}"}, "cannot be written into a pipeline"),
        ({"qemus": ("$HOME",)}, "cannot be written into a pipeline"),
        ({"git": "a\nb"}, "cannot be written into a pipeline"),
        ({"shards": 2}, "1 combinations are no work for 2 jobs"),
    ],
)
def test_words_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        render(SYSTEMS["github"], replace(PLAIN, **change))


def test_as_many_jobs_as_there_is_work_for() -> None:
    assert PLAIN.jobs == 1
    assert replace(PLAIN, qemus=("1", "2", "3"), xens=("a", "b")).jobs == 4
    assert replace(PLAIN, qemus=("1", "2", "3"), shards=2).jobs == 2


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep/pipeline.yml"
    write_pipeline(path, "first", force=False)
    with pytest.raises(UsageError, match="is there already"):
        write_pipeline(path, "second", force=False)
    assert path.read_text() == "first"
    write_pipeline(path, "second", force=True)
    assert path.read_text() == "second"
    assert [file.name for file in path.parent.iterdir()] == ["pipeline.yml"]
    with pytest.raises(UsageError, match="cannot be written"):
        write_pipeline(path / "below", "x", force=False)


def test_the_command(nobodys_settings: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["ci", "init", "github"]) == 0
    assert capsys.readouterr().out == ".github/workflows/xenqemu.yml\n"
    assert "boot-sector" in Path(".github/workflows/xenqemu.yml").read_text()
    assert run_cli(["ci", "init", "github"]) == 2
    assert run_cli(["ci", "init", "github", "--force", "--no-boot", "--qemu", "10.0,10.2", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["jobs"], made["combinations"]) == (2, 2)
    assert "boot-sector" not in Path(made["file"]).read_text()
    assert run_cli(["ci", "init", "gitlab", "--out", "x.yml", "--profile", "hvm,full"]) == 0
    assert load(Path("x.yml").read_text())["device-models"]["parallel"] == 2
    assert run_cli(["ci", "init", "jenkins"]) == 2
