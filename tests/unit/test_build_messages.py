"""What is made of the output of configure and ninja."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tests.unit.fakeqemu import OPTIONS, fake_input
from xenqemu.build.compile import NinjaOutput, excerpt
from xenqemu.build.configure import (
    check_paths,
    configure_argv,
    configure_error,
    console_script,
    link_paths,
    prefix_maps,
)
from xenqemu.build.model import Compiler, Flags, Layout
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import BuildError, MissingError, UsageError
from xenqemu.state import StateDir

LOG, TREE = Path("/state/build.log"), Path("/state/builds/k/src")


class Recorder:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str]] = []

    def update(self, done: int, total: int, what: str = "") -> None:
        self.seen.append((done, total, what))


def feed(text: str) -> tuple[NinjaOutput, Recorder]:
    recorder = Recorder()
    output = NinjaOutput(recorder)
    for line in text.splitlines():
        output.feed(line)
    return output, recorder


FAILURE = """\
ninja: Entering directory `/state/builds/k/build'
@xenqemu 1 3@ Compiling C object libqom.a.p/qom_object.c.o
../src/qom/object.c:1:1: warning: something harmless
@xenqemu 2 3@ Compiling C object libcommon.a.p/hw_xen_xen.c.o
FAILED: [code=1] libcommon.a.p/hw_xen_xen.c.o
gcc -c -o libcommon.a.p/hw_xen_xen.c.o ../src/hw/xen/xen.c -Werror
../src/hw/xen/xen.c: In function 'f':
../src/hw/xen/xen.c:7:5: error: 'x' undeclared
    7 |     x = 1;
      |     ^
../src/hw/xen/xen.c:9:5: warning: unused variable 'y'
FAILED: [code=1] other.o
gcc -c other.c
other.c:1:1: error: second failure
ninja: build stopped: subcommand failed.
"""


def test_progress_is_read_off_the_status_lines() -> None:
    _, recorder = feed(FAILURE)
    assert recorder.seen == [(1, 3, "libqom.a.p/qom_object.c.o"), (2, 3, "libcommon.a.p/hw_xen_xen.c.o")]


def test_only_the_first_failure_and_its_message_are_shown() -> None:
    output, _ = feed(FAILURE)
    error = output.error(LOG, TREE)
    assert isinstance(error, BuildError)
    assert error.message == (
        "the compile failed at libcommon.a.p/hw_xen_xen.c.o:\n"
        "  hw/xen/xen.c:7:5: error: 'x' undeclared\n"
        "      7 |     x = 1;\n"
        "        |     ^"
    )
    assert error.hint == f"the whole output is in {LOG}"


def test_a_linker_says_it_in_other_words() -> None:
    text = "FAILED: qemu-system-xen \ngcc -o qemu-system-xen\n/usr/bin/ld: a.o: undefined reference to `pxb_bus'\n"
    output, _ = feed(text + "collect2: error: ld returned 1 exit status\n")
    assert "undefined reference to `pxb_bus'" in output.error(LOG, TREE).message


def test_a_failure_without_words_and_ninja_itself() -> None:
    output, _ = feed("FAILED: [code=2] gen.h \npython gen.py\n")
    assert output.error(LOG, TREE).message == "the compile failed at gen.h"
    output, _ = feed("ninja: error: unknown target 'qemu-system-xen'\n")
    assert "unknown target 'qemu-system-xen'" in output.error(LOG, TREE).message
    assert "ninja said nothing" in NinjaOutput(Recorder()).error(LOG, TREE).message


@given(st.lists(st.text()))
def test_any_output_is_survived(lines: list[str]) -> None:
    output = NinjaOutput(Recorder())
    for line in lines:
        output.feed(line)
    assert output.error(LOG, TREE).message
    assert len(excerpt(lines)) <= 14


@pytest.mark.parametrize(
    ("line", "kind", "text", "package"),
    [
        ('../meson.build:8:1: ERROR: Dependency "pixman-1" not found', MissingError, "pixman-1", "libpixman-1-dev"),
        ("ERROR: Dependency 'zlib' is required but not found.", MissingError, "zlib", "zlib1g-dev"),
        ("ERROR: glib-2.56 gthread-2.0 is required to compile QEMU", MissingError, "glib-2.56", "libglib2.0-dev"),
        ("meson.build:3:2: ERROR: Program 'bzip2' not found or not executable", MissingError, "bzip2", "bzip2"),
        ('meson.build:3:2: ERROR: Dependency "unheard-of" not found', MissingError, "unheard-of", ""),
        ("ERROR: unknown option --enable-frobnication", BuildError, "unknown option", ""),
        ("../pc-bios/meson.build:1:1: ERROR: File bamboo.dtb does not exist.", BuildError, "bamboo.dtb", ""),
        ("it just stopped", BuildError, "it just stopped", ""),
    ],
)
def test_what_configure_says_and_what_it_means(line: str, kind: type[Exception], text: str, package: str) -> None:
    error = configure_error(["checking", line, ""] if "ERROR" not in line else [line, "A log is there"], LOG, Path())
    assert type(error) is kind
    assert text in error.message
    assert str(LOG) in error.hint
    assert error.hint.startswith(f"apt install {package};") is bool(package)


def test_what_stops_meson_is_told_from_what_it_could_do_without() -> None:
    lines = ["ERROR: Subproject x is buildable: NO", "../tests/meson.build:3:2: ERROR: Wraps are off", "ERROR: failed"]
    assert configure_error(lines, LOG, Path()).message == "configure failed: Wraps are off"


def test_configure_on_a_full_disk_and_without_a_word() -> None:
    full = configure_error(["OSError: [Errno 28] No space left on device"], LOG, Path("/state"))
    assert isinstance(full, MissingError)
    assert "no space is left on the device of /state" in full.message
    assert "it said nothing" in configure_error([], LOG, Path()).message


def argv(state: StateDir, version: str) -> tuple[str, ...]:
    hardening = Flags(("-fharden",), ("-Wl,-z,now",), ("--enable-stack-protector",), ("x",))
    inputs = fake_input(state, version=version)
    options = replace(OPTIONS, environment={"CFLAGS": "-g1 -O3"})
    return configure_argv(inputs, options, Compiler(("ccache", "gcc"), {}), hardening, state.builds / "k/build")


@pytest.mark.parametrize(
    ("version", "has", "lacks"),
    [
        ("7.2.0", ("--meson=", "--ninja=", "--with-git-submodules=ignore"), ("--python=", "--disable-download")),
        ("8.1.0rc1", ("--python=", "--ninja=", "--disable-download"), ("--meson=",)),
        ("10.2.2", ("--python=", "--ninja=", "--disable-download"), ("--meson=", "--with-git-submodules=ignore")),
    ],
)
def test_configure_is_told_about_its_tools_as_its_version_wants(
    state: StateDir, version: str, has: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    words = argv(state, version)
    for prefix in has:
        assert sum(word.startswith(prefix) for word in words) == 1, prefix
    for prefix in lacks:
        assert not any(word.startswith(prefix) for word in words), prefix


def test_the_users_flags_come_last(state: StateDir) -> None:
    words = argv(state, "10.2.2")
    cflags = next(word for word in words if word.startswith("--extra-cflags=")).partition("=")[2].split()
    assert cflags[-5:] == ["-fharden", "-Wno-invalid-pch", "-fpch-deps", "-g1", "-O3"]
    assert "--target-list=xen-dm-softmmu" in words
    assert "--cc=ccache gcc" in words
    assert "--disable-debug-info" in words


def test_paths_are_mapped_absolute_and_relative() -> None:
    flags = prefix_maps(Path("/s/builds/k/build"), [Path("/xen/include")])
    assert flags == (
        "-ffile-prefix-map=/xen/include=/usr/src/xen/0",
        "-ffile-prefix-map=../src=/usr/src/qemu",
        "-ffile-prefix-map=/s/builds/k/src=/usr/src/qemu",
        "-ffile-prefix-map=/s/builds/k/build=/usr/src/qemu/build",
    )


@pytest.mark.parametrize("path", ["/a b", "/a:b", "/a'b", "/a=b", "/a$b"])
def test_paths_that_configure_cannot_take(path: str) -> None:
    with pytest.raises(UsageError, match="special character"):
        check_paths([Path("/fine"), Path(path)])


def test_bundled_libraries_are_found_from_any_layout(state: StateDir) -> None:
    inputs = fake_input(state)
    assert link_paths(inputs, OPTIONS) == ()
    inputs = replace(inputs, xen=replace(inputs.xen, origin="prefix"))
    assert link_paths(inputs, OPTIONS)[-1] == "-Wl,-rpath,$ORIGIN/../lib"
    deep = Layout(prefix="/usr", bindir="/usr/lib/xen/bin", datadir="/usr/share")
    assert link_paths(inputs, replace(OPTIONS, layout=deep))[-1] == "-Wl,-rpath,$ORIGIN/../../../lib/xen/lib"


def test_meson_and_ninja_are_those_of_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert console_script("meson").name == "meson"
    assert console_script("ninja").is_file()
    with pytest.raises(MissingError, match="no-such-package is not installed"):
        console_script("no-such-package")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(MissingError, match="installed without its program"):
        console_script("pytest-cov")
    (tmp_path / "pytest-cov").touch()
    assert console_script("pytest-cov") == tmp_path / "pytest-cov"


def test_the_recipe_covers_every_supported_version_with_tools() -> None:
    recipe = load_recipe()
    for version in ("7.2", "8.0.5", "8.1", "9.2", "10.0.13", "11.1.0rc2"):
        assert len(recipe.tool_arguments(Version(version))) == 3
    assert recipe.package_of("glib-2.0") == "libglib2.0-dev"
    assert recipe.package_of("perl") == "perl"
    assert recipe.package_of("unheard-of") is None
