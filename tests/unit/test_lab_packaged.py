"""A distribution's own device model, out of a small signed archive of our own, in a system of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pytest

from tests.unit.fake_archive import FakeArchive
from tests.unit.keys import Signer
from xenqemu.archive.mirrors import machine_archive
from xenqemu.archive.naming import names_packaged
from xenqemu.boot_pipeline import find_device_model
from xenqemu.cli.common import DeviceModelName
from xenqemu.errors import LabError, UsageError
from xenqemu.lab.device_model import inspect_device_model
from xenqemu.lab.packaged import packaged_device_model, packaged_facts, stale_packaged
from xenqemu.lab.stored import prunable
from xenqemu.proc import run
from xenqemu.state import StateDir
from xenqemu.sysroot import qemu_words, sysroot_of
from xenqemu.ui import QuietUi

LIBRARIES = "lib/x86_64-linux-gnu"
PROGRAM = "usr/libexec/xen-qemu-system-i386"


def libc_files() -> dict[str, bytes | str]:
    system = Path("/usr/lib/x86_64-linux-gnu")
    names = ("ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1")
    files: dict[str, bytes | str] = {f"{LIBRARIES}/{name}": (system / name).read_bytes() for name in names}
    return {**files, "lib64/ld-linux-x86-64.so.2": f"/{LIBRARIES}/ld-linux-x86-64.so.2"}


@pytest.fixture
def archive(tmp_path: Path, key: Signer, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """A device model that prints its arguments, of a distribution with this machine's C library."""
    made = FakeArchive(tmp_path / "archive", key, key.export(tmp_path / "archive.gpg", armor=False))
    made.add_binary(
        "bookworm",
        "qemu-system-xen",
        "1:7.2+dfsg-7",
        {
            PROGRAM: Path("/bin/echo").read_bytes(),
            "usr/share/qemu/keymaps/de": b"keys",
            "usr/share/qemu/pvh.bin": b"rom",
        },
        "libc6, seabios",
    )
    made.add_binary("bookworm", "libc6", "2.36", libc_files())
    made.add_binary(
        "bookworm",
        "seabios",
        "1",
        {"usr/share/seabios/vgabios-stdvga.bin": b"bios", "usr/lib/ipxe/qemu/efi-e1000.rom": b"rom"},
    )
    made.publish()
    etc = made.etc(tmp_path / "etc")
    monkeypatch.setattr("xenqemu.archive.packages.machine_archive", lambda: machine_archive(etc, etc / "os-release"))
    return made


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state").create()


@pytest.mark.usefixtures("archive")
def test_it_is_started_with_its_own_loader_libraries_and_data(state: StateDir) -> None:
    program = packaged_device_model("4.17", state, QuietUi())
    root = program.parents[2]
    assert program == root / PROGRAM
    loader = root / "lib64/ld-linux-x86-64.so.2"
    assert loader.resolve().is_relative_to(root)
    assert run((*qemu_words(program), "-help")).stdout == f"-L {root}/usr/share/qemu -help\n"

    model = inspect_device_model(program)
    assert model.loader == loader.resolve()
    assert {library.is_relative_to(root) for library in model.libraries.values()} == {True}
    assert set(model.libraries) == {"libc.so.6", "libgcc_s.so.1"}
    assert model.data == root / "usr/share/qemu"
    data = {path.relative_to(model.data).as_posix() for path in model.data.rglob("*") if path.is_file()}
    assert data == {"keymaps/de", "pvh.bin", "vgabios-stdvga.bin", "efi-e1000.rom"}


@pytest.mark.usefixtures("archive")
def test_it_is_made_once(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    program = packaged_device_model("distro:4.17", state, QuietUi())
    assert packaged_facts(program) == {"qemu-system-xen": "1:7.2+dfsg-7", "libc6": "2.36", "seabios": "1"}

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the archive was asked again")

    monkeypatch.setattr("xenqemu.lab.packaged.fetch_closure", asked)
    assert packaged_device_model("4.17", state, QuietUi()) == program
    assert stale_packaged(state) == ()


def test_a_newer_one_takes_its_place_when_asked_for(state: StateDir, archive: FakeArchive) -> None:
    before = packaged_device_model("4.17", state, QuietUi())
    archive.listed_binaries["bookworm"] = [
        listed for listed in archive.listed_binaries["bookworm"] if not listed.startswith("Package: libc6\n")
    ]
    archive.add_binary("bookworm", "libc6", "2.36-9", libc_files())
    archive.publish()
    assert packaged_device_model("4.17", state, QuietUi()) == before
    after = packaged_device_model("4.17", state, QuietUi(), refresh=True)
    assert packaged_facts(after)["libc6"] == "2.36-9"
    assert stale_packaged(state) == (before.parents[2],)
    assert prunable(state, everything=False) == (before.parents[2],)


def test_a_damaged_one_is_made_again(state: StateDir, archive: FakeArchive) -> None:
    program = packaged_device_model("4.17", state, QuietUi())
    program.unlink()
    assert archive.root.is_dir()
    assert packaged_device_model("4.17", state, QuietUi()) == program
    assert program.is_file()


@pytest.mark.usefixtures("archive")
def test_an_archive_without_it_and_an_unknown_xen(state: StateDir) -> None:
    with pytest.raises(LabError, match="the package archive does not give"):
        packaged_device_model("4.20", state, QuietUi())
    with pytest.raises(UsageError, match=r"no Xen '3\.0'"):
        packaged_device_model("3.0", state, QuietUi())


@pytest.mark.parametrize(
    ("name", "packaged"),
    [("distro", True), ("distro:4.17", True), ("./distro", False), ("distro2", False), ("", False)],
)
def test_names(name: str, packaged: bool) -> None:
    assert names_packaged(name) is packaged


def test_a_program_of_this_machine_is_started_as_it_is(tmp_path: Path) -> None:
    program = tmp_path / "bin/qemu-system-xen"
    program.parent.mkdir()
    shutil.copy("/bin/true", program)
    assert sysroot_of(program) is None
    assert sysroot_of(Path("/bin/true")) is None
    assert qemu_words(program) == (str(program),)


def test_a_system_without_data_of_qemu(tmp_path: Path) -> None:
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64/ld-linux-x86-64.so.2").write_bytes(b"")
    program = tmp_path / "usr/bin/qemu-system-xen"
    words = (str(tmp_path / "lib64/ld-linux-x86-64.so.2"), "--inhibit-cache", "--library-path", f"{tmp_path}/lib64")
    assert qemu_words(program) == (*words, "--argv0", "qemu-system-xen", str(program))


def test_the_lab_takes_it_by_name(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    named = state.root / "qemu"
    asked: list[str] = []

    def packaged(xen: str, *_: object) -> Path:
        asked.append(xen)
        return named

    monkeypatch.setattr("xenqemu.lab.packaged.packaged_device_model", packaged)
    monkeypatch.setattr("xenqemu.lab.recipe.default_series", lambda: "4.99")
    ui = QuietUi()
    assert [find_device_model(name, "4.20", state, ui) for name in ("distro", "distro:4.17")] == [named, named]
    assert find_device_model("distro", None, state, ui) == named
    assert asked == ["4.20", "4.17", "4.99"]
    assert find_device_model(Path("x"), "4.20", state, ui) == Path("x")
    assert find_device_model(None, None, state, ui) is None


def test_the_command_line_takes_a_name_or_a_file(tmp_path: Path) -> None:
    kind = DeviceModelName()
    (tmp_path / "distro").write_bytes(b"")
    assert kind.convert("distro:4.17", None, None) == "distro:4.17"
    assert kind.convert(str(tmp_path / "distro"), None, None) == tmp_path / "distro"
    with pytest.raises(click.BadParameter, match="does not exist"):
        kind.convert(str(tmp_path / "missing"), None, None)
