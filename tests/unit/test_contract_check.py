from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.unit import fake_contract_binary
from xenqemu import contract as public
from xenqemu.cli.main import main
from xenqemu.contract import machine as machine_module
from xenqemu.contract import table
from xenqemu.contract.checker import check
from xenqemu.contract.machine import Machine, descriptors, free_port
from xenqemu.contract.model import CheckReport, Contract, Verdict, xen_version
from xenqemu.contract.report import results
from xenqemu.errors import MissingError, UsageError
from xenqemu.results import junit
from xenqemu.ui import QuietUi

Command = Callable[..., tuple[int, str]]
ABOUT = """
xens = ["4.17.5", "4.20.4"]
groups = ["one"]
source = "libxl_dm.c: f"
[samples]
domid = "1"
folder = "{scratch}"
"""
# Name, what the fake makes of it for Xen 4.20, and its message in part.
EXPECTED = {
    "name": ("taken", ""),
    "disk": ("taken", ""),
    "bad": ("refused", "'bad' is not a valid device model name"),
    "forgiven": ("taken", "'bad' is not"),
    "known-gap": ("gap", "'badgap' is not a valid device model name (no library)"),
    "other-gap": ("refused", "'badgap' is not"),
    "gone": ("not passed", "libxl passes run-with instead"),
    "run-with": ("taken", ""),
    "runas": ("refused", "-runas: invalid option"),
    "run-user": ("not passed", "libxl passes runas instead"),
    "run-unknown": ("refused", "has no unknown"),
    "start-of-name": ("taken", ""),
    "xenfv": ("taken", ""),
    "xen-domid": ("taken", ""),
    "no-machine": ("refused", "unsupported machine type"),
    "environment": ("untried", "nothing to ask"),
    "eject": ("taken", ""),
    "eject-typed": ("refused", "eject takes a JSON string for id"),
    "eject-argument": ("refused", "eject has no argument colour"),
    "eject-nested": ("refused", "eject.addr takes a JSON int for port"),
    "eject-variant": ("taken", ""),
    "eject-missing": ("refused", "eject wants id too"),
    "command": ("refused", "there is no QMP command cpu-add"),
    "old": ("not passed", "QEMU <2.8 only"),
    "named": ("taken", ""),
    "not-named": ("refused", "eject has no ifname"),
    "cpu": ("taken", ""),
    "bad-add": ("refused", "no bad-usb"),
    "bad-setup": ("refused", "'bad' is not"),
    "pci": ("refused", "has no property permissive"),
    "crash": ("refused", "ended by SIGABRT"),
    "mute": ("refused", "ended with exit code 3 and without a word"),
    "large": ("taken", ""),
    "too-large": ("refused", "ended by SIGXFSZ"),
    "rom": ("refused", 'failed to find romfile "rom.rom"'),
}
ENTRIES = """
name: argv = ["-name", "{unknown}", "-m", "1"]
disk: argv = ["-device", "d,file={disk},port={port},fd={socket},folder={folder}"]
bad: argv = ["-device", "bad,x=1"]
forgiven: argv = ["-device", "bad"]; taken = "not a valid"
known-gap: argv = ["-device", "badgap"]; gaps = [{message = "badgap", reason = "no library", reference = "there"}]
other-gap: argv = ["-device", "badgap"]; gaps = [{qemu = "<9", reason = "no", reference = "there"}]
gone: argv = ["-chroot", "{folder}"]; unless = "run-with"; probe = "name"
run-with: argv = ["-run-with", "chroot={folder}"]; xen = ">=4.20.3"; probe = "options"
runas: argv = ["-runas", "nobody"]; unless = "run-user"; probe = "name"
run-user: argv = ["-run-with", "user=nobody"]; xen = ">=4.20.3"; probe = "options"
run-unknown: argv = ["-unknown", "user=nobody"]; probe = "options"
start-of-name: argv = ["-smp", "2"]; probe = "name"
xenfv: argv = ["-machine", "xenfv"]; probe = "xen"
xen-domid: argv = ["-xen-domid", "{domid}", "-machine", "xenfv"]; probe = "xen"
no-machine: argv = ["-machine", "badxen"]; probe = "xen"
environment: environment = ["A=b"]; probe = "none"
eject: execute = "eject"; arguments = {id = "x"}
eject-typed: execute = "eject"; arguments = {id = 1}
eject-argument: execute = "eject"; arguments = {id = "x", colour = true}
eject-nested: execute = "eject"; arguments = {id = "x", addr = {port = "1"}}
eject-variant: execute = "eject"; arguments = {id = "x", type = "fd", fd = "3"}
eject-missing: execute = "eject"
command: execute = "cpu-add"
old: execute = "cpu-add"; qemu = "<2.8"
named: argv = ["-netdev", "x"]; probe = "schema"; check = ["eject", "id", "port", "fd"]
not-named: argv = ["-netdev", "x"]; probe = "schema"; check = ["eject", "ifname"]
cpu: execute = "device_add"; arguments = {driver = "{cpu_type}", core-id = 0}; setup = ["-smp", "1"]; probe = "execute"
bad-add: execute = "device_add"; arguments = {driver = "bad-usb"}; probe = "execute"
bad-setup: execute = "device_add"; arguments = {driver = "x"}; setup = ["-device", "bad"]; probe = "execute"
pci: execute = "device_add"; arguments = {driver = "pt", addr = "1", permissive = true}; probe = "properties"
crash: argv = ["-device", "crash"]
mute: argv = ["-device", "mute"]
large: argv = ["-device", "large"]
too-large: argv = ["-device", "large"]; limits = {fsize = 262144, core = 0}
rom: argv = ["-device", "rom"]
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small contract."""
    folder = tmp_path_factory.mktemp("contract")
    lines = []
    for line in ENTRIES.strip().splitlines():
        name, _, fields = line.partition(": ")
        text = fields.replace("; ", "\n")
        lines.append(f'[[entry]]\nid = "{name}"\nkind = "option"\ncase = "base"\n{text}\n')
    (folder / "contract.toml").write_text(ABOUT)
    (folder / "one.toml").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def contract(small: Path) -> Contract:
    return table.load(small)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_contract_binary.write(tmp_path_factory.mktemp("bin") / "qemu-system-fake")


@pytest.fixture(scope="module")
def report(binary: Path, contract: Contract) -> CheckReport:
    return check(binary, xen_version("4.20"), contract, QuietUi())


@pytest.mark.parametrize("name", EXPECTED)
def test_verdict(report: CheckReport, name: str) -> None:
    verdict, message = EXPECTED[name]
    result = next(result for result in report.results if result.entry.id == name)
    assert (result.verdict.value, message in result.message) == (verdict, True), result.message


def test_every_entry_has_one(report: CheckReport) -> None:
    assert [result.entry.id for result in report.results] == list(EXPECTED)
    assert (str(report.qemu), report.package) == ("9.1.0", "fake")
    assert {result.entry.id for result in report.refused} == {
        name for name, (verdict, _) in EXPECTED.items() if verdict == "refused"
    }


def test_an_older_xen_has_no_other_spelling(binary: Path, contract: Contract) -> None:
    verdicts = {r.entry.id: r.verdict for r in check(binary, xen_version("4.17"), contract, QuietUi()).results}
    assert (verdicts["gone"], "run-with" in verdicts) == (Verdict.REFUSED, False)


def test_a_device_model_that_does_without_roms_gets_one(tmp_path: Path, contract: Contract) -> None:
    binary = fake_contract_binary.write(tmp_path / "qemu-system-fake", romless=True)
    results = {r.entry.id: r.verdict for r in check(binary, xen_version("4.20"), contract, QuietUi()).results}
    assert results["rom"] is Verdict.TAKEN


def test_data_files_that_the_binary_does_not_find(tmp_path: Path, binary: Path) -> None:
    (tmp_path / "rom.rom").touch()
    (tmp_path / "scratch").mkdir()
    assert Machine(binary, tmp_path / "scratch", [tmp_path]).start(("-device", "rom")).up


def test_one_that_hangs_is_killed(tmp_path: Path, binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "_TIMEOUT", 0.3)
    started = Machine(binary, tmp_path).start(("-device", "hang"))
    assert (started.up, started.complaint) == (False, "it hung: killed after 0 s")


def test_ctrl_c_leaves_no_process(tmp_path: Path, binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, processes = machine_module._converse, list[subprocess.Popen[bytes]]()

    def watched(process: subprocess.Popen[bytes], lines: Sequence[str]) -> tuple[list[Mapping[str, Any]], bool]:
        processes.append(process)
        return real(process, lines)

    def interrupted(_: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine_module, "_converse", watched)
    monkeypatch.setattr(machine_module, "_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Machine(binary, tmp_path).start(())
    assert processes[0].returncode == -signal.SIGKILL


def test_quit_waits_for_the_answers(tmp_path: Path) -> None:
    """QEMU ends with what it could not write yet, and a schema is more than a pipe holds."""
    program = tmp_path / "program"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os\n"
        "def say(message): os.write(1, json.dumps(message).encode() + b'\\n')\n"
        "say({'QMP': {}})\n"
        "while said := os.read(0, 65536):\n"
        "    if said.count(b'\\n') > 1: os._exit(3)\n"
        "    say({'return': said.decode()})\n"
        "    if b'quit' in said: os._exit(0)\n"
    )
    program.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    started = Machine(program, scratch).start((), [{"execute": "query-version"}, {"execute": "query-qmp-schema"}])
    assert started.up, started.complaint
    assert len(started.answers) == 3
    assert "query-qmp-schema" in started.answer(1)


@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 0\n", "#!/bin/sh\necho qemu: no machine pc >&2; exit 1\n"])
def test_what_is_no_device_model(tmp_path: Path, contract: Contract, content: str) -> None:
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(0o755)
    with pytest.raises(UsageError, match="does not start as an idle PC"):
        check(program, xen_version("4.17"), contract, QuietUi())


def test_what_cannot_be_run(tmp_path: Path) -> None:
    program = tmp_path / "program"
    with pytest.raises(MissingError, match="cannot be read"):
        public.check(program, "4.17", QuietUi())
    program.write_text("text")
    with pytest.raises(MissingError, match="cannot be run"):
        public.check(program, "4.17", QuietUi())


def test_descriptors_and_ports_can_be_used() -> None:
    with descriptors() as fds:
        assert len({os.fstat(fd).st_ino for fd in fds.values()}) == 2
    assert 0 < free_port() < 65536


def test_junit(report: CheckReport) -> None:
    suite = ElementTree.fromstring(junit(results(report)))
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert set(cases) == set(EXPECTED)
    failures = {name for name, case in cases.items() if case.find("failure") is not None}
    assert failures == {name for name, (verdict, _) in EXPECTED.items() if verdict == "refused"}
    assert (suite.get("tests"), suite.get("failures")) == (str(len(EXPECTED)), str(len(failures)))
    skipped = cases["known-gap"].find("skipped")
    assert skipped is not None
    assert "no library" in skipped.get("message", "")


@pytest.fixture
def command(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Command:
    loaded = table.load(small)
    monkeypatch.setattr(public, "load", lambda: loaded)
    monkeypatch.setattr(table, "load", lambda: loaded)
    monkeypatch.setenv("XENQEMU_STATE_DIR", str(tmp_path / "state"))

    def run(*words: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as error:
            main(["contract", *map(str, words)])
        return int(str(error.value.code)), capsys.readouterr().out

    return run


def test_command_check(command: Command, binary: Path, tmp_path: Path) -> None:
    code, out = command("check", binary, "--xen", "4.20", "--junit", tmp_path / "junit.xml")
    assert code == 8
    assert "bad\trefused\tevery guest\t'bad' is not a valid device model name\n" in out
    assert "\ttaken\t" not in out
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().tag == "testsuite"
    code, out = command("check", binary, "--xen", "4.20", "--json")
    facts = json.loads(out)
    assert (code, facts["xen"], facts["qemu"]) == (8, "4.20", "9.1.0")
    assert facts["counts"]["refused"] == len([row for row in facts["results"] if row["verdict"] == "refused"])
    code, out = command("check", binary, "--all", "--junit", tmp_path / "none/junit.xml")
    assert code == 5


def test_command_list(command: Command) -> None:
    code, out = command("list")
    assert (code, out.count("\n")) == (0, len(EXPECTED) + 1)
    assert "QMP eject(id='x')" in out
    code, out = command("list", "--xen", "4.17", "--json")
    entries = {entry["id"]: entry for entry in json.loads(out)["entries"]}
    assert code == 0
    assert "run-with" not in entries
    assert entries["known-gap"]["gaps"][0]["reason"] == "no library"
    assert command("list", "--xen", "new")[0] == 2
