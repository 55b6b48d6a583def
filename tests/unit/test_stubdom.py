"""Stub domains: parts out of a small signed archive, the file system that libxl's protocol wants, and where they go."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import socket
import subprocess
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner
from packaging.version import Version

from tests.unit.fake_archive import FakeArchive
from tests.unit.keys import Signer
from tests.unit.read_cpio import Read, read_archive
from xenqemu.archive.mirrors import machine_archive
from xenqemu.cli.main import cli
from xenqemu.errors import LabError, MissingError, UsageError
from xenqemu.lab.device_model import DeviceModel, inspect_device_model
from xenqemu.lab.recipe import load_recipe as load_host
from xenqemu.lab.stored import prunable
from xenqemu.pipeline import BuildRequest
from xenqemu.state import StateDir
from xenqemu.stubdom import initramfs
from xenqemu.stubdom.initramfs import compile_programs, write_stub_domain
from xenqemu.stubdom.model import Parts
from xenqemu.stubdom.parts import fetch_parts, stale_parts
from xenqemu.stubdom.recipe import FILES, Recipe, load_recipe, stub_memory
from xenqemu.stubdom_pipeline import StubdomRequest, build_stubdom, make_stubdom
from xenqemu.ui import QuietUi

SYSTEM = Path("/usr/lib/x86_64-linux-gnu")
LIBRARIES = "lib/x86_64-linux-gnu"
KERNEL = "lib/modules/6.1.0-test"
LIBC = ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6")


def module(*needs: str) -> bytes:
    return b"\x7fELF code\0name=x\0depends=" + ",".join(needs).encode() + b"\0retpoline=Y\0"


@pytest.fixture
def archive(tmp_path: Path, key: Signer, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """A kernel, Xen's tools (programs of this machine) and its C library."""
    made = FakeArchive(tmp_path / "archive", key, key.export(tmp_path / "archive.gpg", armor=False))
    made.add_binary("bookworm", "linux-image-cloud-amd64", "6.1.1", {}, "linux-image-test")
    names = ("evtchn", "gntdev", "gntalloc", "blkfront", "netfront", "pcifront")
    made.add_binary(
        "bookworm",
        "linux-image-test",
        "6.1.1-1",
        {
            "boot/vmlinuz-6.1.0-test": b"kernel",
            f"{KERNEL}/modules.builtin": b"kernel/drivers/net/tun.ko\n",
            f"{KERNEL}/kernel/xen-privcmd.ko.xz": lzma.compress(module()),
            f"{KERNEL}/kernel/llc.ko": module(),
            f"{KERNEL}/kernel/bridge.ko": module("llc"),
            **{f"{KERNEL}/kernel/xen-{name}.ko": module() for name in names},
        },
    )
    tool = Path("/bin/true").read_bytes()
    made.add_binary("bookworm", "xen-utils-4.17", "4.17.5", {"usr/lib/xen-4.17/bin/vchan-socket-proxy": tool}, "libc6")
    made.add_binary(
        "bookworm",
        "xenstore-utils",
        "4.17.5",
        {"usr/bin/xenstore": tool, "usr/bin/xenstore-ls": "xenstore", "usr/bin/xenstore-read": "xenstore"},
    )
    made.add_binary("bookworm", "busybox-static", "1", {"bin/busybox": b"busybox"})
    made.add_binary(
        "bookworm",
        "seabios",
        "1",
        {f"usr/share/seabios/vgabios-{card}.bin": card.encode() for card in ("cirrus", "stdvga", "qxl")},
    )
    made.add_binary(
        "bookworm",
        "ipxe-qemu",
        "1",
        {f"usr/lib/ipxe/qemu/efi-{card}.rom": card.encode() for card in ("rtl8139", "vmxnet3")},
    )
    libc = {f"{LIBRARIES}/{name}": (SYSTEM / name).read_bytes() for name in LIBC}
    link: dict[str, bytes | str] = {"lib64/ld-linux-x86-64.so.2": f"/{LIBRARIES}/ld-linux-x86-64.so.2"}
    made.add_binary("bookworm", "libc6", "2.36", link | libc)
    made.publish()
    etc = made.etc(tmp_path / "etc")
    monkeypatch.setattr("xenqemu.archive.packages.machine_archive", lambda: machine_archive(etc, etc / "os-release"))
    return made


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(load_host("4.17"))


@pytest.fixture
def parts(archive: FakeArchive, recipe: Recipe, state: StateDir) -> Parts:
    assert archive.root.is_dir()
    return fetch_parts(recipe, state, QuietUi())


@pytest.fixture
def model(tmp_path: Path) -> DeviceModel:
    """A program of this machine, with a keymap."""
    program = tmp_path / "dm/bin/qemu-system-xen"
    program.parent.mkdir(parents=True)
    shutil.copy("/bin/true", program)
    keymaps = tmp_path / "dm/share/qemu/keymaps"
    keymaps.mkdir(parents=True)
    (keymaps / "de").write_text("keys")
    return inspect_device_model(program)


def unpacked(path: Path) -> dict[str, Read]:
    return read_archive(zstandard.ZstdDecompressor().decompress(path.read_bytes()))


def test_the_parts(parts: Parts, recipe: Recipe, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (parts.series, parts.kernel_release, parts.kernel.read_bytes()) == ("4.17", "6.1.0-test", b"kernel")
    assert set(parts.programs) == {"busybox", "vchan-socket-proxy", "xenstore-ls", "xenstore-read"}
    assert parts.programs["xenstore-read"].read_bytes() == Path("/bin/true").read_bytes()
    assert set(parts.libraries) == {"ld-linux-x86-64.so.2", "libc.so.6"}
    assert set(parts.libc) == set(LIBC)
    assert set(parts.firmware) == {"vgabios-cirrus.bin", "vgabios-stdvga.bin", "efi-rtl8139.rom"}
    order = [module.name for module in parts.modules]
    assert order[0] == "xen-privcmd.ko"
    assert [module.name for module in parts.modules if module.when == "network"] == [
        "xen-netfront.ko",
        "llc.ko",
        "bridge.ko",
    ]
    assert {module.parameters for module in parts.modules[1:]} == {""}
    assert parts.modules[0].content.read_bytes() == module()
    assert parts.packages["libc6"] == "2.36"

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the archive was asked again")

    monkeypatch.setattr("xenqemu.stubdom.parts.fetch_closure", asked)
    assert fetch_parts(recipe, state, QuietUi()) == parts
    assert stale_parts(state) == ()


def test_newer_and_damaged_parts(parts: Parts, recipe: Recipe, state: StateDir, archive: FakeArchive) -> None:
    folder = parts.kernel.parent
    assert fetch_parts(recipe, state, QuietUi(), refresh=True).kernel.parent == folder
    parts.kernel.unlink()
    assert fetch_parts(recipe, state, QuietUi()).kernel.parent == folder
    (folder / "stubdom.json").write_text("{}")
    assert fetch_parts(recipe, state, QuietUi()) == parts
    listed = archive.listed_binaries["bookworm"]
    listed[:] = [text for text in listed if not text.startswith("Package: busybox-static\n")]
    archive.add_binary("bookworm", "busybox-static", "2", {"bin/busybox": b"newer"})
    archive.publish()
    newer = fetch_parts(recipe, state, QuietUi(), refresh=True)
    assert newer.programs["busybox"].read_bytes() == b"newer"
    assert stale_parts(state) == prunable(state, everything=False) == (folder,)


def test_a_larger_device_model_takes_more_memory() -> None:
    assert [stub_memory(size << 20) for size in (1, 15, 17, 40)] == [96, 96, 102, 171]


def test_hypercalls_of_the_device_model_are_let_through(recipe: Recipe) -> None:
    """Since XSA-482 the kernel refuses them otherwise, and QEMU cannot populate the guest's memory."""
    assert recipe.parameters["xen-privcmd"] == "unrestricted=1"


def test_the_file_system(parts: Parts, model: DeviceModel, tmp_path: Path) -> None:
    programs = compile_programs(tmp_path)
    assert [program.name for program in programs] == ["add-disk", "end-guest", "from-console", "relay"]
    assert max(program.stat().st_size for program in programs) < 16384
    made = write_stub_domain(parts, model, programs, tmp_path)
    assert (made.kernel, made.kernel.read_bytes(), made.memory) == (tmp_path / "vmlinuz", b"kernel", 96)
    entries = unpacked(made.initramfs)
    for name, file in (
        ("init", FILES / "init"),
        ("bin/bridge", FILES / "bridge"),
        ("bin/qemu-system-xen", model.path),
        ("bin/hotplug", FILES / "hotplug"),
        ("bin/end-guest", tmp_path / "end-guest"),
        ("lib/libc.so.6", SYSTEM / "libc.so.6"),
        ("lib/ld-linux-x86-64.so.2", SYSTEM / "ld-linux-x86-64.so.2"),
    ):
        assert (entries[name].content, entries[name].mode & 0o777) == (file.read_bytes(), 0o755), name
    assert (entries["bin/sh"].content, entries["lib64"].content) == (b"busybox", b"lib")
    assert entries["share/qemu/keymaps/de"].content == b"keys"
    assert entries["share/qemu/vgabios-stdvga.bin"].content == b"stdvga"
    assert entries["modules/first"].content.startswith(b"xen-privcmd.ko unrestricted=1\nxen-evtchn.ko\n")
    assert entries["modules/network"].content == b"xen-netfront.ko\nllc.ko\nbridge.ko\n"
    assert entries["modules/later"].content == b"xen-pcifront.ko\n"
    assert entries["modules/bridge.ko"].content == module("llc")
    facts = json.loads((tmp_path / "manifest.json").read_bytes())
    assert facts["initramfs"]["size"] == made.initramfs.stat().st_size
    assert facts["kernel"]["release"] == "6.1.0-test"
    again = tmp_path / "again"
    again.mkdir()
    assert write_stub_domain(parts, model, programs, again).initramfs.read_bytes() == made.initramfs.read_bytes()


def test_the_newer_c_library_counts(
    parts: Parts, model: DeviceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's distribution may be newer than this machine, or older; all of its files are of one version."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6"):
        shutil.copy(SYSTEM / name, own)
    ours = replace(
        model,
        loader=own / "ld-linux-x86-64.so.2",
        libraries={"libc.so.6": own / "libc.so.6", "libm.so.6": own / "libm.so.6", "libz.so.1": own / "libc.so.6"},
    )
    newest = {"packages": Version("2.41"), "own": Version("2.36")}
    monkeypatch.setattr(initramfs, "provided_glibc", lambda file: newest["own" if file.parent == own else "packages"])
    monkeypatch.setattr(initramfs, "needed_glibc", lambda _: Version("2.34"))
    found = initramfs._libraries(parts, ours)
    assert found["libz.so.1"] == own / "libc.so.6"
    assert {found[name].parent for name in LIBC} == {parts.libc["libc.so.6"].parent}
    newest["own"] = Version("2.42")
    assert {initramfs._libraries(parts, ours)[name].parent for name in LIBC} == {own}
    (own / "libm.so.6").unlink()
    with pytest.raises(LabError, match=r"no libm\.so\.6"):
        initramfs._libraries(parts, ours)
    shutil.copy(SYSTEM / "libm.so.6", own)
    monkeypatch.setattr(initramfs, "needed_glibc", lambda _: Version("2.43"))
    with pytest.raises(LabError, match="needs a newer C library"):
        initramfs._libraries(parts, ours)


def test_a_script_is_no_device_model_for_it(parts: Parts, model: DeviceModel, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is a script"):
        write_stub_domain(parts, replace(model, script=True), (), tmp_path)


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="'cc' is not installed"):
        compile_programs(tmp_path)
    (tmp_path / "cc").write_text("#!/bin/sh\necho 'cc: another machine' >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    with pytest.raises(MissingError, match="add-disk could not be compiled: cc: another machine"):
        compile_programs(tmp_path)


def test_what_ends_the_guest_needs_a_number(tmp_path: Path) -> None:
    (program,) = (path for path in compile_programs(tmp_path) if path.name == "end-guest")
    # No Xen here: the file that it opens is not there.
    assert [subprocess.run([program, *words], check=False).returncode for words in ((), ("0",), ("7",))] == [1, 1, 1]


def test_a_disk_is_handed_to_the_device_model(tmp_path: Path) -> None:
    (program,) = (path for path in compile_programs(tmp_path) if path.name == "add-disk")
    (tmp_path / "disk").write_bytes(b"a CD")
    asked: list[dict[str, object]] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "qmp"))
        server.listen()

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b'{"QMP": {"version": {}}}\r\n')
                asked.append(json.loads(connection.recv(1000)))
                connection.sendall(b'{"return": {}}\r\n')
                data, files, _, _ = socket.recv_fds(connection, 1000, 4)
                (disk,) = files
                asked.append({**json.loads(data), "content": os.read(disk, 100)})
                connection.sendall(b'{"event": "X"}\r\n' if "refuse" in str(asked) else b'{"return": {"fd": 3}}\r\n')

        for name, code in (("stub-devid:5632", 0), ("refuse", 1)):
            thread = threading.Thread(target=serve)
            thread.start()
            done = subprocess.run([program, tmp_path / "qmp", tmp_path / "disk", name], check=False, timeout=20)
            thread.join()
            assert done.returncode == code
    assert asked[0] == {"execute": "qmp_capabilities"}
    assert asked[1] == {"execute": "add-fd", "arguments": {"opaque": "stub-devid:5632"}, "content": b"a CD"}
    for words, code in (((), 2), (("x" * 200, "/dev/null", "a"), 2), ((tmp_path / "qmp", "/dev/null", "a"), 1)):
        assert subprocess.run([program, *words], check=False).returncode == code


def test_the_state_is_on_its_console_before_the_answer(tmp_path: Path) -> None:
    (program,) = (path for path in compile_programs(tmp_path) if path.name == "relay")
    state, console = tmp_path / "state", tmp_path / "console"
    state.write_bytes(b"state" * 3000)
    console.write_bytes(b"")
    words = [program, tmp_path / "qmp", tmp_path / "model", state, console]
    with socket.socket(socket.AF_UNIX) as server, subprocess.Popen(words) as relay:
        server.bind(str(tmp_path / "model"))
        server.listen()
        try:
            for _ in range(2):  # one client after another
                with socket.socket(socket.AF_UNIX) as client:
                    while client.connect_ex(str(tmp_path / "qmp")):
                        time.sleep(0.02)
                    client.settimeout(20)
                    with server.accept()[0] as model:
                        for said in (b'{"execute": "stop"}', b'{"execute": "xen-save-dev', b'ices-state"}'):
                            client.sendall(said)
                            assert model.recv(100) == said
                        model.sendall(b'{"event": "STOP"}')
                        assert client.recv(100) == b'{"event": "STOP"}'
                        console.write_bytes(b"")
                        model.sendall(b'{"return": {}}')
                        assert client.recv(100) == b'{"return": {}}'
                        assert console.read_bytes() == state.read_bytes()
                        client.sendall(b"x")
                        model.recv(1)
                        model.sendall(b'{"return": {}}')
                        assert client.recv(100) == b'{"return": {}}'
        finally:
            relay.kill()
    assert subprocess.run([program], check=False).returncode == 2
    assert subprocess.run([program, tmp_path / "no/qmp", "a", "b", "c"], check=False).returncode == 1


def test_a_console_is_read_as_it_is(tmp_path: Path) -> None:
    (program,) = (path for path in compile_programs(tmp_path) if path.name == "from-console")
    sent = bytes(range(256)) * 20
    ours, theirs = os.openpty()
    with subprocess.Popen([program, os.ttyname(theirs)], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        try:
            while termios.tcgetattr(theirs)[3]:  # until it is raw
                time.sleep(0.02)
            found = b""
            for start in range(0, len(sent), 512):
                os.write(ours, sent[start : start + 512])
                while len(found) < start + 512:
                    found += os.read(reader.stdout.fileno(), 4096)
            assert found == sent
        finally:
            reader.kill()
    os.close(ours)
    os.close(theirs)
    (tmp_path / "file").write_bytes(b"no terminal")
    assert subprocess.check_output([program, tmp_path / "file"]) == b"no terminal"
    assert [subprocess.run([program, *words], check=False).returncode for words in ((), ("/no",))] == [2, 1]


@pytest.mark.parametrize("name", ["init", "bridge", "hotplug"])
def test_the_scripts_are_scripts(name: str) -> None:
    shell = shutil.which("busybox")
    command = (shell, "sh") if shell else ("sh",)
    assert subprocess.run([*command, "-n", FILES / name], check=False).returncode == 0


@pytest.mark.usefixtures("archive")
def test_the_pipeline(model: DeviceModel, state: StateDir, tmp_path: Path) -> None:
    out = tmp_path / "a/b"
    request = StubdomRequest(None, out, model.path)  # type: ignore[arg-type]
    with_xen = replace(model, xen="4.17")
    assert make_stubdom(with_xen, out, state, QuietUi()).initramfs == out / "initramfs.zst"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be put into"):
        build_stubdom(replace(request, out=tmp_path / "file/x"), state, QuietUi())


@pytest.mark.usefixtures("archive")
def test_the_command(model: DeviceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenqemu.lab.recipe.nearest_recipe", lambda _: load_host("4.17"))
    words = ("--state-dir", str(tmp_path / "state"), "stubdom", "build", "--dm", str(model.path))
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out")], obj={})
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path}/out/vmlinuz\n{tmp_path}/out/initramfs.zst\n"
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out"), "--json"], obj={})
    facts = json.loads(done.stdout)
    assert facts["initramfs"] == str(tmp_path / "out/initramfs.zst")
    assert facts["initramfs_size"] == (tmp_path / "out/initramfs.zst").stat().st_size


def test_it_builds_a_device_model_of_its_own_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[BuildRequest] = []

    def plan(request: BuildRequest, *_: object) -> None:
        asked.append(request)
        raise UsageError("that is enough")

    monkeypatch.setattr("xenqemu.pipeline.plan_build", plan)
    words = ["--state-dir", str(tmp_path / "state"), "stubdom", "build", "--qemu", "distro:10.0", "-j", "3"]
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out")], obj={})
    assert isinstance(done.exception, UsageError)
    (request,) = asked
    assert (request.profile, request.options.jobs, request.qemu.location) == ("stubdom", 3, "10.0")
