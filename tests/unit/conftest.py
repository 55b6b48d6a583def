"""A small project to run the command in: imitations of a QEMU and a Xen, a series of one patch, an empty profile."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fake_qemu import write_fake_qemu
from tests.unit.fakeqemu import CONFIGURE, MAIN, other_source
from tests.unit.keys import Signer, signer
from tests.unit.trees import diff, patch_text, write_series
from tests.unit.xens import make_prefix
from xenqemu import resources

MESON = "project('qemu', ['c'])\n"


@pytest.fixture
def nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but the state directory and the launcher, and an empty folder to work in."""
    for name in [name for name in os.environ if name.startswith("XENQEMU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XENQEMU_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XENQEMU_LAUNCHER", "none")  # whatever is installed, and the cache in HOME stays as it is
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def project(nobodys_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: settings of nobody, a state directory, the series and the target of the imitation."""
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    topic = patch_text("meson: a line", diff("meson.build", MESON, MESON + "# more\n"))
    write_series(tmp_path / "patches", {"010-a": {"7.2.patch": topic}})
    shutil.copytree(resources.data_dir("targets"), tmp_path / "targets")
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "xenqemu")
    (tmp_path / "tiny.toml").write_text('name = "tiny"\ndescription = "Nothing at all"\n')
    return tmp_path


@pytest.fixture
def qemu(project: Path) -> Path:
    tree = project / "qemu"
    write_fake_qemu(tree)
    (project / "control").mkdir()
    (tree / "configure").write_text(CONFIGURE.replace("TREE", str(project)))
    (tree / "meson.build").write_text(MESON)
    (tree / "main.c").write_text(MAIN)
    (tree / "first.c").write_text("const char *first(void) { return __FILE__; }\n")
    (tree / "second.c").write_text(other_source())
    (tree / "pc-bios/keymaps").mkdir(parents=True)
    (tree / "pc-bios/keymaps/de").write_text("map 0x407\n")
    (tree / "pc-bios/keymaps/meson.build").write_text("keymaps = {}\n")
    return tree


@pytest.fixture(scope="session")
def fake_xen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("xen") / "install"
    make_prefix(root / "usr/local")
    return root


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    """The key of a package archive of our own."""
    with signer("archive") as made:
        yield made
