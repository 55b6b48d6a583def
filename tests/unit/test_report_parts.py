"""The parts of a report: manifest, series, devices, contract, words, pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from PIL import Image

from tests.unit.trees import diff, patch_text
from xenqemu.build.hardening import ElfReport
from xenqemu.contract.outcome import Outcome
from xenqemu.errors import UsageError
from xenqemu.report import words
from xenqemu.report.contract import contract_runs, read_results
from xenqemu.report.devices import asked_by, device_table, kinds_sentence, left_out_table, profile_table
from xenqemu.report.expected import as_expected
from xenqemu.report.inputs import flag_groups, input_facts, input_tables
from xenqemu.report.model import DiffPart, FileChange, Paragraph
from xenqemu.report.outputs import checks
from xenqemu.report.pictures import load_picture
from xenqemu.report.series import diff_parts, paragraphs, patches
from xenqemu.target.profile import load_profile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("qemu", "xen", "profile", "tools", "environment", "configure", "hardening", "options", "libraries", "target")
HARDENED = ElfReport(True, "full", True, True, ("__a_chk",), True, False, False, ("libc.so.6",), "", "", "", "b1d")


@given(st.dictionaries(st.sampled_from((*KEYS, "size", "patches", "cost", "outputs")), JSON))
def test_a_manifest_may_lack_or_garble_anything(manifest: dict[str, Any]) -> None:
    input_facts(manifest)
    flag_groups(manifest)
    input_tables(manifest)
    checks(manifest, HARDENED)
    patches(manifest, Path("/nonexistent"))


def test_what_went_in() -> None:
    manifest = {
        "xenqemu": "0.1.0",
        "qemu": {"version": "10.2.2", "commit": "c0ffee", "origin": {"location": "distro", "verified": "a key"}},
        "xen": {"version": "4.20", "kind": "tree", "bundled": True, "libraries": [{"soname": "a.so.1", "sha256": "1"}]},
        "environment": {"CFLAGS": "-g"},
        "configure": ["--enable-xen"],
        "hardening": {"flags": []},
        "libraries": {"glib-2.0": "2.74.6"},
        "target": [{"path": "a.mak", "sha256": "2"}],
    }
    facts = {fact.name: fact.value for fact in input_facts(manifest)}
    assert facts == {
        "QEMU": "10.2.2",
        "named as": "distro",
        "verified by": "a key",
        "commit with the series": "c0ffee",
        "Xen": "4.20, from tree (libraries bundled)",
        "environment": "CFLAGS=-g",
        "xenqemu": "0.1.0",
    }
    assert [(group.name, group.words) for group in flag_groups(manifest)] == [("configure", ("--enable-xen",))]
    assert [(table.name, table.folded) for table in input_tables(manifest)] == [
        ("libraries", False),
        ("xen-libraries", True),
        ("target-files", True),
    ]


def test_protections_are_as_the_file_has_them() -> None:
    found = {check.name: check for check in checks({"hardening": {"features": ["stack-clash-protection"]}}, HARDENED)}
    assert found["FORTIFY"].detail == "1 checked function"
    assert found["control-flow protection"].detail == "in the code; not marked for enforcement"
    assert found["stack clash protection"].there
    assert not found["variables zeroed"].there
    bare = ElfReport(False, "partial", False, False, (), False, True, True, (), "", "", "", "")
    assert not any(check.there for check in checks({}, bare))
    marked = ElfReport(True, "none", True, True, (), True, True, True, (), "", "", "", "")
    assert checks({}, marked)[5].detail == "marked for IBT and SHSTK"
    assert checks({}, marked)[1].detail == "none"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    folder = tmp_path / "patches"
    (folder / "010-a").mkdir(parents=True)
    old = "one\ntwo\nthree\n"
    (folder / "010-a/7.2.patch").write_text(patch_text("a: b", diff("x.c", old, "one\n2\n2.5\nthree\n")))
    return folder


def entry(series: Path, **more: str) -> dict[str, Any]:
    digest = hashlib.sha256((series / "010-a/7.2.patch").read_bytes()).hexdigest()
    return {"patches": [{"topic": "010-a", "file": "010-a/7.2.patch", "sha256": digest, **more}]}


def test_a_patch_with_its_description_and_its_diffstat(series: Path) -> None:
    (patch,) = patches(entry(series), series)
    assert (patch.subject, patch.note) == ("a: b", "")
    assert patch.files == (FileChange("x.c", 2, 1),)
    assert (patch.added, patch.removed) == (2, 1)
    assert patch.description
    assert [part.kind for part in patch.diff][-4:] == ["same", "remove", "add", "same"]


def test_a_patch_that_is_another_by_now_says_so(series: Path) -> None:
    (patch,) = patches(entry(series, sha256="0"), series)
    assert "changed since" in patch.note
    assert patch.subject == "a: b"


@pytest.mark.parametrize("file", ["020-b/7.2.patch", "../../etc/passwd", "", "010-a"])
def test_a_patch_that_is_not_there_has_its_topic_only(series: Path, file: str) -> None:
    (patch,) = patches(entry(series, file=file), series)
    assert (patch.topic, patch.subject, patch.files) == ("010-a", "", ())
    assert patch.note


def test_paragraphs_flow_but_for_lists_and_code() -> None:
    text = "One line\nand another.\n\n- a list\n- of two\n\n    code\n\n1. first\n\n\nLast"
    assert paragraphs(text) == (
        Paragraph("One line and another.", fixed=False),
        Paragraph("- a list\n- of two", fixed=True),
        Paragraph("    code", fixed=True),
        Paragraph("1. first", fixed=True),
        Paragraph("Last", fixed=False),
    )


@given(st.text())
def test_no_word_of_a_description_is_lost(text: str) -> None:
    assert " ".join(part.text for part in paragraphs(text)).split() == text.split()


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=8)))
def test_no_line_of_a_diff_is_lost(lines: list[str]) -> None:
    text = "\n".join(lines).rstrip("\n")
    assert "\n".join(part.text for part in diff_parts(text)) == text


def test_a_diff_in_parts() -> None:
    assert diff_parts("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n+c\n") == (
        DiffPart("head", "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@"),
        DiffPart("remove", "-a"),
        DiffPart("add", "+b\n+c"),
    )


LISTING = """Storage devices:
name "ide-hd", bus IDE, desc "virtual IDE disk"
name "ich9-ahci", bus PCI, alias "ahci"

USB devices:
name "usb-odd", bus usb-bus, desc "a "quoted" thing"
name "bare"
no device
"""


def test_device_types_with_what_asks_for_them() -> None:
    table = device_table(LISTING, {"ide-hd": "disk="})
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["ide-hd", "Storage", "IDE", "virtual IDE disk", "disk="],
        ["ich9-ahci", "Storage", "PCI", "(also ahci)", ""],
        ["usb-odd", "USB", "usb-bus", 'a "quoted" thing', ""],
        ["bare", "USB", "", "", ""],
    ]
    assert kinds_sentence(table) == "Storage 2, USB 2"


@given(st.text())
def test_any_listing_is_taken(text: str) -> None:
    table = device_table(text, {})
    assert len(table.rows) <= sum(line.startswith('name "') for line in text.splitlines())
    kinds_sentence(table)


def test_devices_of_a_profile() -> None:
    profile, version = load_profile("hvm"), Version("10.2.2")
    asked = asked_by(profile, version)
    assert "e1000" in asked["e1000"]
    assert profile_table(profile, version).rows
    assert left_out_table(profile, version).rows[0][1].text


def case(name: str, outcome: str, **more: Any) -> dict[str, Any]:
    return {"case": name, "outcome": outcome, "summary": f"tries {name}", "detail": "a sign", **more}


def test_results_of_the_contract_begin_with_what_needs_somebody() -> None:
    facts = {
        "xen": "4.20.3",
        "cases": [
            case("a", "works", seconds=12.34),
            case("b", "gap", reason="known", reference="x.md"),
            case("c", "fails", detail="it broke"),
            case("d", "of a later xenqemu"),
            "no case",
        ],
    }
    (run,) = contract_runs([facts])
    assert [[cell.text for cell in row][:4] for row in run.table.rows] == [
        ["c", "fails", "tries c", "it broke"],
        ["d", "fails", "tries d", "a sign"],
        ["b", "gap", "tries b", "known (x.md)"],
        ["a", "works", "tries a", "a sign"],
    ]
    assert run.table.rows[-1][-1].text == "12.34 s"
    assert [row[0].text for row in run.remarkable.rows] == ["c", "d", "b"]
    assert [(tile.figure, tile.caption) for tile in run.counts] == [("1", "works"), ("1", "gap"), ("2", "fails")]


def test_every_outcome_has_a_place() -> None:
    cases = [case(kind.name, kind.value) for kind in Outcome]
    (run,) = contract_runs([{"xen": "4.20", "cases": cases}])
    assert len(run.counts) == len(run.table.rows) == len(Outcome)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"xen": "4.20"}', '{"cases": [{}]}', '{"xen": "4", "cases": 1}'])
def test_what_has_no_results_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"results\.json"):
        read_results(path)
    path.write_text(json.dumps({"xen": "4.20", "cases": [case("a", "works")]}))
    assert read_results(path)["xen"] == "4.20"


def test_what_is_known_of_the_labs_own_guests() -> None:
    def come(name: str, xen: str = "4.17.5", qemu: str = "10.2.2", **more: Any) -> tuple[str, str] | None:
        return as_expected({"name": name, **more}, xen, qemu)

    assert come("boot-sector", booted=True) is None
    assert come("boot-sector", reason="it broke") is None
    assert come("no such case", reason="it broke") is None
    assert come("dm-restrict-qdisk", tried=False) is None
    assert come("no-boot-signature", booted=True) == ("booted, and should not", "bad")
    assert come("no-boot-signature", reason="no bootable disk") == ("fails as it should", "good")
    assert come("no-boot-signature", reason="something else entirely") is None
    gap = come(
        "dm-restrict-qdisk",
        reason="step 1, in dom0 `xenstore-read backend/qdisk/1/768/state`: it said other than expected: 4",
    )
    assert gap == ("known gap", "note")
    assert come("dm-restrict-qdisk", xen="?", reason="x") is None


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (words.format_size(999), "999 B"),
        (words.format_size(14_249), "14.2 kB"),
        (words.format_size(3_633_192), "3.63 MB"),
        (words.format_time(38), "38 ms"),
        (words.format_time(1250), "1.25 s"),
        (words.format_time(125_400), "2 min 05 s"),
        (words.counted(1, "patch", "patches"), "1 patch"),
        (words.counted(2, "patch", "patches"), "2 patches"),
        (words.counted(0, "row"), "0 rows"),
    ],
)
def test_numbers_as_people_read_them(said: str, text: str) -> None:
    assert said == text


def test_values_of_a_table_that_may_lack_them() -> None:
    facts = {"a": {"b": 1, "c": None, "d": [1, {"e": 2}], "f": True}}
    assert words.value(facts, "a", "b") == 1
    assert words.value(facts, "a", "b", "x") is None
    assert (words.text(facts, "a", "b"), words.text(facts, "a", "c"), words.text(facts, "z")) == ("1", "", "")
    assert words.table(facts, "a", "b") == {}
    assert (words.items(facts, "a", "d"), words.items(facts, "a")) == ([1, {"e": 2}], [])
    assert words.tables(facts, "a", "d") == [{"e": 2}]
    assert (words.number(facts, "a", "b"), words.number(facts, "a", "f"), words.number(facts, "a")) == (1, None, None)
    assert [cell.share for cell in words.size_cells([0, 0])] == [0, 0]
    assert words.size_cells([]) == []


def test_a_picture_is_part_of_the_page_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "screen.png"
    Image.new("RGB", (64, 48), "navy").save(path)
    picture = load_picture(path)
    assert picture is not None
    assert (picture.width, picture.height) == (64, 48)
    assert picture.uri.startswith("data:image/webp;base64,")


@pytest.mark.parametrize("side", [400, 900])
def test_a_large_picture_loses_a_little(tmp_path: Path, side: int) -> None:
    path = tmp_path / "noise.png"
    bands = [Image.effect_noise((side, side), 200) for _ in "rgb"]
    Image.merge("RGB", bands).save(path)
    picture = load_picture(path)
    assert picture is not None
    assert len(picture.uri) < path.stat().st_size


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n1234"])
def test_what_is_no_picture_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    assert load_picture(path) is None


def test_what_is_no_screen_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    Image.new("1", (5000, 1)).save(path)
    assert load_picture(path) is None
