"""`contract run`: which guests it boots, what it makes of what came of them, and how it tells."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xenqemu import contract_pipeline
from xenqemu.boot_pipeline import BootRequest
from xenqemu.cli.contract import command
from xenqemu.contract import outcome
from xenqemu.contract.kept import kept_runs
from xenqemu.contract.model import Contract, Entry, Gap, Probe
from xenqemu.contract.outcome import Outcome, RunReport, cases_of, judge
from xenqemu.contract.page import Column, page
from xenqemu.contract.table import load
from xenqemu.contract_pipeline import ContractRequest, run_contract
from xenqemu.errors import EXIT_LAB, LabError
from xenqemu.lab.cases import Case, KnownGap, load_cases
from xenqemu.lab.result import GuestResult, Report
from xenqemu.results import junit
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi

XEN, QEMU = Version("4.20.3"), Version("10.2.2")
GAP = KnownGap("no such thing", "QEMU took it away", "vl.c", qemu=SpecifierSet(">=10.0"))


def case(name: str, **more: Any) -> Case:
    return Case(name, f"tries {name}", "linux", group="some", timeout=60, **more)


def entry(name: str, case: str, **more: Any) -> Entry:
    return Entry(name, "group", "option", "libxl_dm.c", case, Probe.START, argv=("-x",), **more)


def contract(*entries: Entry) -> Contract:
    return Contract((Version("4.17.99"), Version("4.20.99")), {}, entries)


GOOD = GuestResult("a", "a.cfg", created=True, booted=True, sign="up", create_seconds=5, boot_seconds=12.5)
BAD = GuestResult("a", "a.cfg", reason="the device model exited", log=("no such thing: -x",))
FIGURE = {
    "situation": "idle",
    "screen": "640x480",
    "tracking": "on",
    "bytes": 0,
    "rectangles": 0,
    "frame": 1228800,
    "pages": 0,
    "asked": 6,
    "of": 300,
    "cpu": 0.01,
}
WHY: dict[str, Any] = {"cause": "QEMU does not know it.", "remedy": "Use another."}


def test_every_case_that_the_contract_names_is_there() -> None:
    assert not {entry.case for entry in load().entries} - {case.name for case in load_cases()}


def test_which_cases_a_combination_has_to_show() -> None:
    cases = [
        case("works"),
        case("fails-on-purpose", fails="x"),
        case("newer-xen", xen=Version("4.21")),
        case("newer-qemu", qemu=Version("11.0")),
        case("of-another-xen"),
        case("of-another-qemu"),
        case("of-both"),
        replace(case("elsewhere"), kind="none"),
    ]
    table = contract(
        entry("1", "of-another-xen", xen=SpecifierSet("<4.20")),
        entry("2", "of-another-qemu", qemu=SpecifierSet("<10")),
        entry("3", "of-both", xen=SpecifierSet("<4.20")),
        entry("4", "of-both"),
    )
    assert [one.name for one in cases_of(cases, table, XEN, QEMU)] == ["works", "of-both", "elsewhere"]


@pytest.mark.parametrize(
    ("gaps", "result", "expected", "reason"),
    [
        ((), GOOD, Outcome.WORKS, ""),
        ((), BAD, Outcome.FAILS, ""),
        ((GAP,), BAD, Outcome.GAP, "QEMU took it away"),
        ((GAP,), replace(BAD, log=()), Outcome.FAILS, ""),  # it fails in another way
        ((GAP,), GOOD, Outcome.MENDED, "QEMU took it away"),
        ((replace(GAP, qemu=SpecifierSet("<10.0")),), BAD, Outcome.FAILS, ""),
        ((replace(GAP, some_builds=True),), BAD, Outcome.GAP, "QEMU took it away"),
        ((replace(GAP, some_builds=True),), GOOD, Outcome.WORKS, ""),
        ((replace(GAP, some_builds=True), GAP), GOOD, Outcome.MENDED, "QEMU took it away"),
        ((replace(GAP, fails="other", some_builds=True), GAP), BAD, Outcome.GAP, "QEMU took it away"),
        ((), None, Outcome.ELSEWHERE, ""),
    ],
)
def test_what_came_of_a_case(
    gaps: tuple[KnownGap, ...], result: GuestResult | None, expected: Outcome, reason: str
) -> None:
    found = judge(case("a", gaps=gaps), result, contract(entry("1", "a"), entry("2", "b")), XEN, QEMU)
    assert (found.outcome, found.reason, found.entries) == (expected, reason, ("1",))
    assert found.outcome.expected is (expected not in (Outcome.FAILS, Outcome.MENDED))


def test_what_a_build_lacks_is_a_gap_when_it_says_so_and_no_surprise_when_it_has_it() -> None:
    lacks = Gap("this build has none", "profiles.md", SpecifierSet(), SpecifierSet(), message="no such thing")
    by_version = replace(lacks, message="")
    table = contract(entry("1", "a", gaps=(lacks,)))
    assert judge(case("a"), BAD, table, XEN, QEMU).outcome is Outcome.GAP
    assert judge(case("a"), GOOD, table, XEN, QEMU).outcome is Outcome.WORKS
    assert judge(case("a"), BAD, contract(entry("1", "a", gaps=(by_version,))), XEN, QEMU).outcome is Outcome.FAILS


@pytest.fixture
def report() -> RunReport:
    table = contract(entry("1", "a"))
    elsewhere = Case("d", "needs an IOMMU", "none", reason="no IOMMU", reference="lab.md", group="other")
    outcomes = (
        judge(case("a"), GOOD, table, XEN, QEMU),
        judge(case("b"), replace(BAD, reason="it \x1b[1m says <no>", **WHY), table, XEN, QEMU),
        judge(case("c", gaps=(GAP,)), BAD, table, XEN, QEMU),
        judge(elsewhere, None, table, XEN, QEMU),
    )
    return RunReport("/dm", QEMU, "4.20.3", outcomes, 61.5, (Path("/logs"),))


def test_a_report_as_table_and_json(report: RunReport) -> None:
    _, rows = outcome.table(report, everything=False)
    assert rows == [
        ("b", "fails", "-", "it \x1b[1m says <no>"),
        ("c", "gap", "-", "QEMU took it away (vl.c)"),
        ("d", "not here", "-", "no IOMMU (lab.md)"),
    ]
    assert outcome.table(report, everything=True)[1][0] == ("a", "works", "18 s", "tries a")
    assert outcome.sentence(report) == "QEMU 10.2.2 under Xen 4.20.3: 1 works, 1 gap, 1 fails, 1 not here"
    facts = json.loads(json.dumps(outcome.facts(report)))
    assert facts["counts"] == {"works": 1, "gap": 1, "fails": 1, "not here": 1}
    assert [(one["case"], one["expected"]) for one in facts["cases"]] == [
        *(("a", True), ("b", False), ("c", True), ("d", True))
    ]
    assert [one["cause"] for one in facts["cases"]] == ["", WHY["cause"], "", ""]
    assert [one.get("log") for one in facts["cases"]] == [None, ["no such thing: -x"], None, None]
    assert outcome.causes(report) == ("b: QEMU does not know it. Use another.",)


def test_what_a_guest_has_measured_is_in_the_report(report: RunReport) -> None:
    measured = judge(case("v"), replace(GOOD, figures=(FIGURE,)), contract(), XEN, QEMU)
    facts = outcome.facts(replace(report, outcomes=(*report.outcomes, measured)))
    assert [one.get("figures") for one in facts["cases"]] == [None, None, None, None, [FIGURE]]


def test_a_report_as_junit(report: RunReport) -> None:
    suite = ElementTree.fromstring(junit(outcome.results(report)))
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")} == {
        "tests": "4",
        "failures": "1",
        "skipped": "2",
        "errors": "0",
    }
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "it ?[1m says <no>"
    assert (failure.text or "").endswith("QEMU does not know it.\nUse another.\nno such thing: -x")
    assert [element.get("message") for element in suite.iter("skipped")] == [
        "gap: QEMU took it away (vl.c)",
        "not here: no IOMMU (lab.md)",
    ]


def test_runs_side_by_side(report: RunReport) -> None:
    facts = outcome.facts(report)
    other = outcome.facts(replace(report, outcomes=report.outcomes[:1]))
    text = page(
        [Column("4.20", "QEMU 10.2", facts), Column("4.20", "Debian's", other)], {"1": 'disk = ["a|b"]', "2": "no"}
    )
    assert "| 4.20.3 | QEMU 10.2 | 1 | 1 | 1 | 1 |" in text
    assert '| `a` tries a<br>`disk = ["a\\|b"]` | yes | yes |' in text
    assert "| `b` tries b | **no** (1) |  |" in text
    assert "| `c` tries c | gap (2) |  |" in text
    assert "2. QEMU took it away (vl.c)" in text
    assert "1. it ?[1m says &lt;no>" in text


class Hosts:
    """Plays `boot_cases`: each batch in a host of its own, in which the guests called `breaks` end the host."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.breaks: list[str] = []
        self.fails: list[str] = []
        self.late: list[str] = []
        self.no_host = 0
        self.lock = threading.Lock()

    @contextmanager
    def boot_cases(
        self, cases: Sequence[Case], request: BootRequest, state: StateDir, ui: object
    ) -> Iterator[SimpleNamespace]:
        with self.lock:
            self.batches.append([case.name for case in cases])
            if self.no_host:
                self.no_host -= 1
                raise LabError("the virtual host did not come up")
            results, broken = [], ""
            for case in cases:
                result = replace(GOOD if case.name not in self.fails else BAD, name=case.name)
                if case.name in self.late:
                    self.late.remove(case.name)
                    result = replace(BAD, name=case.name, late=True)
                if broken:
                    result = GuestResult(case.name, "", tried=False, reason=f"not tried: {broken}")
                elif case.name in self.breaks:
                    self.breaks.remove(case.name)
                    broken = "the virtual host failed"
                    result = GuestResult(case.name, "", reason=broken)
                results.append(result)
                if request.told:
                    request.told(result)
        yield SimpleNamespace(report=Report("4.20.3", 7.0, tuple(results), Path("/run")))


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    hosts = Hosts()
    model = SimpleNamespace(version="10.2.2")
    monkeypatch.setattr("xenqemu.boot_pipeline.boot_cases", hosts.boot_cases)
    monkeypatch.setattr("xenqemu.vm.device_model.Interview", lambda *_: SimpleNamespace(model=lambda: model))
    monkeypatch.setattr("xenqemu.lab.device_model.inspect_device_model", lambda path: path)
    monkeypatch.setattr("xenqemu.lab.run.choose_xen", lambda xen, models, ui: xen or "4.20")
    base = SimpleNamespace(xen_version="4.20.3", series="4.20")
    monkeypatch.setattr("xenqemu.lab.base.prepare", lambda *_: base)
    monkeypatch.setattr("xenqemu.contract.table.load", lambda: contract(entry("1", "g0")))
    monkeypatch.setattr("xenqemu.lab.cases.load_cases", lambda: tuple(case(f"g{number}") for number in range(30)))
    monkeypatch.setattr(contract_pipeline, "_hosts", lambda: 2)
    return hosts


def test_guests_are_shared_out_over_hosts(hosts: Hosts, state: StateDir, capsys: pytest.CaptureFixture[str]) -> None:
    hosts.fails = ["g7"]
    report = run_contract(ContractRequest(Path("/dm")), state, QuietUi())
    assert sorted(len(batch) for batch in hosts.batches) == [6, 12, 12]
    assert [one.case.name for one in report.outcomes] == [f"g{number}" for number in range(30)]
    assert [one.case.name for one in report.unexpected] == ["g7"]
    assert report.logs == (Path("/run"),) * 3
    assert "not kept for `xenqemu report`: No such file" in capsys.readouterr().err


def test_after_a_host_has_failed_the_rest_is_tried_in_another(hosts: Hosts, state: StateDir) -> None:
    hosts.breaks = ["g4", "g4"]
    report = run_contract(ContractRequest(Path("/dm"), jobs=1), state, QuietUi())
    assert [one.case.name for one in report.unexpected] == ["g4"]  # twice: it is the guest's doing
    assert report.unexpected[0].detail == "the virtual host failed"
    hosts.breaks = ["g4"]
    assert not run_contract(ContractRequest(Path("/dm"), jobs=1), state, QuietUi()).unexpected


def test_a_device_model_that_libxl_did_not_wait_for_has_a_second_chance(hosts: Hosts, state: StateDir) -> None:
    hosts.late = ["g4"]
    assert not run_contract(ContractRequest(Path("/dm"), jobs=1), state, QuietUi()).unexpected
    assert hosts.batches[-1] == [f"g{number}" for number in range(24, 30)] + ["g4"]
    hosts.late = ["g4", "g4"]
    assert [one.case.name for one in run_contract(ContractRequest(Path("/dm")), state, QuietUi()).unexpected] == ["g4"]


def test_no_host_comes_up(hosts: Hosts, state: StateDir) -> None:
    hosts.no_host = 1
    assert not run_contract(ContractRequest(Path("/dm"), jobs=1), state, QuietUi()).unexpected
    hosts.no_host = 9
    with pytest.raises(LabError, match="did not come up"):
        run_contract(ContractRequest(Path("/dm"), jobs=1), state, QuietUi())


@pytest.fixture
def xenqemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("XENQEMU_STATE_DIR", str(tmp_path / "state"))

    def run(*words: object) -> Result:
        return CliRunner().invoke(command, ["run", *map(str, words)], standalone_mode=False, catch_exceptions=False)

    return run


def test_the_command(
    hosts: Hosts, xenqemu: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "dm"
    model.write_text("")
    hosts.fails = ["g7"]
    done = xenqemu("--dm", model, "--junit", tmp_path / "junit.xml", "--json")
    assert done.return_value == EXIT_LAB
    assert json.loads(done.stdout)["counts"] == {"works": 29, "fails": 1}
    kept = kept_runs(sha256(b"").hexdigest(), StateDir(tmp_path / "state"))
    assert kept["4.20.3"]["counts"] == {"works": 29, "fails": 1}
    assert b'failures="1"' in (tmp_path / "junit.xml").read_bytes()
    monkeypatch.setitem(globals(), "BAD", replace(BAD, **WHY))
    assert "g7: QEMU does not know it. Use another." in xenqemu("--dm", model).stderr
    hosts.fails = []
    done = xenqemu("--dm", model, "--all")
    assert done.return_value == 0
    assert "g7\tworks\t18 s\ttries g7" in done.stdout
    monkeypatch.setitem(globals(), "GOOD", replace(GOOD, figures=(FIGURE,)))
    assert "g7:\nsituation\tscreen" in xenqemu("--dm", model, "g7").stdout


def test_an_interrupted_run_waits_for_no_host(hosts: Hosts, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on, ended = threading.Event(), threading.Event()
    boot_cases = hosts.boot_cases

    @contextmanager
    def slow(cases: Sequence[Case], request: BootRequest, *more: Any) -> Iterator[SimpleNamespace]:
        try:
            going_on.wait(30)
            with boot_cases(cases, request, *more) as booted:
                yield booted
        finally:
            ended.set()

    class Interrupted(QuietUi):
        def progress(self, title: str) -> Any:
            return InterruptedProgress()

    class InterruptedProgress:
        def __enter__(self) -> InterruptedProgress:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, *_: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("xenqemu.boot_pipeline.boot_cases", slow)
    with pytest.raises(KeyboardInterrupt):
        run_contract(ContractRequest(Path("/dm"), jobs=1), state, Interrupted())
    assert not ended.is_set()
    going_on.set()
    assert ended.wait(30)
    assert len(hosts.batches) == 1
