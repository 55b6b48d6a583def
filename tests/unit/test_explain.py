"""Why a guest did not start: the table against its own examples, logs of any kind, and what the command says."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenqemu import explain_pipeline
from xenqemu.cli.main import main
from xenqemu.errors import UsageError
from xenqemu.explain import Cause, Explanation, causes, explain, log_of, read_log, reading
from xenqemu.explain.page import example, page
from xenqemu.explain.table import host_places, kinds, name_of, places
from xenqemu.explain_pipeline import explain_named
from xenqemu.lab.reasons import explained
from xenqemu.lab.result import GuestResult
from xenqemu.state import StateDir

ROOT = Path(__file__).resolve().parents[2]
NOT_STARTED = "libxl: error: libxl_create.c:1896:domcreate_devmodel_started: Domain 10:device model did not start: -3\n"
SPAWN_FAILED = """\
Parsing config from /tmp/guest.cfg
libxl: error: libxl_dm.c:3161:device_model_spawn_outcome: Domain 10:domain 10 device model: spawn failed (rc=-3)
"""
NO_ACPI = """\
char device redirected to /dev/pts/1 (label serial0)
qemu-system-xen: -no-acpi: invalid option
"""
ANY_LOG = st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /var/log/xen, with the logs of a guest that did not start."""
    folder = tmp_path / "xen"
    folder.mkdir()
    (folder / "qemu-dm-guest.log").write_text(NO_ACPI)
    (folder / "xl-guest.log").write_text(SPAWN_FAILED + NOT_STARTED)
    monkeypatch.setattr(
        explain_pipeline, "places", lambda name: tuple(folder / path.name for path in places(name) if path.parent.name)
    )
    monkeypatch.setattr(explain_pipeline, "host_places", lambda: (folder / "xen-hotplug.log",))
    return folder


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def only(found: tuple[Explanation, ...]) -> Explanation:
    assert len(found) == 1
    return found[0]


# --- The table ---


@pytest.mark.parametrize("cause", causes(), ids=lambda cause: cause.id)
def test_every_entry_explains_its_example(cause: Cause) -> None:
    found = example(cause)
    assert found.lines
    assert found.cause.endswith(".")
    assert found.remedy.endswith(".")
    assert not re.search(r"[{}]|\(\)|: \.|  ", found.cause + found.remedy)


def test_the_table_is_in_order() -> None:
    ids = [cause.id for cause in causes()]
    assert len(set(ids)) == len(ids)
    for cause in causes():
        assert set(cause.on) <= kinds().keys()
        assert cause.source
        assert bool(cause.reason) == cause.fatal
    assert ids[-1] == next(reversed([cause.id for cause in causes() if cause.symptom])), "symptoms come last"


def test_where_logs_are_looked_for() -> None:
    assert Path("/var/log/xen/qemu-dm-my guest.log") in places("my guest")
    assert all(path.is_absolute() for path in (*places("x"), *host_places()))


def test_an_example_that_is_not_explained_is_an_error() -> None:
    with pytest.raises(LookupError, match="by nothing"):
        example(replace(causes()[0], example="all is well"))


@pytest.mark.parametrize("text", ["x" * 4000, "a:1" * 1300, "/a/scripts/" * 300, "' failed" * 500])
def test_no_pattern_takes_long(text: str) -> None:
    for cause in causes():
        started = time.process_time()
        cause.pattern.search(text)
        assert time.process_time() - started < 0.5, cause.id


def test_the_page_is_made_of_the_table() -> None:
    assert (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8") == page(), "run scripts/troubleshooting"
    script = [sys.executable, str(ROOT / "scripts/troubleshooting"), "--check"]
    assert subprocess.run(script, capture_output=True, check=False).returncode == 0


# --- Logs together ---


def test_what_libxl_says_and_what_the_device_model_says_is_one_cause() -> None:
    found = explain([log_of(SPAWN_FAILED + NOT_STARTED, "libxl", "xl"), log_of(NO_ACPI, "device-model", "dm")])
    assert [finding.id for finding in found.findings] == ["no-acpi"]
    assert found.known
    assert str(found.findings[0].lines[0]) == "dm:2: qemu-system-xen: -no-acpi: invalid option"
    assert found.findings[0].lines[1].path == "xl"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (None, "device-model-not-started"),
        ("VNC server running on 127.0.0.1:5900\n", "device-model-silent"),
        ("qemu-system-xen: something new\n", "device-model-unknown"),
    ],
)
def test_a_symptom_is_told_where_there_is_no_cause(log: str | None, cause: str) -> None:
    logs = [log_of(NOT_STARTED, "libxl")] + ([log_of(log, "device-model")] if log is not None else [])
    found = explain(logs)
    assert [finding.id for finding in found.findings] == [cause]
    assert found.failed
    assert not found.known
    assert ("something new" in found.findings[0].cause) == (cause == "device-model-unknown")


def test_a_silent_end_in_the_sandbox() -> None:
    using = "libxl: debug: libxl_dm.c:219:libxl__domain_get_device_model_uid: Domain 9:using uid 400009\n"
    found = explain([log_of(using + NOT_STARTED, "libxl"), log_of("", "device-model")])
    assert [finding.id for finding in found.findings] == ["sandbox-file-size"]


def test_what_libxl_says_for_debugging_is_no_cause() -> None:
    debug = (
        "libxl: debug: libxl_exec.c:127:f: domain 1 device model (dying as expected) [223] died due to fatal signal 9"
    )
    assert not explain([log_of(debug, "libxl")]).failed


def test_a_consequence_gives_way() -> None:
    reset = (
        "libxl: error: libxl_qmp.c:1399:qmp_ev_fd_callback: Domain 5:error on QMP socket: Connection reset by peer\n"
    )
    assert [one.id for one in explain([log_of(reset, "libxl")]).findings] == ["device-model-died"]
    both = explain([log_of(reset, "libxl"), log_of(NO_ACPI, "device-model")])
    assert [one.id for one in both.findings] == ["no-acpi"]


def test_several_causes_are_all_told() -> None:
    two = "qemu: failed to initialize spice server\nqemu: -device ac97: no default audio driver available\n"
    assert {one.id for one in explain([log_of(two, "device-model")]).findings} == {"sound", "spice-start"}


def test_only_the_last_attempt_counts() -> None:
    past = SPAWN_FAILED + NOT_STARTED + "Parsing config from /tmp/guest.cfg\n"
    assert not explain([log_of(past, "libxl")]).failed
    again = log_of(past + 'libxl: error: libxl_domain.c:81:f: Domain with name "guest" already exists.\n', "libxl")
    assert [(one.id, one.lines[0].number) for one in explain([again]).findings] == [("name-taken", 5)]


def test_a_log_of_another_kind_is_not_held_against_an_entry() -> None:
    assert not explain([log_of(NO_ACPI, "guest")]).findings
    assert [one.id for one in explain([log_of(NO_ACPI, "")]).findings] == ["no-acpi"]


def test_a_device_that_a_stub_domain_gets_later_is_no_missing_disk() -> None:
    said = (
        "libxl: error: libxl_qmp.c:1837:f: Domain 1:Could not open '/sys/bus/pci/devices/0000:00:00.0/config': "
        "No such file or directory\nlibxl: error: libxl_pci.c:1270:f: Domain 1:Retrying PCI add 1\n"
    )
    assert explain([log_of(said, "libxl")]).findings == ()
    never = said + "libxl: error: libxl_pci.c:1270:f: Domain 1:Retrying PCI add 10\n"
    assert [one.id for one in explain([log_of(never, "libxl")]).findings] == ["pci-stub-domain"]


def test_what_nobody_knows_is_shown_without_the_noise() -> None:
    xl = "libxl: debug: f.c:1:f: failed to do much\nlibxl: error: f.c:2:f: it was odd\nlibxl: error: f.c:3:f: odder\n"
    found = explain([log_of(xl, "libxl"), log_of("VNC server running on 127.0.0.1:5900\nodd\n", "device-model")])
    assert [line.text for line in found.lines] == [*xl.splitlines()[1:], "odd"]
    assert found.failed
    assert not found.known
    assert found.cause is None


@given(ANY_LOG, st.sampled_from([*kinds(), ""]))
@settings(deadline=None)
def test_any_log_can_be_read(text: str, kind: str) -> None:
    found = explain([log_of(text, kind, text[:20])])
    shown = json.dumps(found.as_dict(), ensure_ascii=False)
    lines = [str(line) for line in found.lines] + [str(line) for one in found.findings for line in one.lines]
    assert all(char == "\t" or char.isprintable() for line in lines for char in line)
    assert shown.encode()


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_can_be_read(data: bytes) -> None:
    for line in log_of(data, "").lines:
        assert "\n" not in line.text
        assert "\x1b" not in line.text
        line.text.encode()


# --- Files ---


@pytest.mark.parametrize(
    ("file", "kind", "guest"),
    [
        ("qemu-dm-my-guest.log", "device-model", "my-guest"),
        ("qemu-dm-my.guest.log.3", "device-model", "my.guest"),
        ("xl-guest.log", "libxl", "guest"),
        ("libxl-driver.log", "libxl", ""),
        ("boot-sector.device-model.log", "device-model", "boot-sector"),
        ("linux.serial-port-1.log", "guest", "linux"),
        ("linux.firmware.log", "firmware", "linux"),
        ("console.log", "host", ""),
        ("syslog", "", ""),
    ],
)
def test_names_of_logs(file: str, kind: str, guest: str) -> None:
    assert name_of(file) == (kind, guest)


def test_a_huge_log_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_BYTES", 1000)
    path = tmp_path / "qemu-dm-guest.log"
    path.write_bytes(b"qemu: -spice: invalid option\n" + b"noise\n" * 1000 + NO_ACPI.encode())
    log = read_log(path)
    assert log.cut
    assert len(log.lines) < 200
    assert {line.number for line in log.lines} == {0}
    found = explain([log])
    assert [one.id for one in found.findings] == ["no-acpi"]
    assert str(found.findings[0].lines[0]) == f"{path}: qemu-system-xen: -no-acpi: invalid option"


def test_a_line_without_end_is_cut() -> None:
    assert len(log_of("x" * 100_000, "").lines[0].text) == 4000


def test_control_characters_never_get_out() -> None:
    log = log_of(b"\x1b]0;title\x07qemu: \x1b[31mfailed to initialize spice server\x1b[0m\x9b\xff\r\n\x00", "")
    found = explain([log])
    assert found.findings[0].id == "spice-start"
    assert "\x1b" not in str(found.findings[0].lines[0])
    assert "\x9b" not in str(found.findings[0].lines[0])


@pytest.mark.parametrize("size", [10, 3000])
def test_standard_input(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_BYTES", 1000)
    stdin = io.TextIOWrapper(io.BytesIO(b"noise\n" * size + NO_ACPI.encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    log = read_log(Path("-"))
    assert log.cut == (size == 3000)
    assert explain([log]).findings[0].id == "no-acpi"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there, or is no file"):
        read_log(tmp_path / "missing.log")
    with pytest.raises(UsageError, match="is not there, or is no file"):
        read_log(Path("/dev/zero"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_log(tmp_path / ("x" * 300))


# --- What is named ---


def test_a_guest_of_this_host(logs: Path, state: StateDir) -> None:
    (logs / "xen-hotplug.log").write_text("other: /etc/xen/scripts/block: fatal /dev/x does not exist\n")
    found = only(explain_named(["guest"], state))
    assert found.subject == "guest"
    assert [one.id for one in found.findings] == ["no-acpi"]
    assert [log.kind for log in found.logs] == ["device-model", "libxl", "hotplug"]
    assert not found.logs[2].lines


def test_a_guest_that_nobody_knows(logs: Path, state: StateDir) -> None:
    with pytest.raises(UsageError, match="no log of a guest called 'nobody'"):
        explain_named(["nobody"], state)
    with pytest.raises(UsageError, match="has not run anything yet"):
        explain_named([], state)
    with pytest.raises(UsageError, match="is not there"):
        explain_named(["./nobody"], state)


def test_files_are_read_together(logs: Path, state: StateDir) -> None:
    found = only(explain_named([str(logs / "xl-guest.log"), str(logs / "qemu-dm-guest.log")], state))
    assert (found.subject, [one.id for one in found.findings]) == ("guest", ["no-acpi"])


def test_a_folder_is_taken_apart_by_guests(logs: Path, state: StateDir, tmp_path: Path) -> None:
    (logs / "qemu-dm-other.log").write_text("char device redirected to /dev/pts/1 (label serial0)\n")
    found = {one.subject: one for one in explain_named([str(logs)], state)}
    assert found["guest"].known
    assert not found["other"].failed
    (tmp_path / "host").mkdir()
    (tmp_path / "host/console.log").write_text("(XEN) Panic on CPU 0:\n")
    assert [one.id for one in only(explain_named([str(tmp_path / "host")], state)).findings] == ["xen-panic"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no logs in it"):
        explain_named([str(tmp_path / "empty")], state)


def test_a_folder_that_may_not_be_read(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        explain_named([str(tmp_path)], state)


def test_runs_of_the_lab(logs: Path, state: StateDir) -> None:
    for number, text in ((9, NO_ACPI), (10, "")):
        run = state.lab / "runs" / str(number)
        run.mkdir(parents=True)
        (run / f"case-{number}.device-model.log").write_text(text)
        (run / f"case-{number}.xl.log").write_text(NOT_STARTED)
    (run / "result.json").write_text(
        json.dumps({"guests": [{"name": "no-disk", "reason": "disk hda: /x/y.img: No such file or directory"}]})
    )
    last = {one.subject: one for one in explain_named([], state)}
    assert {name: one.findings[0].id for name, one in last.items()} == {
        "case-10": "device-model-silent",
        "no-disk": "image-missing",
    }
    assert only(explain_named(["case-9"], state)).findings[0].id == "no-acpi"


def test_a_log_that_goes_while_it_is_looked_at(logs: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    assert explain_pipeline._time(logs / "gone") == 0


# --- The command, and the lab ---


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(str(ended.value.code))


def test_the_command(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "guest") == 0
    out = capsys.readouterr().out
    assert out.startswith("guest: acpi = 0 makes libxl pass -no-acpi")
    assert "qemu-dm-guest.log:2: qemu-system-xen: -no-acpi: invalid option" in out
    assert run("explain", "guest", "--json") == 0
    facts = json.loads(capsys.readouterr().out)["explanations"][0]
    assert facts["known"]
    assert facts["causes"][0]["id"] == "no-acpi"
    assert facts["causes"][0]["lines"][0]["line"] == 2
    assert facts["logs"][0]["kind"] == "device-model"


def test_the_command_does_not_know(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (logs / "qemu-dm-guest.log").write_text("qemu-system-xen: something new\n")
    assert run("explain", "guest") == 8
    assert "something new" in capsys.readouterr().out
    (logs / "xl-guest.log").unlink()
    assert run("explain", "guest") == 8
    assert "the cause is not known; these lines matter" in capsys.readouterr().out
    (logs / "qemu-dm-guest.log").write_text("")
    assert run("explain", "guest") == 0
    assert "nothing in its logs speaks of a failure" in capsys.readouterr().out
    assert run("explain", "nobody") == 2


def test_the_lab_takes_cause_and_remedy_from_the_table() -> None:
    failed = GuestResult(
        "guest", "guest.cfg", reason="the device model exited: qemu-system-xen: -no-acpi: invalid option"
    )
    told = failed.explained_by(explained(failed.reason, {"xl": NOT_STARTED, "device-model": NO_ACPI, "firmware": ""}))
    assert told.cause.startswith("acpi = 0 makes libxl pass -no-acpi")
    assert told.remedy.startswith("Use a device model of `xenqemu build`")
    unknown = failed.explained_by(explained("something else", {}), "look at it")
    assert (unknown.cause, unknown.remedy) == ("", "look at it")
