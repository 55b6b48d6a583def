"""What makes the commands easy to learn: examples, the nearest names, completion, manual pages, the next step."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.commandlines import calls, check_calls
from tests.unit.test_explain import run
from tests.unit.vmconfigs import program
from xenqemu.cli import complete
from xenqemu.cli import help as cli_help
from xenqemu.cli.main import cli
from xenqemu.errors import UsageError
from xenqemu.manual import pages, write_pages
from xenqemu.manual.pages import prose, roff


def commands(
    command: click.Command = cli, words: tuple[str, ...] = ("xenqemu",)
) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(words), command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=words[-1])
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*words, name))


COMMANDS = dict(commands())


# --- Examples ---


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_that_is_right(name: str) -> None:
    command = COMMANDS[name]
    lines = cli_help.example_lines(command)
    assert lines
    assert any(words[: len(name.split())] == name.split() for line in lines for words in calls(line))
    for line in lines:
        check_calls(line)
    shown = command.get_help(click.Context(command, info_name=name, max_content_width=100))
    assert "\n".join(f"    {line}" for line in lines) in shown


def test_a_help_without_examples_has_none() -> None:
    assert cli_help.example_lines(click.Command("x", epilog="no more")) == ()
    assert cli_help.example_lines(click.Command("x")) == ()


# --- The nearest names ---


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["bild"], "there is no command `xenqemu bild`", "did you mean `xenqemu build`?"),
        (["vm", "lnit"], "there is no command `xenqemu vm lnit`", "`xenqemu vm lint`"),
        (["lab", "zzz"], "there is no command `xenqemu lab zzz`", "there is: boot, cases, prepare, shell"),
        (["vm", "use", "--dry-rum", "x"], "No such option", "--dry-run"),
        (["vm", "--zzz"], "No such option", "Usage: xenqemu vm"),
    ],
)
def test_a_misspelt_word(words: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert hint in said


# --- Completion ---


def completions(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("_XENQEMU_COMPLETE", "bash_complete")
    monkeypatch.setenv(
        "COMP_WORDS", shlex.join(("xenqemu", *words)) if words[-1] else f"xenqemu {shlex.join(words[:-1])} "
    )
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit):
        cli.main([], prog_name="xenqemu")
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("profile", "show", "ful"), ["plain,full"]),
        (("bui",), ["plain,build"]),
        (("vm", "use", "--dry"), ["plain,--dry-run"]),
        (("vm", "us"), ["plain,use"]),
        (("lab", "cases", "boot-sec"), ["plain,boot-sector"]),
        (("lab", "cases", "basic"), ["plain,basics"]),
        (("matrix", "--boot", "boot-disk,boot-sec"), ["plain,boot-disk,boot-sector"]),
        (("matrix", "--qemu", "10.0,10"), ["plain,10.0,10.2"]),
        (("patches", "refresh", "x", "--topic", "040"), ["plain,040-acpi-without-cxl"]),
        (("build", "--qemu", "distro:7"), ["plain,distro:7.2"]),
        (("build", "--qemu", "./src"), ["file,./src"]),
        (("build", "--xen", "sys"), ["plain,system"]),
        (("lab", "boot", "x.cfg", "--dm", "distro:4.17"), ["plain,distro:4.17"]),
        (("lab", "boot", "x.cfg", "--dm", "./d"), ["file,./d"]),
        (("lab", "shell", "--xen", "4.1"), ["plain,4.17"]),
        (("bench", "--against", "gui"), ["plain,guide"]),
        (("completion", "z"), ["plain,zsh"]),
        (("vm", "use", "mine"), ["plain,mine.cfg"]),
        (("vm", "use", "other"), ["file,other"]),
        (("vm", "use", "--artifact", "f"), [""]),
        (("explain", "my-"), ["plain,my-guest"]),
    ],
)
def test_what_completes(
    words: tuple[str, ...],
    expected: list[str],
    nobodys_settings: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.cfg").write_text("name='mine'\nmemory=64\ndisk=[]\n")
    (tmp_path / "other.txt").write_text("nothing\n")
    run_folder = tmp_path / "state/lab/runs/1"
    run_folder.mkdir(parents=True)
    (run_folder / "my-guest.xl.log").write_text("")
    assert completions(*words, monkeypatch=monkeypatch, capsys=capsys) == expected


def test_artifacts_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    from xenqemu import build
    from xenqemu.build.cache import CachedArtifact

    entry = CachedArtifact("f" * 64, "10.2.2", "hvm", "4.17", 1, "today")
    monkeypatch.setattr(build, "list_artifacts", lambda _: [entry])
    found = complete.artifacts(click.Context(cli), click.Argument(["x"]), "ff")
    assert [(item.value, item.help) for item in found] == [("f" * 12, "QEMU 10.2.2, profile hvm, Xen 4.17")]


def test_completion_never_fails() -> None:
    def broken(_: click.Context) -> list[tuple[str, str]]:
        raise UsageError("no")

    context, parameter = click.Context(cli), click.Argument(["x"])
    assert complete.completer(broken)(context, parameter, "x") == []
    assert [item.type for item in complete.completer(broken, files=True)(context, parameter, "x")] == ["file"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    assert "_XENQEMU_COMPLETE" in script
    program = shutil.which(shell)
    if program is not None:
        (tmp_path / "script").write_text(script)
        assert subprocess.run([program, "-n", str(tmp_path / "script")], check=False).returncode == 0
    assert run("completion", "tcsh") == 2


# --- Manual pages ---


def test_there_is_a_page_for_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("man", str(tmp_path / "man"), "--json") == 0
    written = json.loads(capsys.readouterr().out)["pages"]
    assert {Path(path).name for path in written} == {f"{name.replace(' ', '-')}.1" for name in COMMANDS}
    assert run("man", str(tmp_path / "man")) == 0
    assert capsys.readouterr().out.splitlines() == written
    top = (tmp_path / "man/xenqemu.1").read_text()
    assert "XENQEMU_STATE_DIR" in top
    assert r".BR xenqemu\-build (1)" in top


def test_pages_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_pages(cli, tmp_path / "file" / "man")


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
@pytest.mark.parametrize("name", pages(cli))
def test_troff_has_nothing_against_a_page(name: str) -> None:
    argv = ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-P-cbou"]
    done = subprocess.run(argv, input=pages(cli)[name], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = " ".join(done.stdout.replace("\u2010\n", "-").split())
    command = COMMANDS[name.removesuffix(".1").replace("-", " ")]
    for line in cli_help.example_lines(command):
        assert " ".join(line.split()) in shown


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
@pytest.mark.parametrize("text", [".TH x", "'br", r"\fB -x --y ~ ^ ` ' \"", "a `b -c` d", "%{}"])
def test_text_is_shown_as_it_stands(text: str) -> None:
    argv = ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-P-cbou"]
    page = f".TH T 1\n.SH A\n{prose(text)}\n"
    done = subprocess.run(argv, input=page, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert re.sub(r"`([^`]+)`", r"\1", text) in done.stdout


@given(st.text())
def test_no_text_is_a_request(text: str) -> None:
    assert not roff(text).startswith((".", "'"))


# --- The next step ---


def test_the_next_step_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from xenqemu.ui import PlainUi, QuietUi

    cli_help.suggest(PlainUi(), "`one`", "`two`")
    cli_help.suggest(QuietUi(), "`three`")
    assert capsys.readouterr().err == "next: `one`; `two`\n"


def test_vm_use_of_a_stub_domain(
    nobodys_settings: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "dm")
    (tmp_path / "my.cfg").write_text("name='mine'\ntype='hvm'\nmemory=64\n")
    use = ("vm", "use", "my.cfg", "--dm", "dm")
    assert run(*use, "--stubdom") == 5
    assert "xenqemu stubdom build" in capsys.readouterr().err
    assert run(*use, "--stubdom", "--legacy") == 2
    (tmp_path / "mine").mkdir()
    for name in ("vmlinuz", "initramfs.zst"):
        (tmp_path / "mine" / name).write_bytes(b"")
    (tmp_path / "mine/manifest.json").write_text('{"memory": 80}')
    assert run(*use, "--stubdom-from", "mine") == 0
    assert "stubdomain_memory = 80\n" in (tmp_path / "my.cfg").read_text()


def test_after_vm_use(nobodys_settings: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(tmp_path / "dm")
    (tmp_path / "my.cfg").write_text("name='mine'\ntype='hvm'\nmemory=64\n")
    use = ("vm", "use", "my.cfg", "--dm", "dm")
    for words, told in (((*use, "--dry-run"), False), (use, True), (use, False)):
        assert run(*words) == 0
        assert ("next: `xenqemu lab boot my.cfg`" in capsys.readouterr().err) == told
