"""scripts/contract-table: what it keeps of runs, and when it runs a case again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.scripts import load_script

SCRIPT = load_script("contract-table")
MANIFEST = {
    "xenqemu": "0.1.0",
    "outputs": [],
    "options": {"recipe": {"revision": 5}},
    "patches": [{"topic": "010-target", "sha256": "1"}],
    "profile": {"name": "hvm"},
    "target": [],
    "tools": {"compiler": "gcc 12"},
    "qemu": {"version": "10.2.2", "commit": "1"},
    "xen": {"version": "4.17", "libraries": []},
}
OURS = SCRIPT.Combination("4.17", "4.17-10.2", "QEMU 10.2", "10.2")
OTHER = SCRIPT.Combination("4.17", "4.17-distro", "Debian's")


def model(folder: Path, **changes: Any) -> str:
    """Return a device model that was made of what `changes` say, and its path."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "dm").write_bytes(repr(changes).encode())
    (folder / "manifest.json").write_text(json.dumps({**MANIFEST, **changes}))
    return str(folder / "bin" / "dm")


def test_another_compiler_makes_no_other_device_model(tmp_path: Path) -> None:
    first = SCRIPT._digest("boot-sector", model(tmp_path))
    assert SCRIPT._digest("boot-sector", model(tmp_path, tools={"compiler": "gcc 14"})) == first
    assert SCRIPT._digest("linux-pv", model(tmp_path)) != first


@pytest.mark.parametrize(
    "change",
    [
        {"patches": [{"topic": "010-target", "sha256": "2"}]},
        {"profile": {"name": "full"}},
        {"options": {"recipe": {"revision": 6}}},
        {"qemu": {"version": "10.2.3"}},
        {"xen": {"version": "4.20"}},
    ],
)
def test_what_it_is_made_of_does(tmp_path: Path, change: dict[str, Any]) -> None:
    assert SCRIPT._digest("boot-sector", model(tmp_path)) != SCRIPT._digest("boot-sector", model(tmp_path, **change))


def test_of_a_device_model_of_others_its_bytes_count_or_its_name(tmp_path: Path) -> None:
    program = Path(model(tmp_path))
    (tmp_path / "manifest.json").unlink()
    first = SCRIPT._digest("boot-sector", str(program))
    program.write_bytes(b"other")
    assert SCRIPT._digest("boot-sector", str(program)) != first
    assert SCRIPT._digest("boot-sector", "distro:4.17") != SCRIPT._digest("boot-sector", "distro:4.20")


def test_a_stub_domains_files_count_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model(tmp_path)
    before = [SCRIPT._digest(name, path) for name in ("boot-sector", "stubdomain")]
    monkeypatch.setattr(SCRIPT, "_STUB_DOMAIN", [*SCRIPT._STUB_DOMAIN[1:], tmp_path / "manifest.json"])
    after = [SCRIPT._digest(name, path) for name in ("boot-sector", "stubdomain")]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


def test_what_is_of_cases_as_they_were_goes(tmp_path: Path) -> None:
    def case(name: str, outcome: str, expected: bool) -> dict[str, Any]:
        return {"case": name, "outcome": outcome, "expected": expected}

    facts = {
        "cases": [case("same", "works", True), case("surprise", "fails", False), case("changed", "works", True)],
        "counts": {"works": 2, "fails": 1},
        "digests": {"same": "1", "surprise": "2", "changed": "3", "gone": "4", "not-for-this": "5"},
    }
    found = SCRIPT._current(facts, {"same": "1", "surprise": "2", "changed": "6", "not-for-this": "5"})
    assert [one["case"] for one in found["cases"]] == ["same", "surprise"]
    assert found["counts"] == {"works": 1, "fails": 1}
    # Known is too that a combination has nothing of a case; what surprised is run again if it is ours.
    names = ("same", "surprise", "changed", "not-for-this")
    assert [SCRIPT._settled(found, name, OURS) for name in names] == [True, False, False, True]
    assert [SCRIPT._settled(found, name, OTHER) for name in names] == [True, True, False, True]
    assert SCRIPT._current({}, {"same": "1"}) == {}


def test_no_path_of_the_machine_is_kept() -> None:
    said = "-drive file=/home/me/state/lab/runs/3/disk-formats/qcow.img,if=ide: Unknown driver 'qcow'"
    assert SCRIPT._RUN_FOLDER.sub("", said) == "-drive file=disk-formats/qcow.img,if=ide: Unknown driver 'qcow'"
