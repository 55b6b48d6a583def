"""The command line, from arguments to exit code, on imitations of a QEMU and a Xen."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import xenqemu
from tests.unit.fake_qemu import git
from xenqemu.cli import main as entry
from xenqemu.cli.main import _run as run_cli
from xenqemu.errors import BuildError, XenqemuError
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi


@pytest.fixture
def build(qemu: Path, fake_xen: Path) -> list[str]:
    return ["build", "--qemu", str(qemu), "--xen", str(fake_xen), "--profile", "tiny.toml"]


def test_a_build_ends_with_the_path_of_a_binary_that_runs(build: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(build) == 0
    binary = Path(capsys.readouterr().out.splitlines()[-1])
    assert binary == Path("dist/bin/qemu-system-xen")
    done = subprocess.run([binary.absolute(), "x"], capture_output=True, text=True, check=False)
    assert "xenqemu" in done.stdout
    manifest = json.loads(Path("dist/manifest.json").read_text())
    assert manifest["profile"]["name"] == "tiny"
    assert [patch["file"] for patch in manifest["patches"]] == ["010-a/7.2.patch"]


def test_the_same_again_does_nothing_and_json_is_all_there_is_on_stdout(
    build: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(build) == 0
    capsys.readouterr()
    assert run_cli([*build, "--json"]) == 0
    captured = capsys.readouterr()
    assert "nothing to do" in captured.err
    result = json.loads(captured.out)
    assert result["cached"] is True
    assert Path(result["binary"]) == Path.cwd() / "dist/bin/qemu-system-xen"


def test_a_dry_run_says_what_would_be_built_and_builds_nothing(
    build: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli([*build, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["patches"] == ["010-a/7.2.patch"]
    assert plan["xen"] == {"version": "4.20", "origin": "prefix"}
    assert "--target-list=xen-dm-softmmu" in plan["configure"]
    assert run_cli([*build, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"key: {plan['key']}\n" in said
    assert "qemu.version: 10.2.2\n" in said
    assert not Path("dist").exists()


def test_an_installation_like_xens_own(build: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--prefix", "/usr/local", "--libexec-bin", "/usr/local/lib/xen/bin", "--share-dir", "/usr/local/share"]
    assert run_cli([*build, *where, "--destdir", "image"]) == 0
    assert (Path("image/usr/local/lib/xen/bin/qemu-system-xen")).is_file()
    assert list(Path("image/usr/local/share").rglob("keymaps/de"))
    assert not Path("dist").exists()
    assert capsys.readouterr().out.strip().endswith("image/usr/local/lib/xen/bin/qemu-system-xen")


def test_settings_come_from_the_project(build: list[str], project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "xenqemu.toml").write_text('out = "elsewhere"\n')
    assert run_cli(build) == 0
    assert (project / "elsewhere/bin/qemu-system-xen").is_file()
    capsys.readouterr()
    assert run_cli(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["out"] == {"value": str(project / "elsewhere"), "from": str(project / "xenqemu.toml")}
    assert shown["state-dir"]["from"] == "XENQEMU_STATE_DIR"
    assert run_cli(["--state-dir", "/x", "config", "show"]) == 0
    assert "state-dir\t/x\t--state-dir" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--profile", "hmv"], 2, "there is no profile 'hmv'"),
        (["--qemu", "/nonexistent"], 3, "/nonexistent"),
        (["--xen", "/nonexistent"], 5, "no Xen at /nonexistent"),
        (["--jobs", "0"], 2, "jobs"),
        (["--cc", "no-such-cc"], 5, "no-such-cc"),
        (["--launcher", "ccacge"], 2, "no launcher 'ccacge'"),
        (["--remote-cache", "ftp://me:pw@host"], 2, "ftp://host is no server of a remote cache"),
        (["--hosts", "@red"], 2, "'@red' in the hosts"),
        (["--distribute", "make"], 2, "'make' hands no compiles to other machines"),
        (["--prefix", "relative"], 2, "relative"),
        (["--prefix", "/usr", "--out", "x"], 2, "--out goes without --prefix"),
        (["--out", "tiny.toml"], 2, "tiny.toml is no folder"),
        (["--out", "tiny.toml/below"], 2, "tiny.toml is no folder"),
        (["--destdir", "tiny.toml/below"], 2, "tiny.toml is no folder"),
    ],
)
def test_bad_input_has_its_message_and_code(
    build: list[str], words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli([*build, *words, "--json"]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert json.loads(captured.out)["error"]["exit_code"] == code
    assert not Path("dist").exists()


def test_a_version_outside_the_range_is_refused(
    build: list[str], qemu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (qemu / "VERSION").write_text("11.0.0\n")
    assert run_cli(build) == 3
    assert "outside the supported range, 7.2 to 10.2.x" in capsys.readouterr().err


def test_a_patch_that_does_not_apply_ends_with_4(
    build: list[str], qemu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (qemu / "meson.build").write_text("something else\n")
    assert run_cli(build) == 4
    assert "topic 010-a (010-a/7.2.patch)" in capsys.readouterr().err
    assert run_cli(["patches", "check", "--qemu", str(qemu)]) == 4
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "found:  something else" in captured.err
    assert run_cli(["patches", "check", "--qemu", str(qemu), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["failed"][0]["topic"] == "010-a"


def test_a_qemu_that_is_not_supported_yet_is_checked_out_to_make_it_fit(
    qemu: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (qemu / "VERSION").write_text("11.1.0\n")
    (qemu / "meson.build").write_text("new\n")
    assert run_cli(["patches", "check", "--qemu", str(qemu)]) == 4
    assert run_cli(["patches", "checkout", "work", "--qemu", str(qemu), "--profile", "hvm"]) == 0
    said = capsys.readouterr().err
    assert "left out: topic 010-a" in said
    assert "left out, the target's files: profile 'hvm'" in said
    (project / "work/meson.build").write_text("new\n# more\n")
    message = "meson: a line\n\nFor 11.1.\n\nXenqemu-Topic: 010-a"
    git("commit", "--quiet", "--all", "--message", message, cwd=project / "work")
    assert run_cli(["patches", "refresh", "work", "--split"]) == 0
    assert (project / "patches/010-a/11.1.patch").is_file()
    assert run_cli(["patches", "check", "--qemu", str(qemu)]) == 0


def test_an_installed_series_is_not_edited(qemu: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["patches", "checkout", "work", "--qemu", str(qemu), "--profile", "tiny.toml"]) == 0
    (project / "xenqemu/data").mkdir(parents=True)
    assert run_cli(["patches", "refresh", "work"]) == 2
    assert "of an installed xenqemu" in capsys.readouterr().err


def test_a_compile_error_shows_itself_and_the_log(
    build: list[str], qemu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (qemu / "first.c").write_text("const char *first(void) { return nonsense; }\n")
    assert run_cli(build) == 6
    error = capsys.readouterr().err
    assert "first.c:1" in error
    assert "nonsense" in error
    assert "build.log" in error
    (qemu / "first.c").write_text("const char *first(void) { return __FILE__; }\n")
    assert run_cli(build) == 0


def test_the_series_is_listed_checked_exported_and_refreshed(
    qemu: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["patches", "list"]) == 0
    assert "010-a\t7.2.patch\t7.2.patch\t7.2.patch\tabout 010-a" in capsys.readouterr().out
    assert run_cli(["patches", "list", "--for", "10.0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"] == ["10.0"]
    assert run_cli(["patches", "check", "--qemu", str(qemu)]) == 0
    assert "meson.build\t1\t0\t0\tok" in capsys.readouterr().out

    source = ["--qemu", str(qemu), "--profile", "tiny.toml"]
    assert run_cli(["patches", "export", "export", *source]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "export/0001-meson-a-line.patch"
    assert run_cli(["patches", "export", "export", *source, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["patches"]) == 2

    assert run_cli(["patches", "checkout", "work", *source]) == 0
    meson = project / "work/meson.build"
    meson.write_text(meson.read_text() + "# even more\n")
    capsys.readouterr()
    assert run_cli(["patches", "refresh", "work", "--topic", "010-a"]) == 0
    captured = capsys.readouterr()
    assert "010-a\t010-a/7.2.patch\trewritten" in captured.out
    assert "also used for QEMU 7.2, 10.0" in captured.err
    assert "+# even more" in (project / "patches/010-a/7.2.patch").read_text()
    git("commit", "--quiet", "--all", "--message", "meson: later\n\nFor a reason.", cwd=project / "work")
    assert run_cli(["patches", "refresh", "work", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["topics"][0]["action"] in ("unchanged", "rewritten")


def test_the_cache_is_listed_and_pruned(build: list[str], project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(build) == 0
    capsys.readouterr()
    assert run_cli(["cache", "list", "--json"]) == 0
    (artifact,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert run_cli(["cache", "list"]) == 0
    assert artifact["key"][:12] in capsys.readouterr().out
    assert run_cli(["cache", "prune", "--all"]) == 0
    assert "freed" in capsys.readouterr().out
    assert run_cli(["cache", "prune", "--json"]) == 0
    assert "freed_bytes" in json.loads(capsys.readouterr().out)
    assert list((project / "state/artifacts").iterdir()) == []


def test_the_same_content_in_another_form_says_where_it_came_from(
    build: list[str], qemu: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(build) == 0
    assert json.loads(Path("dist/manifest.json").read_text())["qemu"]["origin"]["kind"] == "directory"
    git("init", "--quiet", cwd=qemu)
    git("add", "--all", "--force", cwd=qemu)
    git("commit", "--quiet", "--message", "import", cwd=qemu)
    assert run_cli(build) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert json.loads(Path("dist/manifest.json").read_text())["qemu"]["origin"]["kind"] == "checkout"


def test_a_prune_waits_for_a_build(build: list[str], project: Path, quiet_ui: PlainUi) -> None:
    assert run_cli(build) == 0
    command = [sys.executable, "-c", "from xenqemu.cli.main import main; main()", "cache", "prune", "--all"]
    with StateDir(project / "state").using(quiet_ui):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert process.stderr is not None
        assert "waiting for other runs of xenqemu" in process.stderr.readline()
        assert list((project / "state/artifacts").iterdir())
    assert process.wait() == 0
    assert not list((project / "state/artifacts").glob("*"))


def test_a_state_directory_whose_lock_cannot_be_had_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "state/locks").mkdir(parents=True)
    (project / "state/locks/in-use").symlink_to(project / "tiny.toml" / "x")
    assert run_cli(["cache", "list"]) == 5
    assert "cannot be used" in capsys.readouterr().err


def test_a_xen_is_described_usable_or_not(project: Path, fake_xen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["xen", "info", str(fake_xen)]) == 0
    assert "libxenctrl.so.4.20" in capsys.readouterr().out
    broken = shutil.copytree(fake_xen, project / "broken", symlinks=True)
    (broken / "usr/local/include/xenctrl.h").unlink()
    assert run_cli(["xen", "info", str(broken)]) == 5
    assert "xenctrl.h" in capsys.readouterr().err
    assert run_cli(["xen", "info", str(broken), "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["usable"] is False


def test_profiles_are_listed_and_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["profile", "list"]) == 0
    assert "hvm\t" in capsys.readouterr().out
    assert run_cli(["profile", "list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"hvm", "full"}
    assert run_cli(["profile", "show", "hvm"]) == 0
    assert "rtl8139" in capsys.readouterr().out
    assert run_cli(["profile", "show", "hvm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"]


def test_the_doctor_looks_and_says_how_to_get_what_is_missing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert run_cli(["doctor"]) == 5
    output = capsys.readouterr().out
    assert "MISSING" in output
    assert "apt-get install" in output
    assert run_cli(["doctor", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["complete"] is False


def test_help_lists_every_command_without_loading_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["--help"]) == 0
    output = capsys.readouterr().out
    for name in entry._COMMANDS:
        assert name in output
        assert run_cli([name, "--help"]) == 0
    program = "import sys; from xenqemu.cli.main import _run; _run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"git", "rich", "jinja2", "elftools", "debian", "xenqemu.cli.build"} & set(done.stdout.split())


def test_usage_errors_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["bulid"], ["build", "--no-such-option"], ["cache", "prune", "--keep", "-1"]):
        assert run_cli(words) == 2
    assert "Usage: xenqemu" in capsys.readouterr().err
    assert run_cli(["--version"]) == 0
    assert xenqemu.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "goes on from there"),
        (BuildError("it broke", "mend it"), 6, "it broke\n  mend it"),
        (OSError(errno.ENOSPC, "No space left", "/state/x"), 5, "no space left: /state/x"),
        (OSError(errno.EIO, "I/O error"), 1, "this is a bug"),
        (ZeroDivisionError("oops"), 1, "ZeroDivisionError: oops"),
        (XenqemuError("plain"), 1, "plain"),
    ],
)
def test_every_outcome_has_its_code(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(entry.cli, "main", fail)
    assert run_cli([]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err


def test_the_traceback_of_a_bug_is_there_for_the_asking(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(entry.cli, "main", fail)
    assert run_cli(["--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        entry.main([])
    assert caught.value.code == 1


COMMAND = [sys.executable, "-c", "from xenqemu.cli.main import main; main()"]


def test_a_reader_that_goes_away_is_no_error(project: Path) -> None:
    command = [*COMMAND, "profile", "show", "hvm"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_reader_of_messages_that_goes_away_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    program = "from xenqemu.ui import PlainUi; PlainUi().note('x'); print('done', flush=True)"
    done = subprocess.run([sys.executable, "-c", program], stderr=write, stdout=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stdout == "done\n"


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "2>&-"])
def test_an_output_that_cannot_be_written_is_no_bug(project: Path, redirection: str) -> None:
    script = f'exec "$@" {redirection}'
    argv = ["bash", "-c", script, "bash", *COMMAND, "--state-dir", str(project / "state"), "config", "show", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == (5 if "full" in redirection else 0)
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_current_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    argv = ["bash", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(tmp_path), *COMMAND, "config", "show"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the current folder was removed" in done.stderr


def test_quiet_and_verbose_and_a_terminal(
    build: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["--quiet", *build]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == "dist/bin/qemu-system-xen\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert run_cli(["--verbose", *build]) == 0
    assert "010-a/7.2.patch" in capsys.readouterr().err
    assert run_cli(["profile", "show", "hvm"]) == 0
    assert "device types" in capsys.readouterr().out


def test_sigterm_is_an_interruption() -> None:
    with pytest.raises(KeyboardInterrupt):
        entry._interrupt(signal.SIGTERM, None)
