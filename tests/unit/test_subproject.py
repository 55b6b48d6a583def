"""A folder that Xen's own build takes for a QEMU source, on imitations of a QEMU and a Xen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu import subproject_pipeline
from xenqemu.cli.main import _run as run_cli
from xenqemu.errors import UsageError
from xenqemu.subproject.flags import check_features, known_flags, read_flags

# What tools/Makefile of Xen 4.20 passes, as make prints it.
XENS_FLAGS = [
    "--enable-xen",
    "--target-list=i386-softmmu",
    "--prefix=/usr/local",
    "--libdir=/usr/local/lib/xen/lib",
    "--includedir=/usr/local/lib/xen/include",
    "--extra-cflags=-DXC_WANT_COMPAT_EVTCHN_API=1 \t-DXC_WANT_COMPAT_GNTTAB_API=1 ",
    "--extra-ldflags=-Wl,-rpath,/usr/local/lib/xen/lib",
    "--bindir=/usr/local/lib/xen/bin",
    "--datadir=/usr/local/share/qemu-xen",
    "--localstatedir=/var",
    "--docdir=/usr/local/lib/xen/share/doc",
    "--mandir=/usr/local/lib/xen/share/man",
    "--libexecdir=/usr/local/lib/xen/libexec",
    "--firmwarepath=/usr/local/lib/xen/share/qemu-firmware",
    "--disable-kvm",
    "--disable-docs",
    "--disable-guest-agent",
    "--python=/usr/bin/python3",
    "--cpu=x86_64",
]
BUILD_OPTIONS = (
    "case $1 in\n    --enable-virtfs) ;;\n    --disable-virtfs) ;;\n    --enable-trace-backends=*) ;;\nesac\n"
)


# ---- flags ----


def test_what_xens_build_says() -> None:
    asked = read_flags([*XENS_FLAGS, "--enable-debug", "--disable-virtfs", "--enable-trace-backends=log"])
    assert (asked.prefix, asked.bindir, asked.datadir) == (
        "/usr/local",
        "/usr/local/lib/xen/bin",
        "/usr/local/share/qemu-xen",
    )
    assert asked.cflags == "-DXC_WANT_COMPAT_EVTCHN_API=1 -DXC_WANT_COMPAT_GNTTAB_API=1"
    assert asked.ldflags == "-Wl,-rpath,/usr/local/lib/xen/lib"
    assert asked.debug_info
    assert asked.trace_backends == "log"
    assert asked.features == {"virtfs": False}
    assert [remark.partition(":")[0] for remark in asked.remarks] == ["--target-list=i386-softmmu", "--enable-debug"]


def test_without_flags_things_go_where_xens_configure_puts_them() -> None:
    asked = read_flags([])
    assert (asked.prefix, asked.bindir, asked.debug_info, asked.features) == ("/usr/local", None, False, {})


def test_the_last_of_two_counts_and_words_add_up() -> None:
    asked = read_flags(
        ["--prefix=/a", "--prefix=/b", "--extra-cflags=-O1", "--extra-cflags=-g", "--enable-a", "--disable-a"]
    )
    assert (asked.prefix, asked.cflags, asked.features) == ("/b", "-O1 -g", {"a": False})


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--with-coroutine=ucontext", "--with-coroutine=ucontext is unknown"),
        ("--enable_xen", "--enable_xen is unknown"),
        ("all", "all is unknown"),
        ("--target-list=arm-softmmu", "--target-list=arm-softmmu: xenqemu builds for x86"),
        ("--cpu=i386", "--cpu=i386: a device model runs in a 64-bit dom0"),
        ("--cross-prefix=aarch64-linux-gnu-", "xenqemu builds for the machine that it runs on"),
    ],
)
def test_what_cannot_be_met_is_told(flag: str, message: str) -> None:
    with pytest.raises(UsageError, match="cannot be met") as caught:
        read_flags([*XENS_FLAGS, flag])
    assert message in caught.value.message


def test_all_wrong_flags_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        read_flags(["--foo", "--bar=1", "--enable-xen"])
    assert "--foo" in caught.value.message
    assert "--bar=1" in caught.value.message
    assert "--enable-xen" not in caught.value.message


@given(st.lists(st.text(max_size=20)))
def test_no_flag_is_swallowed(words: list[str]) -> None:
    try:
        asked = read_flags(words)
    except UsageError as error:
        told = [word for word in words if word in error.message]
        assert told, error.message  # noqa: PT017 (either outcome is right)
    else:
        known = [word for word in words if word.partition("=")[0] in known_flags()]
        features = [word for word in words if word not in known]
        assert {word.split("-", 3)[3] for word in features} == set(asked.features)


def test_entries_of_the_table_are_complete() -> None:
    uses = {"holds", "folder", "nothing", "words", "debug", "backends"}
    for flag in known_flags().values():
        assert flag.use in uses
        assert bool(flag.of) == (flag.use in ("folder", "words"))
        assert flag.because or (flag.use != "nothing" and not flag.values)


def test_features_are_those_of_the_qemu() -> None:
    scripts = ["  --enable-debug) x ;;\n  --enable-a | --enable-b)", BUILD_OPTIONS]
    check_features(["debug", "a", "b", "virtfs"], scripts)
    with pytest.raises(UsageError, match="knows no --enable-virtsf, --enable-z"):
        check_features(["z", "virtsf", "a"], scripts)


# ---- the way through the stages ----


@pytest.fixture
def xen_tree(tmp_path: Path, fake_xen: Path) -> Path:
    """A Xen tree whose libraries are in dist/install, with what Xen's build sets PKG_CONFIG_PATH to."""
    tree = tmp_path / "xen-tree"
    (tree / "xen").mkdir(parents=True)
    (tree / "xen" / "Makefile").write_text("export XEN_VERSION = 4\n")
    (tree / "tools" / "libs").mkdir(parents=True)
    (tree / "tools" / "pkg-config").mkdir()
    shutil.copytree(fake_xen, tree / "dist" / "install", symlinks=True)
    return tree


@pytest.fixture
def subproject(qemu: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (qemu / "scripts").mkdir(exist_ok=True)
    (qemu / "scripts" / "meson-buildoptions.sh").write_text(BUILD_OPTIONS)
    assert run_cli(["subproject", "device-model", "--qemu", "qemu", "--profile", "tiny.toml", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["folder"] == str(Path.cwd() / "device-model")
    assert shown["next"].endswith(f"QEMU_UPSTREAM_LOC={Path.cwd()}/device-model")
    return Path.cwd() / "device-model"


@pytest.fixture
def build_folder(tmp_path: Path, subproject: Path, xen_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = xen_tree / "tools" / "qemu-xen-build"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PKG_CONFIG_PATH", f"{xen_tree}/tools/pkg-config")
    return folder


def _configure(subproject: Path, *words: str) -> int:
    return run_cli(["from-xen", "configure", str(subproject), "--", *XENS_FLAGS, *words])


def test_configured_built_and_installed(subproject: Path, build_folder: Path, tmp_path: Path) -> None:
    assert _configure(subproject) == 0
    assert (build_folder / "Makefile").is_file()
    assert run_cli(["from-xen", "make", "."]) == 0
    assert not (tmp_path / "image").exists()
    assert run_cli(["from-xen", "make", "--install", str(tmp_path / "image"), "."]) == 0
    folder = tmp_path / "image/usr/local/lib/xen/bin"
    program = folder / "qemu-system-xen"
    assert (folder / "qemu-system-i386").readlink() == Path("qemu-system-xen")
    dynamic = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
    assert "/usr/local/lib/xen/lib" in dynamic
    assert (tmp_path / "image/usr/local/share/qemu-xen/qemu/keymaps/de").is_file()
    assert not list((tmp_path / "image").rglob("libxen*"))


def test_again_nothing_is_done_and_a_foreign_alias_is_replaced(
    subproject: Path, build_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _configure(subproject) == 0
    install = ["from-xen", "make", "--install", str(tmp_path / "image"), "."]
    assert run_cli(install) == 0
    alias = tmp_path / "image/usr/local/lib/xen/bin/qemu-system-i386"
    alias.unlink()
    alias.write_text("the one that Xen built before\n")
    capsys.readouterr()
    assert run_cli(install) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{alias.with_name('qemu-system-xen')}\n"
    assert "nothing to do" in captured.err
    assert alias.is_symlink()


def test_features_and_debug_information_reach_the_build(
    subproject: Path, build_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _configure(subproject, "--enable-virtfs", "--enable-debug", "--enable-trace-backends=log") == 0
    assert "debug information is kept" in capsys.readouterr().err
    assert run_cli(["from-xen", "make", "--install", str(tmp_path / "image"), "."]) == 0
    assert (tmp_path / "image/usr/local/lib/xen/bin/qemu-system-xen.debug").is_file()
    (log,) = (tmp_path / "state" / "artifacts").rglob("build.log")
    configure = next(line for line in log.read_text().splitlines() if "--enable-virtfs" in line)
    assert "--enable-trace-backends=log" in configure
    # The next configure run has no such flags, and is the profile's own again.
    assert _configure(subproject) == 0
    assert not (build_folder / "xenqemu-profile.toml").exists()


def test_wrong_flags_and_features_end_it_before_anything_is_built(
    subproject: Path, build_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _configure(subproject, "--frobnicate") == 2
    assert "--frobnicate is unknown" in capsys.readouterr().err
    assert _configure(subproject, "--enable-frobs") == 2
    assert "knows no --enable-frobs" in capsys.readouterr().err
    assert [path.name for path in build_folder.iterdir()] == ["Makefile"]


def test_after_a_configure_that_failed_make_builds_nothing(subproject: Path, build_folder: Path) -> None:
    assert _configure(subproject) == 0
    assert _configure(subproject, "--frobnicate") == 2
    for target in ("all", "install"):
        done = subprocess.run(["make", "-C", build_folder, target], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "configure has failed" in done.stderr
    assert _configure(subproject) == 0
    assert run_cli(["from-xen", "make", "."]) == 0


def test_a_xen_without_libraries_is_told(
    subproject: Path, build_folder: Path, xen_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(xen_tree / "dist")
    assert _configure(subproject) == 5
    assert "make -C tools subdir-all-include subdir-all-libs" in capsys.readouterr().err


def test_without_a_tree_it_is_the_systems_xen(
    subproject: Path, build_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PKG_CONFIG_PATH", f"/nonexistent/tools/pkg-config:{tmp_path}")
    assert subproject_pipeline._xen(os.environ) == "system"


@pytest.mark.parametrize("damage", ["nothing", "no JSON", "[]", "{}", '{"qemu": {"kind": "x"}}'])
def test_a_damaged_folder_is_told(
    subproject: Path, build_folder: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = subproject / "xenqemu-subproject.json"
    facts.unlink() if damage == "nothing" else facts.write_text(damage)
    assert _configure(subproject) == 5
    assert "run `xenqemu subproject`" in capsys.readouterr().err
    (build_folder / "xenqemu-configured.json").write_text('{"source": 1}')
    assert run_cli(["from-xen", "make", "."]) == 5
    assert "run configure there again" in capsys.readouterr().err


def test_a_folder_with_something_else_stays_as_it_is(
    qemu: Path, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    before = sorted(qemu.rglob("*"))
    assert run_cli(["subproject", "qemu", "--qemu", "qemu", "--profile", "tiny.toml"]) == 2
    assert "has files already" in capsys.readouterr().err
    assert sorted(qemu.rglob("*")) == before
    (project / "file").write_text("")
    assert run_cli(["subproject", "file/below", "--qemu", "qemu", "--profile", "tiny.toml"]) == 2


# ---- the scripts ----


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have the scripts call a program that writes down what it was told, and where."""
    program = tmp_path / "it's $HOME" / "xenqemu"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PWD" "${{MAKEFLAGS-unset}}" "$@" > {tmp_path}/told\n')
    program.chmod(0o755)
    monkeypatch.setattr(subproject_pipeline, "_command", lambda state_dir: (str(program),))
    return tmp_path / "told"


def test_configure_hands_its_flags_on(told: Path, subproject: Path, tmp_path: Path) -> None:
    words = ["--a=b c", "--d='$e'", ""]
    environment = {**os.environ, "MAKEFLAGS": "w"}
    subprocess.run([subproject / "configure", *words], cwd=tmp_path, env=environment, check=True)
    expected = [str(tmp_path), "unset", "from-xen", "configure", str(subproject), "--", *words]
    assert told.read_text().splitlines() == expected


def test_make_hands_jobs_and_destdir_on(told: Path, subproject: Path, build_folder: Path, tmp_path: Path) -> None:
    assert _configure(subproject) == 0
    make = ["make", "-s", "-j3", "-C", str(build_folder)]
    environment = {**os.environ, "DESTDIR": str(tmp_path / "it's an image")}
    subprocess.run([*make, "all"], env=environment, check=True)
    assert told.read_text().splitlines()[2:] == ["--quiet", "from-xen", "make", "--jobs=3", "."]
    subprocess.run([*make, "install"], env=environment, check=True)
    install = f"--install={tmp_path}/it's an image"
    words = ["--quiet", "from-xen", "make"]
    assert told.read_text().splitlines() == [str(build_folder), "unset", *words, "--jobs=3", install, "."]
    del environment["DESTDIR"]
    subprocess.run([*make, "install"], env=environment, check=True)
    assert "--install=/" in told.read_text().splitlines()
    subprocess.run([*make, "clean", "distclean"], check=True)


@pytest.mark.parametrize(("backends", "found"), [("nop", []), ("log", ["log"]), ("log,simple", ["log", "simple"])])
def test_tracetool_knows_the_profiles_back_ends(backends: str, found: list[str], qemu: Path, project: Path) -> None:
    (project / "tiny.toml").write_text(
        f'name = "tiny"\ndescription = "x"\n[configure]\noptions = ["--enable-trace-backends={backends}"]\n'
    )
    assert run_cli(["subproject", "device-model", "--qemu", "qemu", "--profile", "tiny.toml"]) == 0
    tracetool = Path.cwd() / "device-model/scripts/tracetool.py"
    for name in ("log", "simple", "stderr"):
        for words in (["--backend", name], [f"--backend={name}"]):
            done = subprocess.run([tracetool, "--check-backend", *words], check=False)
            assert (done.returncode == 0) == (name in found)


def test_the_command_is_that_of_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(UsageError, match="there is no"):
        subproject_pipeline._command(None)
    (tmp_path / "xenqemu").write_text("")
    assert subproject_pipeline._command(Path("s")) == (
        str(tmp_path / "xenqemu"),
        "--state-dir",
        str(Path.cwd() / "s"),
    )


def test_sources_are_found_from_elsewhere(qemu: Path, project: Path) -> None:
    words = ["--qemu", "qemu", "--profile", "tiny.toml"]
    assert run_cli(["--state-dir", "elsewhere", "subproject", "device-model", *words]) == 0
    facts = json.loads((project / "device-model/xenqemu-subproject.json").read_text())
    assert facts["qemu"]["location"] == str(qemu)
    assert facts["profile"] == str(project / "tiny.toml")
    assert facts["state-dir"] == str(project / "elsewhere")
    assert "--state-dir" in (project / "device-model/configure").read_text()
