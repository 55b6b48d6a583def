"""`xenqemu report`: which build, which runs, and the page itself."""

from __future__ import annotations

import json
import os
import shutil
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.pages import check_page, read_page
from tests.unit.reported import KEY, guest, make_artifact, make_picture, make_run, manifest, program_sha256
from xenqemu.cli.main import _run as run_cli
from xenqemu.errors import MissingError, UsageError
from xenqemu.report.model import Cell, Column, Fact, Guest, LabRun, Log, Page, Table, Tile
from xenqemu.report.page import render
from xenqemu.report.runs import lab_runs, readable
from xenqemu.report.subject import find_subject
from xenqemu.report_pipeline import ReportRequest, open_page, write_report
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi


@pytest.fixture
def state(nobodys_settings: None, tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state").create()


def program(folder: Path) -> Path:
    return folder / "tree/bin/qemu-system-xen"


def delivered(artifact: Path, out: Path) -> Path:
    """Put the artifact where a user wants it, as `--out` does."""
    shutil.copytree(artifact / "tree", out)
    shutil.copy(artifact / "manifest.json", out)
    return out


def test_a_build_is_found_by_whatever_leads_to_it(state: StateDir, tmp_path: Path) -> None:
    artifact = make_artifact(state)
    dist = delivered(artifact, tmp_path / "elsewhere")
    for named in (None, KEY, KEY[:6], str(artifact), str(artifact / "manifest.json"), str(program(artifact))):
        subject = find_subject(named, state)
        assert (subject.binary, subject.kept) == (program(artifact), artifact)
        assert subject.sha256 == program_sha256()
    for path in (dist, dist / "manifest.json", dist / "bin/qemu-system-xen"):
        subject = find_subject(str(path), state)
        assert (subject.binary, subject.kept) == (dist / "bin/qemu-system-xen", artifact)
    shutil.rmtree(artifact)
    assert find_subject(str(dist), state).kept is None


def test_the_build_of_this_folder_goes_before_those_that_are_kept(state: StateDir, tmp_path: Path) -> None:
    dist = delivered(make_artifact(state), tmp_path / "dist")
    assert find_subject(None, state).binary == dist / "bin/qemu-system-xen"


def test_to_look_at_an_artifact_is_not_to_use_it(state: StateDir) -> None:
    artifact = make_artifact(state)
    (artifact / "last-used").touch()
    os.utime(artifact / "last-used", (1, 1))
    find_subject(KEY, state)
    assert (artifact / "last-used").stat().st_mtime == 1


def test_what_is_no_build_is_refused(state: StateDir, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no device model"):
        find_subject(None, state)
    artifact = make_artifact(state)
    stranger = artifact / "tree/bin/stranger"
    shutil.copy("/bin/true", stranger)
    for named, said in (
        ("/bin/true", "no build of xenqemu"),
        (str(stranger), "no build of xenqemu"),
        (str(tmp_path), "no build of xenqemu"),
        ("nowhere", "does not exist"),
        ("beef", "fits no artifact"),
    ):
        with pytest.raises(UsageError, match=said):
            find_subject(named, state)
    program(artifact).rename(artifact / "moved")
    program(artifact).symlink_to("/proc/self/mem")  # can be looked at, and not be read from its beginning
    with pytest.raises(UsageError, match="cannot be read"):
        find_subject(str(artifact), state)
    program(artifact).unlink()
    with pytest.raises(UsageError, match="is gone"):
        find_subject(str(artifact), state)
    (artifact / "manifest.json").write_text(json.dumps({**manifest(), "program": 1}))
    with pytest.raises(UsageError, match="no build of xenqemu"):
        find_subject(str(artifact), state)


def test_a_report_of_everything_there_is(state: StateDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = make_artifact(state)
    run = make_run(state, 7, program(artifact))
    make_picture(run / "boot-sector.png")
    results = tmp_path / "results.json"
    case = {"case": "a", "outcome": "fails", "summary": "tries a", "detail": "it broke", "seconds": 2}
    results.write_text(json.dumps({"xen": "4.20.3", "cases": [case]}))
    state.remember(
        "contract", program_sha256(), {"runs": {"4.17.5": {"xen": "4.17.5", "finished": "now", "cases": []}}}
    )
    assert run_cli(["report", KEY, "--out", "page.html", "--contract", str(results), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    content = Path("page.html").read_bytes()
    assert said == {
        "report": "page.html",
        "key": KEY,
        "bytes": len(content),
        "patches": 1,
        "commands": 3,
        "contract_cases": 1,
        "guests": 1,
    }
    page = read_page(content.decode())
    check_page(page)
    for text in ("QEMU 10.2.2 for Xen 4.20, profile hvm", "010-xen-dm-target", "libc.so.6", "3 commands in 120 ms"):
        assert text in page.text
    for text in ("configure: 8.00 s", "it broke", "Under Xen 4.17.5", "Run 7, Xen 4.20.3", "xenqemu-guest:", "13.50 s"):
        assert text in page.text
    assert "much of it" not in page.text
    assert page.tags["img"] == 1
    assert "changed since" in page.text


def test_a_report_of_as_little_as_there_is(state: StateDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = {name: manifest()[name] for name in ("format", "xenqemu", "program", "outputs")}
    dist = delivered(make_artifact(state), tmp_path / "dist")
    shutil.rmtree(state.artifacts)
    (dist / "manifest.json").write_text(json.dumps(bare))
    assert run_cli(["report", "dist"]) == 0
    assert capsys.readouterr().out == "xenqemu-report.html\n"
    page = read_page(Path("xenqemu-report.html").read_text())
    check_page(page)
    for text in ("is not kept of this build", "No result for this program", "None of the runs", "Not known"):
        assert text in page.text
    assert "series" not in page.ids


def test_the_page_is_the_same_for_the_same(state: StateDir) -> None:
    make_artifact(state)
    written = [write_report(ReportRequest(KEY, Path(name)), state, QuietUi()).path for name in ("a.html", "b.html")]
    assert written[0].read_bytes() == written[1].read_bytes()


def test_a_program_that_was_changed_is_told_of(state: StateDir, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = make_artifact(state)
    program(artifact).write_bytes(Path("/bin/false").read_bytes())
    assert run_cli(["report", KEY]) == 0
    assert "is not what its manifest says" in capsys.readouterr().err
    assert "is not what its manifest says" in read_page(Path("xenqemu-report.html").read_text()).text


def test_a_program_that_does_not_start_here_has_the_devices_of_its_profile(state: StateDir) -> None:
    make_artifact(state)
    # Exit code 1 is what a loader without a library ends with, too.
    program(state.artifacts / KEY).write_bytes(Path("/bin/false").read_bytes())
    write_report(ReportRequest(KEY, Path("a.html")), state, QuietUi())
    page = read_page(Path("a.html").read_text())
    assert "does not start on this machine" in page.text
    assert "Devices of profile hvm" in page.text


def test_devices_as_the_program_lists_them(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    make_artifact(state)
    monkeypatch.setattr("xenqemu.profile_pipeline.device_help", lambda binary: 'USB devices:\nname "usb-tablet"\n')
    write_report(ReportRequest(KEY, Path("a.html")), state, QuietUi())
    page = read_page(Path("a.html").read_text())
    assert "By kind: USB 1. Profile hvm has changed since" in page.text
    assert "device types" in page.text

    def gone(binary: Path) -> str:
        raise MissingError("no loader")

    monkeypatch.setattr("xenqemu.profile_pipeline.device_help", gone)
    write_report(ReportRequest(KEY, Path("b.html")), state, QuietUi())
    assert "does not start on this machine" in Path("b.html").read_text()


def test_times_come_from_a_build_directory_that_was_kept(state: StateDir) -> None:
    artifact = make_artifact(state)
    (artifact / "steps.json").unlink()
    (artifact / "timings.json").write_text("[]")
    build = state.builds / KEY / "build"
    build.mkdir(parents=True)
    (build / ".ninja_log").write_text("# ninja log v7\n0\t5\t1\ta.o\tc0\n")
    assert write_report(ReportRequest(KEY, Path("a.html")), state, QuietUi()).commands == 1
    (artifact / "timings.json").unlink()
    write_report(ReportRequest(KEY, Path("a.html")), state, QuietUi())


def test_a_page_that_cannot_be_written(state: StateDir, capsys: pytest.CaptureFixture[str]) -> None:
    make_artifact(state)
    assert run_cli(["report", KEY, "--out", "no/such/folder/page.html"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_browser_is_asked_for_the_page(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_artifact(state)
    opened: list[str] = []

    def start(uri: str) -> bool:
        opened.append(uri)
        return len(opened) < 2

    monkeypatch.setattr(webbrowser, "open", start)
    assert run_cli(["report", KEY, "--open"]) == 0
    assert opened == [Path("xenqemu-report.html").absolute().as_uri()]
    assert capsys.readouterr().err == ""
    open_page(Path("x.html"), QuietUi())
    assert "no browser could be started" in capsys.readouterr().err


def test_guests_of_this_program_only(state: StateDir, tmp_path: Path) -> None:
    mine, other = make_artifact(state) / "tree/bin/qemu-system-xen", tmp_path / "other"
    shutil.copy("/bin/false", other)
    make_run(state, 9, mine)
    make_run(state, 10, other, device_models={str(other): "0"})
    make_run(state, 11, tmp_path / "gone", device_models={})
    make_run(state, 12, mine, device_models={})
    make_run(state, 13, other, device_models=None)
    (state.lab / "runs/14").mkdir()
    (state.lab / "runs/15").mkdir()
    (state.lab / "runs/15/result.json").write_text("[1]")
    (state.lab / "runs/notes").mkdir()
    runs = lab_runs(state, program_sha256(), "10.2.2")
    assert [run.number for run in runs] == ["12", "9"]
    # Built anew since that run, which kept no hash: whether it is the same nobody knows.
    os.utime(mine, (2**31, 2**31))
    assert [run.number for run in lab_runs(state, program_sha256(), "10.2.2")] == ["9"]


def outcomes(state: StateDir, *guests: dict[str, Any]) -> list[tuple[str, str, str]]:
    run = lab_runs(state, program_sha256(), "10.2.2")[0]
    return [(one.name, one.word, one.state) for one in run.guests]


def test_what_came_of_guests(state: StateDir) -> None:
    model = make_artifact(state) / "tree/bin/qemu-system-xen"
    folder = state.lab / "runs/1"
    failed = {"booted": False, "sign": "", "memory": None, "boot_seconds": None}
    make_run(
        state,
        1,
        model,
        guest(folder, model, "fine"),
        guest(folder, model, "late", **failed, reason="the device model exited", log=["oops"]),
        guest(folder, model, "never", **failed, created=False, reason="no disk"),
        guest(folder, model, "unlucky", **failed, tried=False, reason="not tried: the host failed"),
        guest(folder, model, "no-boot-signature", **failed, reason="no bootable disk"),
        guest(Path("/home"), model, "no-boot-signature", **failed, reason="no bootable disk"),
    )
    assert outcomes(state) == [
        ("late", "did not boot", "bad"),
        ("never", "was not created", "bad"),
        ("unlucky", "not tried", "note"),
        ("no-boot-signature", "did not boot", "bad"),
        ("fine", "booted", "good"),
        ("no-boot-signature", "fails as it should", "good"),
    ]
    (run,) = lab_runs(state, program_sha256(), "10.2.2")
    assert (run.good, run.state) == (2, "bad")
    assert run.guests[0].detail == "the device model exited"


def test_screens_and_logs(state: StateDir, tmp_path: Path) -> None:
    model = make_artifact(state) / "tree/bin/qemu-system-xen"
    shot = make_picture(tmp_path / "shot.png")
    folder = state.lab / "runs/1"
    run = make_run(state, 1, model, guest(folder, model, screenshot=str(shot), stem=""))

    def look() -> Guest:
        return lab_runs(state, program_sha256(), "10.2.2")[0].guests[0]

    os.utime(shot, (1, 1))
    assert look().screen is not None
    os.utime(shot, (2**31, 2**31))
    assert look().screen is None
    make_picture(run / "boot-sector.png")
    assert look().screen is not None
    assert [log.title for log in look().logs] == ["what it wrote on the serial port"]
    assert look().logs[0].text == "xenqemu-guest: up\n\ufffd"
    failed = guest(folder, model, booted=False, reason="it broke")
    (run / "boot-sector.device-model.log").write_text("\x1b[0m\n")
    (run / "boot-sector.Odd.log").write_text("what is this?")
    (run / "boot-sector.net.log").mkdir()
    (run / "result.json").write_text(json.dumps({"guests": [failed], "device_models": {str(model): program_sha256()}}))
    assert [log.title for log in look().logs] == ["what it wrote on the serial port", "what xl said"]


def test_the_end_of_a_long_log_is_what_tells() -> None:
    text = readable("".join(f"line {number}\r\n" for number in range(2000)))
    assert text.startswith("…\nline ")
    assert text.endswith("\nline 1999")
    assert len(text) < 4100
    assert readable("\x1b[1;31mred\x1b(B\x1b[m") == "red"


HOSTILE = st.text(max_size=12) | st.sampled_from(
    ["<script>alert(1)</script>", "\"'><img src=x>", "\x00\x1b\ud800", "{{ 7 * 7 }}"]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(HOSTILE)
def test_whatever_is_shown_stays_text(text: str) -> None:
    def page(said: str) -> str:
        return render(
            Page(
                title=said,
                lead=said,
                version=said,
                warning="!" + said,
                tiles=(Tile(said, said, "inputs", "good"),),
                inputs=(Fact(said, said, code=True),),
                input_tables=(Table("t", said, (Column(said, code=True),), ((Cell("." + said),),)),),
                runs=(
                    LabRun(said, said, said, (Guest("." + said, said, "bad", "." + said, logs=(Log(said, said),)),)),
                ),
            )
        )

    hostile, plain = read_page(page(text)), read_page(page("x"))
    assert hostile.tags == plain.tags
    check_page(hostile)
