"""A whole run, with commands and guests that are put in the place of real ones."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from xenqemu import bench_pipeline
from xenqemu.bench import configured, ours, process
from xenqemu.bench.builds import BuildJob, build_binary, measure_builds
from xenqemu.bench.ledger import Ledger
from xenqemu.bench.model import OURS, Contender, find_contenders
from xenqemu.bench.rows import Row
from xenqemu.bench_pipeline import BenchRequest, run_bench
from xenqemu.boot_pipeline import stage_case
from xenqemu.cli.main import cli
from xenqemu.errors import BuildError, LabError, MissingError
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi

GUIDE, TRIMMED, PROFILE = find_contenders(("guide", "xcp-ng", OURS))

_CONFIGURE = """#!/bin/sh
echo "$@" >>../configured
"""
_NINJA = """#!/bin/sh
for last; do :; done
cat ../hw/xen/xen-bus.c >"$last"
echo "[1/7] done"
"""
_XENQEMU = """#!/bin/sh
echo "$@" >>"{calls}"
while [ $# -gt 0 ]; do
    case $1 in --state-dir) state=$2 ;; --out) out=$2 ;; esac
    shift
done
[ -z "$out" ] && exit 0
mkdir -p "$out/bin" "$state/artifacts/key"
cp /bin/true "$out/bin/qemu-system-xen"
echo '{{"program": "bin/qemu-system-xen"}}' >"$out/manifest.json"
echo '{{"compile": {{"wall": 0.001}}}}' >"$state/artifacts/key/timings.json"
echo '@xenqemu 5 9@ x' >"$state/artifacts/key/build.log"
"""


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildJob:
    """A tarball of a tree that has what is needed, and programs that do as if they built it."""
    tree = tmp_path / "qemu-10.2.2"
    (tree / "hw/xen").mkdir(parents=True)
    (tree / "configs/devices/i386-softmmu").mkdir(parents=True)
    (tree / "hw/xen/xen-bus.c").write_text("int bus;\n")
    (tree / "pc-bios").mkdir()
    _program(tree / "configure", _CONFIGURE)
    with tarfile.open(tmp_path / "qemu.tar", "w") as archive:
        archive.add(tree, tree.name)
    ninja = _program(tmp_path / "bin/ninja", _NINJA)
    monkeypatch.setattr(configured, "_ninja", lambda: ninja)
    stub = _program(tmp_path / "bin/xenqemu", _XENQEMU.format(calls=tmp_path / "calls"))
    monkeypatch.setattr(ours, "command", lambda: stub)
    monkeypatch.setattr(process, "_POLL_SECONDS", 0.001)
    return BuildJob(tmp_path / "qemu.tar", tmp_path / "work", 2, 2)


_FIGURES = {"cold-cpu", "cold-wall", "steps", "noop-wall", "warm-cpu", "warm-wall"}
_FIGURES |= {"edit-cpu", "edit-wall", "edit-cached-cpu", "edit-cached-wall"}


@pytest.mark.parametrize("contender", [GUIDE, TRIMMED, PROFILE], ids=lambda one: one.name)
def test_all_builds_are_measured_and_only_once(contender: Contender, job: BuildJob) -> None:
    ledger = Ledger(job.work / "measured")
    values = list(measure_builds(contender, job, ledger, QuietUi()))
    names = [name for found in values for name in found]
    assert set(names) >= _FIGURES
    assert names.count("cold-cpu") == names.count("warm-cpu") == names.count("edit-cached-wall") == 2
    assert names.count("noop-wall") == 1
    assert {found["steps"] for found in values if "steps" in found} == {9 if contender.profile else 7}
    kept = {path.name for path in job.folder(contender).iterdir()}
    assert {"cold-1"} <= kept
    assert not {"cold-2", "warm-1", "warm-2"} & kept
    shutil.rmtree(job.folder(contender))
    assert list(measure_builds(contender, job, ledger, QuietUi())) == values
    assert not job.folder(contender).exists()


def test_by_hand_the_device_list_and_the_cache_are_told_to_configure(job: BuildJob) -> None:
    place, _ = configured.compile_cold(TRIMMED, job.tarball, job.work / "x", 1, job.work / "cache")
    listed = place.tree / "configs/devices/i386-softmmu/xenqemu-bench.mak"
    assert "CONFIG_I440FX=y\n" in listed.read_text()
    said = (place.tree / "configured").read_text()
    assert "--with-devices-i386=xenqemu-bench" in said
    assert "--cc=ccache cc" in said
    assert configured.find_place(TRIMMED, job.work / "x") == place
    assert configured.find_place(TRIMMED, job.work / "none") is None


def test_other_inputs_are_built_apart_and_what_is_old_goes(job: BuildJob) -> None:
    old = build_binary(GUIDE, job, QuietUi())
    other = build_binary(GUIDE, replace(job, jobs=1), QuietUi())
    assert other != old
    assert not old.exists()


def test_every_change_is_another_one(job: BuildJob) -> None:
    list(measure_builds(GUIDE, job, Ledger(job.work / "measured"), QuietUi()))
    text = (job.folder(GUIDE) / "cold-1/qemu-10.2.2" / configured.EDITED).read_text()
    assert text == "int bus;\n/* change 1 */\n/* change 2 */\n"


@pytest.mark.parametrize("contender", [GUIDE, PROFILE], ids=lambda one: one.name)
def test_a_cold_build_that_was_interrupted_is_done_anew(contender: Contender, job: BuildJob) -> None:
    half = job.folder(contender) / "cold-1" / "half"
    half.mkdir(parents=True)
    binary = build_binary(contender, job, QuietUi())
    assert binary.is_file()
    assert not half.exists()
    binary.write_bytes(b"kept")
    assert build_binary(contender, job, QuietUi()).read_bytes() == b"kept"


def test_tarball_of_the_archive(job: BuildJob, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no tarball of QEMU 10\.2"):
        ours.fetch("10.2", tmp_path)
    kept = tmp_path / "fetch/downloads/x/qemu_10.2.2+ds.orig.tar.xz"
    kept.parent.mkdir(parents=True)
    kept.touch()
    (kept.parent / "qemu_10.0.3.orig.tar.xz").touch()
    assert ours.fetch("10.2", tmp_path) == kept
    assert ours.ask_for_help(tmp_path) > 0


# ---- the pipeline ----

_EXAMINED = {"stripped": 4e6, "libraries": 13.0}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state").create()


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured in the lab, which is not there."""
    told: list[str] = []

    def memory(self: object, binary: Path, xen: str | None) -> Mapping[str, float]:
        told.append(f"memory {binary.name} {xen}")
        return {"rss": 20e6, "pss": 19e6, "private": 18e6}

    def start(self: object, binary: Path, xen: str | None) -> Mapping[str, float]:
        told.append(f"start {binary.name} {xen}")
        if binary.name == "broken":
            raise LabError("its guest did not boot")
        return {"ready-instructions": 1e9}

    monkeypatch.setattr(bench_pipeline._Run, "_memory", memory)
    monkeypatch.setattr(bench_pipeline._Run, "_start", start)
    monkeypatch.setattr("xenqemu.bench.binary.examine", lambda binary: dict(_EXAMINED))
    return told


def _own(tmp_path: Path, name: str) -> Contender:
    path = tmp_path / name
    path.write_bytes(name.encode())
    return Contender(name, name, binary=path)


def test_own_binaries_are_measured_and_no_failure_stops_another(
    tmp_path: Path, state: StateDir, guests: list[str]
) -> None:
    contenders = (_own(tmp_path, "broken"), _own(tmp_path, "fine"), Contender("gone", "gone", binary=tmp_path / "gone"))
    request = BenchRequest(contenders, work=tmp_path / "work", repeat=2)
    results = run_bench(request, state, QuietUi())
    assert results.value("fine", "ready-instructions") == 1e9
    assert results.values["fine"]["rss"] == (20e6, 20e6)
    assert results.value("broken", "private") == 18e6
    assert results.value("broken", "ready-instructions") is None
    assert results.missing[0] == "broken, start: its guest did not boot"
    assert [text.partition(":")[0] for text in results.missing[1:]] == ["gone, size", "gone, lab"]
    assert "source" not in results.facts
    guests.clear()
    run_bench(request, state, QuietUi())
    assert guests == ["start broken None"]
    (tmp_path / "fine").write_bytes(b"another build")
    run_bench(replace(request, parts=("lab",)), state, QuietUi())
    assert "memory fine None" in guests


def test_nothing_measured_is_an_error(tmp_path: Path, state: StateDir, guests: list[str]) -> None:
    gone = Contender("gone", "gone", binary=tmp_path / "gone")
    with pytest.raises(MissingError, match="there is no"):
        run_bench(BenchRequest((gone,), work=tmp_path / "work"), state, QuietUi())


def test_built_contenders(job: BuildJob, state: StateDir, guests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    request = BenchRequest((GUIDE, PROFILE), work=job.work, repeat=1, jobs=2, tarball=job.tarball)
    results = run_bench(request, state, QuietUi())
    assert results.missing == ()
    assert results.facts["source"] == "qemu.tar"
    assert results.value(OURS, "cold-cpu") is not None
    assert guests == [
        "memory qemu-system-i386 None",
        "start qemu-system-i386 None",
        "memory qemu-system-xen None",
        "start qemu-system-xen None",
    ]


def test_rows_of_xenqemu_alone(tmp_path: Path, state: StateDir, guests: list[str], monkeypatch: Any) -> None:
    booted: list[Path] = []

    def boots(program: Path, work: Path, count: int, say: Callable[[str], None]) -> Any:
        booted.append(program)
        return SimpleNamespace(rows=lambda: (Row("boots", "", count),))

    def fail(folder: Path) -> Any:
        raise BuildError("`vm use` has left configs as they were")

    monkeypatch.setattr("xenqemu.bench.boots.measure", boots)
    monkeypatch.setattr("xenqemu.bench.configs.rows", fail)
    packaged = Contender("debian", "Debian", packaged="distro")
    request = BenchRequest((_own(tmp_path, "mine"), packaged), ("configs", "boots"), tmp_path / "work", boots=4)
    results = run_bench(request, state, QuietUi())
    assert results.rows == (Row("boots", "", 4),)
    assert booted == [tmp_path / "mine"]
    assert results.missing == ("xenqemu vm use of 10,000 configs: `vm use` has left configs as they were",)


def test_memory_is_of_a_guest_that_is_up(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from xenqemu.lab.result import GuestResult, Memory

    outcome = GuestResult("boot-sector", "x", booted=True, memory=Memory(3, 2, 1))

    @contextmanager
    def boot_cases(cases: Any, request: Any, *_: Any) -> Any:
        assert [case.name for case in cases] == ["boot-sector"]
        yield SimpleNamespace(report=SimpleNamespace(guests=(outcome,), run=tmp_path))

    monkeypatch.setattr("xenqemu.boot_pipeline.boot_cases", boot_cases)
    run = bench_pipeline._Run(BenchRequest((), work=tmp_path), state, QuietUi())
    assert run._memory(tmp_path / "dm", None) == {"rss": 3, "pss": 2, "private": 1}
    outcome = replace(outcome, booted=False, reason="it said nothing")
    with pytest.raises(LabError, match="it said nothing"):
        run._memory(tmp_path / "dm", None)


def test_the_machine_is_told_and_not_named() -> None:
    import socket

    assert socket.gethostname() not in bench_pipeline.machine()
    assert " x " in bench_pipeline.machine()


# ---- the command ----


def test_command_prints_tables_json_and_a_page(tmp_path: Path, guests: list[str]) -> None:
    from xenqemu.bench.page import BEGIN, END

    binary = tmp_path / "qemu-system-xen"
    binary.write_bytes(b"x")
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    words = ["--state-dir", str(tmp_path / "state"), "--quiet", "bench", "--dm", str(binary), "--repeat", "1"]
    plain = CliRunner().invoke(cli, [*words, "--only", "size,lab", "--page", str(page)])
    assert plain.exit_code == 0, plain.output
    assert "binary, stripped\t4.00 MB" in plain.output
    assert "at most" not in plain.output
    assert "| binary, stripped | 4.00 MB |" in page.read_text()
    as_json = CliRunner().invoke(cli, [*words, "--only", "size", "--json"])
    assert json.loads(as_json.stdout)["figures"]["libraries"]["median"] == {"qemu-system-xen": 13}
    refused = CliRunner().invoke(cli, [*words, "--only", "sise"])
    assert refused.exit_code == 2
    assert "there is no part 'sise'" in refused.output


def test_command_judges_targets_of_our_own_build(job: BuildJob, tmp_path: Path, guests: list[str]) -> None:
    words = ["--state-dir", str(tmp_path / "state"), "--quiet", "bench", "--against", "xenqemu", "--only", "size"]
    done = CliRunner().invoke(cli, [*words, "--tarball", str(job.tarball), "--work", str(tmp_path / "w")])
    assert done.exit_code == 0, done.output
    assert "binary, stripped\t4 MB\t4.00\treached" in done.output


def test_a_start_is_counted_without_a_network_card(
    tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The case is staged in the same place each time, as its paths are what dom0 works with."""
    from xenqemu.bench.instructions import MARKS, Start

    image = tmp_path / "disk.img"
    image.write_bytes(bytes(3 << 20))
    disk = SimpleNamespace(disk=SimpleNamespace(path=image))
    view = SimpleNamespace(memory=64, max_memory=64, video_memory=8, stubdomain=SimpleNamespace(enabled=False))
    staged: list[tuple[Any, ...]] = []

    def stage_case(*given: Any) -> Any:
        staged.append(given)
        return "base", SimpleNamespace(disks=(disk,), files=(), view=view)

    def measure_start(base: Any, guest: Any, run_dir: Path, sockets: Path, options: Any, ui: Any) -> Start:
        assert base == "base"
        assert options.dom0_memory_mib == 768 + 2 * 3
        assert len(str(sockets)) < 80
        return Start({mark: 10 * number for number, mark in enumerate(MARKS)}, 1, 2)

    monkeypatch.setattr("xenqemu.boot_pipeline.stage_case", stage_case)
    monkeypatch.setattr("xenqemu.bench.instructions.measure_start", measure_start)
    run = bench_pipeline._Run(BenchRequest((), work=tmp_path), state, QuietUi())
    figures = [run._start(tmp_path / "dm", "4.17") for _ in range(2)]
    assert figures[0] == figures[1]
    assert set(figures[0]) == {
        "ready-instructions",
        "own-instructions",
        "first-instructions",
        "ready-seconds",
        "first-seconds",
    }
    assert staged[0][:5] == ("boot-sector", {"vif": []}, tmp_path / "dm", "4.17", tmp_path / "guest")
    assert staged[0] == staged[1]


def test_a_case_is_staged_with_other_settings(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenqemu.lab.base.prepare", lambda xen, *_: f"base of {xen}")
    model = _program(tmp_path / "dm", "#!/bin/sh\n")
    base, guest = stage_case("boot-sector", {"vif": []}, model, "4.17", tmp_path, state, QuietUi())
    assert cast(str, base) == "base of 4.17"
    assert guest.view.bridges == ()
    assert guest.view.name == "boot-sector"
    assert [disk.path for disk in guest.disks] == [str(tmp_path / "disk.img")]
    assert guest.path == str(tmp_path / "boot-sector.cfg")
