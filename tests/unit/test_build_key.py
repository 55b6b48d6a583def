"""What decides an artifact's key, what does not, and the environment and compiler behind it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tests.unit.fakeqemu import OPTIONS, SYSTEM_XEN, fake_input
from xenqemu.build import artifact_key, identify_compiler
from xenqemu.build.compiler import hardening_flags, size_flags
from xenqemu.build.environment import build_environment, flag_words, honoured
from xenqemu.build.key import bundles_libraries, canonical_json, header_digest
from xenqemu.build.libraries import library_versions
from xenqemu.build.model import BuildInput, BuildOptions, Compiler, Layout, PatchRecord
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import MissingError, UsageError
from xenqemu.state import StateDir
from xenqemu.xen.model import XenLibrary, XenSdk

COMPILER = Compiler(("gcc",), {"compiler": "gcc 12", "target": "x86_64-linux-gnu"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.fixture
def inputs(state: StateDir) -> BuildInput:
    return fake_input(state)


def key(inputs: BuildInput, options: BuildOptions = OPTIONS, compiler: Compiler = COMPILER) -> str:
    return artifact_key(inputs, options, compiler)


@pytest.mark.parametrize(
    "change",
    [
        {"tree": Path("/elsewhere")},
        {"origin": {"kind": "tarball"}},
        {"patches": (PatchRecord("other", "other/7.2.patch", "9" * 64),)},
        {"xen_compile_flags": ("-I/elsewhere",)},
        {"xen": replace(SYSTEM_XEN, location="/usr")},
    ],
)
def test_where_things_are_and_came_from_does_not_count(inputs: BuildInput, change: dict[str, Any]) -> None:
    assert key(replace(inputs, **change)) == key(inputs)


@pytest.mark.parametrize(
    "change",
    [
        {"commit": "d" * 40},
        {"version": Version("10.2.3")},
        {"profile_sha256": "4" * 64},
        {"configure_arguments": ("--target-list=xen-dm-softmmu",)},
        {"xen": replace(SYSTEM_XEN, version=Version("4.20"))},
        {"xen": replace(SYSTEM_XEN, origin="prefix")},
        {"xen": replace(SYSTEM_XEN, libraries=(XenLibrary("xenctrl", "libxenctrl.so.4.17", Path("/x"), "5" * 64),))},
    ],
)
def test_what_is_built_counts(inputs: BuildInput, change: dict[str, Any]) -> None:
    assert key(replace(inputs, **change)) != key(inputs)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"jobs": 7}, False),
        ({"keep_build": True}, False),
        ({"cc": "ccache gcc"}, False),
        ({"debug_info": True}, True),
        ({"environment": {"CFLAGS": "-O3"}}, True),
        ({"environment": {"LDFLAGS": "-s"}}, True),
        ({"environment": {"PKG_CONFIG_PATH": "/opt/pkgconfig"}}, True),
        ({"layout": Layout(prefix="/opt", bindir="/opt/bin", datadir="/opt/share")}, True),
    ],
)
def test_which_options_count(inputs: BuildInput, change: dict[str, Any], counts: bool) -> None:
    assert (key(inputs, replace(OPTIONS, **change)) != key(inputs)) is counts


def test_the_compiler_and_its_flags_count_and_a_launcher_does_not(inputs: BuildInput) -> None:
    plain = key(inputs)
    for launched in (("ccache", "gcc"), ("/usr/bin/ccache", "distcc", "gcc")):
        assert key(inputs, compiler=replace(COMPILER, argv=launched)) == plain
    flagged = replace(COMPILER, argv=("gcc", "-O0", "-march=haswell"))
    assert key(inputs, compiler=flagged) != plain
    assert key(inputs, compiler=replace(flagged, argv=("ccache", *flagged.argv))) == key(inputs, compiler=flagged)
    assert key(inputs, compiler=replace(flagged, argv=("gcc", "-march=haswell"))) != key(inputs, compiler=flagged)
    assert key(inputs, compiler=replace(COMPILER, tools={"compiler": "gcc 13"})) != key(inputs)


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_canonical_json_is_one_form_of_a_document(document: dict[str, Any]) -> None:
    reversed_document = dict(reversed(list(document.items())))
    assert canonical_json(document) == canonical_json(reversed_document)
    assert json.loads(canonical_json(document)) == document


def _sdk(folder: Path) -> XenSdk:
    return replace(SYSTEM_XEN, origin="prefix", include_dirs=(folder,))


def test_headers_of_a_given_xen_count_and_those_beside_them_do_not(tmp_path: Path) -> None:
    assert header_digest(SYSTEM_XEN) == ""
    (tmp_path / "xen/hvm").mkdir(parents=True)
    (tmp_path / "xen/hvm/ioreq.h").write_text("1")
    first = header_digest(_sdk(tmp_path))
    (tmp_path / "other.h").write_text("2")
    assert header_digest(_sdk(tmp_path)) == first
    (tmp_path / "xen/hvm/ioreq.h").write_text("3")
    assert header_digest(_sdk(tmp_path)) != first


def test_headers_behind_links_count_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    include, public = tmp_path / "include", tmp_path / "public"
    (include / "xen").mkdir(parents=True)
    (public / "hvm").mkdir(parents=True)
    (public / "hvm/ioreq.h").write_text("1")
    (include / "xen/hvm").symlink_to(public / "hvm")
    (include / "xen/again").symlink_to(public / "hvm")
    (public / "hvm/round").symlink_to(include / "xen")
    first = header_digest(_sdk(include))
    (public / "hvm/ioreq.h").write_text("2")
    assert header_digest(_sdk(include)) != first
    (include / "xen").rename(tmp_path / "elsewhere")
    assert header_digest(_sdk(include)) != first


def versions(arguments: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, str]:
    return library_versions(arguments, environment, COMPILER)


def _pkg_config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    folder.mkdir()
    monkeypatch.setenv("PKG_CONFIG_LIBDIR", str(folder))
    (folder / "zlib.pc").write_text("Name: zlib\nDescription: x\nVersion: 0.1.2\n")
    (folder / "libpng.pc").write_text("Name: libpng\nDescription: x\nVersion: 0.3\n")
    return {"PKG_CONFIG_PATH": str(folder)}


def test_versions_of_the_libraries_that_configure_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = _pkg_config(tmp_path / "pc", monkeypatch)
    bare = versions(("--without-default-features",), environment)
    assert bare["zlib"] == "0.1.2"
    assert "libpng" not in bare
    with_png = versions(("--without-default-features", "--enable-png"), environment)
    assert with_png == {**bare, "libpng": "0.3"}
    assert versions((), environment)["libpng"] == "0.3"
    assert "libpng" not in versions(("--disable-png",), environment)


def _library(folder: Path, name: str, version: str) -> dict[str, str]:
    """Make a library without a .pc file; return the environment in which a compiler finds it."""
    (folder / f"{name}.h").write_text("")
    file = folder / f"lib{name}.so.{version}"
    subprocess.run(["gcc", "-shared", "-o", file, "-x", "c", "-"], input=b"int x;", check=True)
    (folder / f"lib{name}.so").unlink(missing_ok=True)
    (folder / f"lib{name}.so").symlink_to(file.name)
    return {"CFLAGS": f"-I{folder}", "LDFLAGS": f"-L{folder}"}


def test_libraries_without_pkg_config_are_found_as_qemu_finds_them(tmp_path: Path) -> None:
    arguments = ("--without-default-features", "--enable-vde", "--enable-bzip2")
    assert "vdeplug" not in versions(arguments, {})
    environment = _library(tmp_path, "vdeplug", "1.2")
    (tmp_path / "libvdeplug.h").write_text("")
    assert versions(arguments, environment)["vdeplug"] == "libvdeplug.so.1.2"
    _library(tmp_path, "vdeplug", "1.3")
    assert versions(arguments, environment)["vdeplug"] == "libvdeplug.so.1.3"
    assert "vdeplug" not in versions(("--disable-vde",), environment)
    assert "vdeplug" not in versions(("--without-default-features",), environment)
    (tmp_path / "libvdeplug.so").unlink()
    assert "vdeplug" not in versions(arguments, environment), "without the library the header is no use"
    _library(tmp_path, "vdeplug", "1.3")
    (tmp_path / "libvdeplug.h").unlink()
    assert "vdeplug" not in versions(arguments, environment), "without the header the library is no use"


def test_a_header_that_is_taken_unasked_counts(tmp_path: Path) -> None:
    environment = {"CFLAGS": f"-I{tmp_path}"}
    (tmp_path / "valgrind").mkdir()
    (tmp_path / "valgrind/valgrind.h").write_text("")
    assert versions(("--without-default-features",), environment)["valgrind"] == "header"
    assert "valgrind" not in versions(("--disable-valgrind",), environment)


def test_the_c_library_counts(tmp_path: Path) -> None:
    said = os.confstr("CS_GNU_LIBC_VERSION")
    assert said is not None
    assert versions((), {})["libc"] == said.split()[1]
    (tmp_path / "limits.h").write_text("#define __GLIBC__ 9\n#define __GLIBC_MINOR__ 8\n")
    assert versions((), {"CFLAGS": f"-I{tmp_path}"})["libc"] == "9.8"


def test_a_system_xen_that_no_loader_finds_comes_along(inputs: BuildInput, tmp_path: Path) -> None:
    inside = XenLibrary("xenctrl", "libxenctrl.so.4.17", Path("/usr/lib/libxenctrl.so.4.17"), "5" * 64)
    outside = replace(inside, path=tmp_path / "libxenctrl.so.4.17")
    for library, bundled in ((inside, False), (outside, True)):
        system = replace(inputs, xen=replace(SYSTEM_XEN, libraries=(library,)))
        assert bundles_libraries(system, OPTIONS) is bundled
    layout = Layout.for_xen("/usr", None, None)
    assert layout is not None
    assert not bundles_libraries(
        replace(inputs, xen=replace(SYSTEM_XEN, libraries=(outside,))), BuildOptions(layout=layout)
    )


def test_no_meson_is_something_missing(inputs: BuildInput, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def none(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", none)
    with pytest.raises(MissingError, match="meson is not installed"):
        key(inputs)


def test_the_environment_of_a_build_is_picked() -> None:
    everything = {
        "PATH": "/bin",
        "CC": "gcc",
        "CFLAGS": "-O3",
        "PKG_CONFIG_PATH": "/a:/b",
        "LANG": "de_DE",
        "PYTHONPATH": "/x",
        "LDFLAGS": "",
    }
    assert honoured(everything) == {"CC": "gcc", "CFLAGS": "-O3", "PKG_CONFIG_PATH": "/a:/b"}
    environment = build_environment(honoured(everything), (Path("/first"),), inherit=everything)
    assert environment["PKG_CONFIG_PATH"] == "/first:/a:/b"
    assert environment["PATH"] == "/bin"
    assert not {"LANG", "PYTHONPATH", "CFLAGS", "CC"} & set(environment)
    assert set(load_recipe().environment.fixed) <= set(environment)
    assert "LIBRARY_PATH" not in environment
    folders = (Path("/xen/a"), Path("/xen/b"))
    assert build_environment({}, inherit={}, library_dirs=folders)["LIBRARY_PATH"] == "/xen/a:/xen/b"


def test_flags_in_the_environment_are_words() -> None:
    assert flag_words({"CFLAGS": "-O2 '-DX=a b'"}, "CFLAGS") == ("-O2", "-DX=a b")
    assert flag_words({}, "CFLAGS") == ()
    with pytest.raises(UsageError, match="CFLAGS cannot be split"):
        flag_words({"CFLAGS": "'"}, "CFLAGS")


def test_the_compiler_is_identified_by_what_it_is() -> None:
    plain = identify_compiler(replace(OPTIONS, cc="gcc"))
    assert plain.argv == ("gcc",)
    assert {"compiler", "target", "linker", "assembler", "strip"} == set(plain.tools)
    from_environment = identify_compiler(replace(OPTIONS, environment={"CC": "gcc -m64"}))
    assert from_environment.argv == ("gcc", "-m64")
    assert from_environment.flags == ("-m64",)
    assert from_environment.tools == plain.tools
    assert identify_compiler(replace(OPTIONS, cc="gcc", environment={"CC": "nonsense"})).argv == ("gcc",)


@pytest.mark.parametrize("flags", ["-B /usr/lib", "-isystem /nowhere", "--sysroot /"])
def test_words_after_the_compiler_are_no_programs(flags: str) -> None:
    assert shlex.join(identify_compiler(replace(OPTIONS, cc=f"gcc {flags}")).flags) == flags


@pytest.mark.parametrize(
    ("cc", "error", "message"),
    [
        ("no-such-compiler", MissingError, "no program 'no-such-compiler'"),
        ("ccache no-such-compiler -B /", MissingError, "no program '(ccache|no-such-compiler)'"),
        ("/nowhere/distcc gcc", MissingError, "no program '/nowhere/distcc'"),
        ("false", MissingError, "'false --version' failed: no output"),
        ("'gcc", UsageError, "cannot be split"),
        (" ", UsageError, "is empty"),
    ],
)
def test_a_compiler_that_is_none(cc: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        identify_compiler(replace(OPTIONS, cc=cc))


def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="no C compiler") as caught:
        identify_compiler(OPTIONS)
    assert "apt install gcc" in caught.value.hint


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_hardening_is_what_the_compiler_takes_and_is_asked_once(state: StateDir, tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    calls = tmp_path / "calls"
    refuse = 'case "$*" in *FORTIFY_SOURCE=3*|*auto-var-init*) exit 1 ;; esac'
    options = replace(OPTIONS, cc=_script(tmp_path / "oldcc", f'echo x >> {calls}\n{refuse}\nexec {gcc} "$@"'))
    compiler = Compiler((str(options.cc),), {"compiler": "old"})
    flags = hardening_flags(compiler, options, state)
    assert "-D_FORTIFY_SOURCE=2" in flags.compile
    assert "-D_FORTIFY_SOURCE=3" not in flags.compile
    assert "zero-initialised-variables" not in flags.features
    assert "-Wl,-z,now" in flags.link
    assert flags.configure == ("--enable-stack-protector",)
    count = len(calls.read_text())
    assert hardening_flags(compiler, options, state) == flags
    assert len(calls.read_text()) == count


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    """A state directory that remembers what the compiler can do."""
    return StateDir(tmp_path_factory.mktemp("probed")).create()


@pytest.mark.parametrize(
    ("cflags", "off"),
    [
        ("-O1 -g", None),
        ("-ftrivial-auto-var-init=uninitialized", "zero-initialised-variables"),
        ("-ftrivial-auto-var-init=zero", None),
        ("-fcf-protection=none", "control-flow-protection"),
        ("-fno-stack-protector", "stack-protector"),
        ("-fno-stack-clash-protection", "stack-clash-protection"),
        ("-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0", "fortify"),
        ("-D_FORTIFY_SOURCE_OF_OURS", None),
    ],
)
def test_what_the_user_switches_off_is_not_claimed(probed: StateDir, cflags: str, off: str | None) -> None:
    compiler = Compiler(("gcc",), {})
    plain = hardening_flags(compiler, OPTIONS, probed)
    assert {"zero-initialised-variables", "fortify", "stack-protector"} <= set(plain.features)
    chosen = hardening_flags(compiler, replace(OPTIONS, environment={"CFLAGS": cflags}), probed)
    assert set(plain.features) - set(chosen.features) == ({off} if off else set())
    assert chosen.compile == plain.compile


@pytest.mark.parametrize(
    ("variables", "off"),
    [
        ({"CFLAGS": "-g"}, None),
        ({"CFLAGS": "-O2"}, "optimised-for-size"),
        ({"CFLAGS": "-Os"}, None),
        ({"CFLAGS": "-fasynchronous-unwind-tables"}, "without-unwind-tables"),
        ({"CFLAGS": "-fno-function-sections"}, "without-unused-sections"),
        ({"LDFLAGS": "-Wl,--no-gc-sections"}, "without-unused-sections"),
        ({"LDFLAGS": "-Wl,-z,nopack-relative-relocs"}, "packed-relocations"),
    ],
)
def test_what_the_user_wants_larger_is_not_called_small(
    probed: StateDir, variables: dict[str, str], off: str | None
) -> None:
    compiler = Compiler(("gcc",), {})
    plain = size_flags(compiler, OPTIONS, probed)
    chosen = size_flags(compiler, replace(OPTIONS, environment=variables), probed)
    # A C library may not know of packed relocations.
    assert set(plain.features) - set(chosen.features) == ({off} if off else set()) & set(plain.features)
    assert (chosen.compile, chosen.link) == (plain.compile, plain.link)


@pytest.mark.parametrize(
    "linker",
    [
        # one that does not know the option and only warns, as GNU ld does; and a C library that does not
        'case "$*" in *pack-relative*fatal-warnings*) exit 1 ;; esac\nexec {gcc} "$@"',
        'case "$*" in *pack-relative*) printf "#!/bin/sh\\nexit 127\\n" > probe; chmod +x probe; exit ;; esac\nexec {gcc} "$@"',  # noqa: E501
    ],
)
def test_packed_relocations_need_the_linker_and_the_loader(state: StateDir, tmp_path: Path, linker: str) -> None:
    argv = (_script(tmp_path / "cc", linker.format(gcc=shutil.which("gcc"))),)
    flags = size_flags(Compiler(argv, {}), OPTIONS, state)
    assert "packed-relocations" not in flags.features
    assert "-Wl,-z,pack-relative-relocs" not in flags.link
    assert "without-unused-sections" in flags.features


def test_flags_in_the_compilers_command_are_probed_with_it(state: StateDir, tmp_path: Path) -> None:
    refuse = 'case "$*" in *old*auto-var-init*) exit 1 ;; esac'
    argv = (_script(tmp_path / "cc", f'{refuse}\nexec {shutil.which("gcc")} "$@"'),)
    assert "zero-initialised-variables" in hardening_flags(Compiler(argv, {}), OPTIONS, state).features
    flagged = Compiler((*argv, "-Dold"), {})
    assert "zero-initialised-variables" not in hardening_flags(flagged, OPTIONS, state).features


@pytest.mark.parametrize(
    ("said", "message"),
    [("fatal error: stdio.h: No such file", "cannot build a program: fatal"), ("No space left on device", "no space")],
)
def test_a_compiler_that_builds_nothing(state: StateDir, tmp_path: Path, said: str, message: str) -> None:
    broken = _script(tmp_path / "brokencc", f"echo '{said}' >&2; exit 1")
    with pytest.raises(MissingError, match=message):
        hardening_flags(Compiler((broken,), {}), OPTIONS, state)
    assert not list(state.memo.glob("hardening/*"))


def test_layouts() -> None:
    plain = Layout()
    assert (str(plain.root), str(plain.program), str(plain.data)) == ("/usr", "bin/qemu-system-xen", "share/qemu")
    assert Layout.for_xen(None, None, None) is None
    xen = Layout.for_xen("/usr/", "/usr/lib/xen-4.20/bin", "/usr/share")
    assert xen is not None
    assert str(xen.program) == "lib/xen-4.20/bin/qemu-system-xen"
    assert str(xen.data) == "share/qemu-xen/qemu"
    apart = Layout.for_xen("/usr", "/opt/xen/bin", None, "/")
    assert apart is not None
    assert (str(apart.root), str(apart.program)) == ("/", "opt/xen/bin/qemu-system-xen")
    assert str(apart.data) == "usr/share/qemu-xen/qemu"
    default = Layout.for_xen(None, None, None, "/staging")
    assert default is not None
    assert default.bindir == "/usr/local/lib/xen/bin"


@pytest.mark.parametrize("path", ["relative", "/with space", "/../up"])
def test_a_layout_of_odd_paths_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="prefix="):
        Layout(prefix=path)
