from __future__ import annotations

import bz2
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import binary, boots, configs, guide, ours, report
from benchmarks.measure import Cost, build_steps, peak_rss, quick, run


@pytest.mark.parametrize(
    ("log", "steps"),
    [
        ("", 0),
        ("[1/1803] Compiling C object a.o\n[1803/1803] Linking\n", 1803),
        ("@xenqemu 0 4@ x\n@xenqemu 900 901@ Linking target qemu-system-xen\n", 901),
        ("[0/1] Regenerating build files.\n[7/120] Compiling\n", 120),
        ("text [5/9] inside a line\n", 0),
    ],
)
def test_build_steps(log: str, steps: int) -> None:
    assert build_steps(log) == steps


def test_configs_are_changed_and_measured(tmp_path: Path) -> None:
    absolute, beside = configs.rows(tmp_path, 3)
    assert absolute.manual is None
    assert absolute.xenqemu == beside.xenqemu > 0
    assert beside.manual is not None
    lines = [path.read_text() for path in (tmp_path / "configs-sed").iterdir()]
    assert all('device_model_version = "qemu-xen"' in text for text in lines)


def test_boots_that_fail_are_counted_with_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call prepares; of the others one fails, with a guest's reason."""
    stub = tmp_path / "xenqemu"
    stub.write_text(
        "#!/bin/sh\n"
        f"echo x >>'{tmp_path}/calls'\n"
        f"test $(wc -l <'{tmp_path}/calls') = 3 || exit 0\n"
        """echo '{"guests": [{"reason": "nothing was heard"}]}'; exit 8\n"""
    )
    stub.chmod(0o755)
    monkeypatch.setattr(boots, "command", lambda: stub)
    said: list[str] = []
    result = boots.measure(tmp_path / "dm", tmp_path, 4, said.append)
    assert len(result.seconds) == 3
    assert result.failures == ("nothing was heard",)
    assert "boot 2 of 4: failed: nothing was heard" in said
    failed = result.rows()[-1]
    assert (failed.what, failed.xenqemu, failed.held) == ("boots that failed, of 4", 1, False)


def test_peak_rss_is_in_bytes_and_a_zombie_has_none() -> None:
    assert peak_rss("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t1 kB\n") == 2048 * 1024
    assert peak_rss("Name:\tx\nState:\tZ (zombie)\n") == 0


def test_run_counts_children_but_not_their_memory(tmp_path: Path) -> None:
    grandchild = "b = bytearray(200_000_000); sum(range(6_000_000))"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}], check=True)"
    cost = run([sys.executable, "-S", "-c", code], cwd=tmp_path, log=tmp_path / "log")
    assert cost.cpu > 0.05
    assert cost.wall > 0.05
    assert 1_000_000 < cost.peak_rss < 100_000_000


def test_run_quotes_the_log_of_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit 3: .*\nno such luck"):
        run([sys.executable, "-c", "print('no such luck'); exit(3)"], cwd=tmp_path, log=tmp_path / "log")


def test_quick_is_a_median(tmp_path: Path) -> None:
    assert 0 < quick(["true"], cwd=tmp_path, times=3) < 5


def test_costs_add_up() -> None:
    assert Cost(1, 2, 30) + Cost(4, 5, 6) == Cost(5, 7, 30)


def test_stand_ins_are_only_for_what_is_missing(tmp_path: Path) -> None:
    dtb = tmp_path / "pc-bios/dtb"
    dtb.mkdir(parents=True)
    (tmp_path / "pc-bios/meson.build").write_text("fds = [\n 'edk2-arm-code.fd',\n 'edk2-i386-vars.fd',\n]\n")
    (dtb / "meson.build").write_text("dtbs = [ 'bamboo.dtb' ]\n")
    (dtb / "bamboo.dts").write_text("the real one")
    assert guide.add_stand_ins(tmp_path) == 3
    assert bz2.decompress((tmp_path / "pc-bios/edk2-arm-code.fd.bz2").read_bytes()) == b""
    assert (dtb / "bamboo.dts").read_text() == "the real one"
    assert guide.add_stand_ins(tmp_path) == 0


def test_measured_environment_has_no_compiler_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENQEMU_STATE_DIR", "/elsewhere")
    monkeypatch.setenv("MAKEFLAGS", "-j4")
    environment = guide.environment()
    assert environment["CCACHE_DISABLE"] == "1"
    assert environment["XENQEMU_LAUNCHER"] == "none"
    assert not {"XENQEMU_STATE_DIR", "MAKEFLAGS"} & environment.keys()


def test_phase_seconds() -> None:
    assert ours.phase_seconds({"configure": {"wall": 10.5, "cpu": 9}, "compile": {"wall": 100}}) == 110.5
    assert ours.phase_seconds({"configure": 10, "compile": 100.5}) == 110.5
    assert ours.phase_seconds(None) == 0


def test_count_devices() -> None:
    text = 'Storage devices:\nname "ide-hd", bus IDE\nname "xen-disk"\n\nDisplay devices:\nname "VGA", bus PCI\n'
    assert binary.count_devices(text) == 3


def test_rows_and_table() -> None:
    manual = guide.ManualBuild(Cost(5, 5, 0), Cost(15, 15, 0), Cost(260, 480, 0), 1803, Path("a"), 18)
    built = ours.OurBuild(Cost(90, 150, 90_000_000), 16.0, 800, Path("b"), 0.4, 0.1)
    measured = report.rows(manual, built, binary.Binary(29_000_000, 38, 442), binary.Binary(9_000_000, 17, 120))
    by_name = {row.what: row for row in measured}
    assert by_name["cold build, CPU"].ratio == 0.3
    assert by_name["cold build, CPU"].held is True
    assert by_name["prepare: unpack, patch, render"].held is False
    assert by_name["device types"].held is None
    assert by_name["cold build, CPU"].as_json()["limit"] == 0.5
    out = io.StringIO()
    Console(file=out, width=120).print(report.table(measured, "title"))
    assert "0.30" in out.getvalue()
    assert "15 MISSED" in out.getvalue()
