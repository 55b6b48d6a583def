"""What is measured of whom, read, judged and shown."""

from __future__ import annotations

import bz2
import json
import re
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenqemu.bench import binary, boots, configs, configured, model, ours, page, report
from xenqemu.bench.ledger import Ledger
from xenqemu.bench.model import Contender, Results
from xenqemu.bench.process import Cost, build_steps, environment, peak_rss, quick, run
from xenqemu.bench.rows import Row
from xenqemu.errors import BuildError, UsageError
from xenqemu.target.profile import load_profile


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


@given(st.text(alphabet="[]/0123456789@xenqmu \n"), st.integers(1, 10**6))
def test_build_steps_of_any_log(noise: str, total: int) -> None:
    assert build_steps(f"{noise}\n[1/{total}] x\n") >= total


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
    assert cost.values("cold") == {"cold-cpu": cost.cpu, "cold-wall": cost.wall}


def test_run_quotes_the_log_of_a_failure(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"exit 3: .*\nno such luck"):
        run([sys.executable, "-c", "print('no such luck'); exit(3)"], cwd=tmp_path, log=tmp_path / "log")


def test_quick_is_a_median_and_tells_of_a_failure(tmp_path: Path) -> None:
    assert 0 < quick(["true"], cwd=tmp_path, times=3) < 5
    with pytest.raises(BuildError, match="exit 1: false"):
        quick(["false"], cwd=tmp_path, times=3)


def test_costs_add_up() -> None:
    assert Cost(1, 2, 30) + Cost(4, 5, 6) == Cost(5, 7, 30)


def test_measured_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENQEMU_STATE_DIR", "/elsewhere")
    monkeypatch.setenv("MAKEFLAGS", "-j4")
    monkeypatch.setenv("CCACHE_RECACHE", "1")
    plain = environment()
    assert plain["CCACHE_DISABLE"] == "1"
    assert plain["XENQEMU_LAUNCHER"] == "none"
    assert not {"XENQEMU_STATE_DIR", "MAKEFLAGS", "CCACHE_RECACHE"} & plain.keys()
    cached = environment(Path("/cache"), Path("/base"))
    assert (cached["CCACHE_DIR"], cached["CCACHE_BASEDIR"]) == ("/cache", "/base")
    assert "CCACHE_DISABLE" not in cached


# ---- binaries ----


def test_mapped_libraries() -> None:
    text = (
        "\tlinux-vdso.so.1 (0x00007ffd3a5d2000)\n"
        "\tlibglib-2.0.so.0 => /lib/x86_64-linux-gnu/libglib-2.0.so.0 (0x00007f1)\n"
        "\tlibgone.so => not found\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n"
    )
    assert binary.read_mapped(text) == ("/lib/x86_64-linux-gnu/libglib-2.0.so.0", "/lib64/ld-linux-x86-64.so.2")


@given(st.text())
def test_mapped_libraries_of_anything(text: str) -> None:
    assert all(path.startswith("/") for path in binary.read_mapped(text))


def test_figures_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real ELF program; what it would say as a QEMU is put in its place."""
    monkeypatch.setattr(binary, "count_types", lambda program: (50, None))
    found = binary.examine(Path(sys.executable).resolve())
    assert found["device-types"] == 50
    assert "qom-types" not in found
    assert found["libraries"] >= found["needed"] >= 1
    assert found["stripped"] > found["text"] > 0
    assert found["relocation-count"] > 0
    known = {figure.name for figure in model.figures()}
    assert set(found) <= known


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_what_is_no_program_is_told(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with pytest.raises(BuildError):
            binary.count_relocations(Path(file.name))


# ---- data ----


def test_contenders_are_whole() -> None:
    for contender in model.known_contenders():
        assert contender.title
        assert contender.summary
        assert sum((bool(contender.configure), bool(contender.packaged), bool(contender.profile))) == 1
        assert bool(contender.configure) == bool(contender.program)
        if contender.profile:
            load_profile(contender.profile)
    assert {"guide", "xcp-ng", "debian", model.OURS} <= {contender.name for contender in model.known_contenders()}


def test_figures_and_targets_are_whole() -> None:
    figures = {figure.name: figure for figure in model.figures()}
    contenders = {contender.name for contender in model.known_contenders()}
    for target in model.targets():
        assert target.figure in figures
        assert not target.base or target.base in figures
        assert not target.against or target.against in contenders
    for name in {figure.plot for figure in figures.values()} - {""}:
        assert name in page._PLOTS
        assert len({figure.unit for figure in figures.values() if figure.plot == name}) == 1


def test_who_is_measured() -> None:
    everybody = {contender.name for contender in model.contenders_for((), ())}
    assert everybody == {contender.name for contender in model.known_contenders()}
    own = model.contenders_for((Path("/a/qemu"), Path("/b/qemu"), Path("/c/guide"), "distro"), ())
    assert [contender.name for contender in own] == ["qemu", "qemu-2", "guide-2", "distro"]
    assert own[1].binary == Path("/b/qemu")
    assert own[3].packaged == "distro"
    assert [contender.name for contender in model.contenders_for((Path("x"),), ("guide",))] == ["guide", "x"]
    with pytest.raises(UsageError, match="no contender 'gide'"):
        model.contenders_for((), ("gide",))


# ---- the ledger ----


def test_ledger_measures_once_for_the_same_inputs(tmp_path: Path) -> None:
    ledger, calls = Ledger(tmp_path / "measured"), list[int]()

    def measure() -> dict[str, float]:
        calls.append(1)
        return {"x": float(len(calls))}

    assert ledger.once("a.b/c", {"n": 1, "t": ("x",)}, measure) == {"x": 1}
    assert Ledger(tmp_path / "measured").once("a.b/c", {"n": 1, "t": ("x",)}, measure) == {"x": 1}
    assert ledger.once("a.b/c", {"n": 2, "t": ("x",)}, measure) == {"x": 2}
    assert len(calls) == 2


@pytest.mark.parametrize("damaged", [b"", b"[]", b"{", b'{"inputs": {}}', b'{"inputs": {}, "values": [1]}', b"null"])
def test_ledger_measures_anew_what_is_damaged(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "a.json").write_bytes(damaged)
    assert Ledger(tmp_path).once("a", {}, lambda: {"x": 1.5}) == {"x": 1.5}
    assert Ledger(tmp_path).once("a", {}, lambda: {"x": 2.5}) == {"x": 1.5}


def test_ledger_keeps_nothing_of_what_was_interrupted(tmp_path: Path) -> None:
    def interrupted() -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path).once("a", {}, interrupted)
    assert not list(tmp_path.iterdir())


# ---- builds ----


def test_stand_ins_are_only_for_what_is_missing(tmp_path: Path) -> None:
    dtb = tmp_path / "pc-bios/dtb"
    dtb.mkdir(parents=True)
    (tmp_path / "pc-bios/meson.build").write_text("fds = [\n 'edk2-arm-code.fd',\n 'edk2-i386-vars.fd',\n]\n")
    (dtb / "meson.build").write_text("dtbs = [ 'bamboo.dtb' ]\n")
    (dtb / "bamboo.dts").write_text("the real one")
    assert configured.add_stand_ins(tmp_path) == 3
    assert bz2.decompress((tmp_path / "pc-bios/edk2-arm-code.fd.bz2").read_bytes()) == b""
    assert (dtb / "bamboo.dts").read_text() == "the real one"
    assert configured.add_stand_ins(tmp_path) == 0


def test_phase_seconds() -> None:
    assert ours.phase_seconds({"configure": {"wall": 10.5, "cpu": 9}, "compile": {"wall": 100}}) == 110.5
    assert ours.phase_seconds({"configure": 10, "compile": 100.5}) == 110.5
    assert ours.phase_seconds(None) == 0


# ---- what belongs to no contender ----


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


def test_rows() -> None:
    row = Row("x", "s", 3, 6, limit=0.6)
    assert row.as_json() == {
        "what": "x",
        "unit": "s",
        "xenqemu": 3,
        "manual": 6,
        "ratio": 0.5,
        "limit": 0.6,
        "held": True,
    }
    assert row.cells() == ("x", "6.00 s", "3.00 s", "0.50", "0.6 held")
    assert Row("y", "", 40).cells() == ("y", "", "40", "", "")
    assert Row("z", "MB", 200, limit=150).cells()[-1] == "150 MISSED"


# ---- results ----

_TWO = tuple(contender for contender in model.known_contenders() if contender.name in ("guide", model.OURS))


def _results() -> Results:
    return Results(
        _TWO,
        {
            "guide": {"cold-cpu": (400.0, 390.0, 500.0), "stripped": (29e6,), "libraries": (59.0,)},
            model.OURS: {"cold-cpu": (100.0,), "warm-cpu": (8.0,), "stripped": (3.9e6,), "libraries": (22.0,)},
        },
        {"machine": "2 x something"},
        ("Debian 12's package, lab: no archive",),
        (Row("boots that failed, of 5", "", 0, limit=0),),
    )


def test_targets_are_judged_by_medians() -> None:
    verdicts = {verdict.target.name: verdict for verdict in model.judge(_results())}
    assert (verdicts["cold-build"].value, verdicts["cold-build"].reached) == (0.25, False)
    assert (verdicts["warm-cache"].value, verdicts["warm-cache"].word) == (0.02, "reached")
    assert (verdicts["size"].value, verdicts["size"].reached) == (3.9, True)
    assert verdicts["private-memory"].word == "not measured"


def test_table_has_medians_and_ratios() -> None:
    columns, rows = report.table(_results())
    assert columns == ("figure", "guide", "xenqemu")
    assert ("cold build, CPU", "400 s", "100 s (0.25)") in rows
    assert ("binary, stripped", "29.0 MB", "3.90 MB (0.13)") in rows
    assert ("new directory, warm compiler cache, CPU", "", "8.00 s") in rows
    _, verdicts = report.verdict_table(_results())
    assert ("cold build, CPU", "0.2 of guide", "0.25", "missed") in verdicts
    assert ("libraries that the loader maps", "14", "22", "missed") in verdicts


def test_json_has_every_repetition() -> None:
    values = json.loads(json.dumps(report.as_json(_results())))
    assert values["figures"]["cold-cpu"]["values"]["guide"] == [400, 390, 500]
    assert values["figures"]["cold-cpu"]["median"]["guide"] == 400
    assert values["figures"]["cold-cpu"]["spread"] == {"guide": 0.22, "xenqemu": 0}
    assert next(one for one in values["targets"] if one["name"] == "size")["reached"] is True
    assert values["missing"] == ["Debian 12's package, lab: no archive"]
    assert values["rows"][0]["held"] is True


def test_json_of_nothing() -> None:
    empty = Results((), {})
    assert report.as_json(empty)["figures"] == {}
    assert report.table(empty) == (("figure",), [])


_TITLES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1)


@given(st.lists(st.tuples(_TITLES, st.floats(0, 1e12)), min_size=1, max_size=9, unique_by=lambda one: one[0]))
def test_plots_are_svg_of_bars_that_fit(named: list[tuple[str, float]]) -> None:
    contenders = tuple(Contender(name, name) for name, _ in named)
    results = Results(contenders, {name: {"stripped": (value,), "text": (value / 2,)} for name, value in named})
    (plot,) = page.plots(results)
    picture = ElementTree.fromstring(page.render_svg(plot))
    space = "{http://www.w3.org/2000/svg}"
    bars = picture.findall(f"{space}rect")
    assert len(bars) == 2 * len(named)
    for bar in bars:
        assert 0 <= float(bar.attrib["width"]) <= float(picture.attrib["width"])
        assert float(bar.attrib["y"]) + float(bar.attrib["height"]) <= float(picture.attrib["height"])
    said = [element.text for element in picture.findall(f"{space}text")]
    assert said.count(named[0][0]) >= 2


def test_page_is_written_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    floors = {"libraries": "Eleven of them are Xen's."}
    monkeypatch.setattr(page, "floor_of", lambda target: floors.get(target.name, ""))
    path = tmp_path / "figures.md"
    path.write_text(f"# By hand\n\n{page.BEGIN}\nold\n{page.END}\n\nAnd more by hand.\n")
    written = page.write_page(path, _results())
    text = path.read_text()
    assert text.startswith("# By hand\n\n")
    assert text.endswith(f"{page.END}\n\nAnd more by hand.\n")
    assert "\nold\n" not in text
    assert "| cold build, CPU | 400 s | 100 s (0.25) |" in text
    assert "#### The floor of: libraries that the loader maps (22, 14 wanted)\n\nEleven of them are Xen's." in text
    assert "#### The floor of: cold build, CPU (0.25, 0.2 wanted)\n\nNot explained yet." in text
    assert "Debian 12's package, lab: no archive" in text
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert pictures == ["figures/build-cpu.svg", "figures/size.svg", "figures/counts.svg"]
    assert [path, *(tmp_path / name for name in pictures)] == list(written)
    again = path.read_bytes()
    page.write_page(path, _results())
    assert path.read_bytes() == again


@pytest.mark.parametrize("text", [None, "# nothing\n", f"{page.END}\n{page.BEGIN}\n"])
def test_page_without_marks_is_left_alone(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "page.md"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError):
        page.write_page(path, _results())
    assert text is None or path.read_text() == text


def test_own_page_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    assert text.index(page.BEGIN) < text.index(page.END)


def test_floors_are_of_targets() -> None:
    names = {target.name for target in model.targets()}
    folder = Path(model.__file__).parent / "floors"
    assert {path.stem for path in folder.glob("*.md")} <= names
    for target in model.targets():
        assert bool(model.floor_of(target)) == (folder / f"{target.name}.md").is_file()
