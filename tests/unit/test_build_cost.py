"""What a build costs, measured from its files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from xenqemu.build.cost import measure_areas, measure_program
from xenqemu.errors import BuildError

# Relocated pointers, constants, zeroed memory and a symbol table.
SOURCE = """
#include <math.h>
#include <stdio.h>
static const char *const names[] = { "one", "two", "three" };
char zeroed[100000];
char filled[5000] = { 1 };
int main(int argc, char **argv)
{
    zeroed[argc] = 1;
    return printf("%s %f %d\\n", names[argc % 3], cos(argc), zeroed[argc] + filled[argc]) == 0;
}
"""


def compile_program(folder: Path) -> Path:
    program = folder / "program"
    argv = ["gcc", "-g", "-O1", "-fno-builtin", "-fPIE", "-pie", "-Wl,--no-as-needed", "-o", str(program)]
    subprocess.run([*argv, "-x", "c", "-", "-lm"], input=SOURCE.encode(), check=True)
    return program


def test_a_program_is_as_large_as_strip_and_size_say(tmp_path: Path) -> None:
    program = compile_program(tmp_path)
    cost = measure_program(program)
    said = subprocess.run(["size", program], capture_output=True, text=True, check=True).stdout.splitlines()[1]
    text, data, bss = map(int, said.split()[:3])
    assert cost.text + cost.relocations == text
    assert (cost.data, cost.bss) == (data, bss)
    assert cost.bss > 100000
    assert cost.relocations >= 3 * 24
    assert cost.libraries == 2
    subprocess.run(["strip", program], check=True)
    assert abs(program.stat().st_size - cost.stripped) < 512
    again = measure_program(program)
    assert again.as_dict() == {**cost.as_dict(), "stripped": program.stat().st_size}


def test_what_is_no_program_is_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be read as an ELF file"):
        measure_program(tmp_path / "absent")
    (tmp_path / "text").write_text("no program")
    with pytest.raises(BuildError, match="cannot be read as an ELF file"):
        measure_program(tmp_path / "text")


def make_build(folder: Path, sources: dict[str, str]) -> None:
    entries = []
    for number, (source, code) in enumerate(sources.items()):
        output = f"{number}.o"
        if code:
            subprocess.run(["gcc", "-c", "-x", "c", "-", "-o", folder / output], input=code.encode(), check=True)
        entries.append({"directory": str(folder), "file": source, "output": output})
    (folder / "compile_commands.json").write_text(json.dumps(entries))


def test_areas_are_the_folders_of_the_sources(tmp_path: Path) -> None:
    big, small = "char big[3000] = { 1 };", "char small[10] = { 1 };"
    make_build(
        tmp_path,
        {
            "../src/hw/net/e1000.c": big,
            "../src/hw/net/can/can.c": big,
            "../src/block/qcow2.c": small,
            "../src/top.c": small,
            "qapi/qapi-visit.c": small,
            "../src/hw/not/compiled.c": "",
        },
    )
    areas = measure_areas(tmp_path)
    assert set(areas) == {"hw/net", ".", "block", "qapi (generated)"}
    assert areas["hw/net"] >= 6000
    assert 10 <= areas["block"] == areas["qapi (generated)"] < 100


def test_a_build_that_cannot_say_has_no_areas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_areas(tmp_path) == {}
    make_build(tmp_path, {"../src/hw/a.c": ""})
    assert measure_areas(tmp_path) == {}
    make_build(tmp_path, {"../src/hw/a.c": "int a = 1;"})
    assert measure_areas(tmp_path) == {"hw": 4}
    (tmp_path / "0.o").write_text("no object")
    assert measure_areas(tmp_path) == {}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measure_areas(tmp_path) == {}
