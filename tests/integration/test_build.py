"""Real QEMUs, built: what comes out of each supported release, and what it is like."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from tests.integration.conftest import Run
from tests.integration.qmp import ask
from xenqemu.bench.configured import add_stand_ins
from xenqemu.build.hardening import inspect_elf
from xenqemu.series.catalogue import load_series
from xenqemu.state import StateDir
from xenqemu.target.profile import load_profile
from xenqemu.target.render import expected_devices

SERIES = load_series().supported
# The other profiles are built for the newest release only, unless all of it is asked for.
THOROUGH = bool(os.environ.get("XENQEMU_TEST_ALL"))
MOST_DEVICE_TYPES = 80


@dataclass(frozen=True)
class Built:
    """A build of one release, in a folder that it was moved to after it was made."""

    series: str
    folder: Path

    @property
    def binary(self) -> Path:
        return self.folder / "bin" / "qemu-system-xen"

    @property
    def manifest(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return data

    @property
    def version(self) -> Version:
        return Version(self.manifest["qemu"]["version"])

    def say(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.binary, *arguments], env={}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module", params=SERIES)
def built(request: pytest.FixtureRequest, xenqemu: Run, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build a release from the archive, then move the result to where it was not made."""
    folder = tmp_path_factory.mktemp(f"qemu-{request.param}")
    done = xenqemu("build", "--qemu", f"distro:{request.param}", "--out", folder / "dist")
    assert done.stdout.splitlines()[-1] == str(folder / "dist" / "bin" / "qemu-system-xen")
    (folder / "dist").rename(folder / "moved elsewhere")
    return Built(request.param, folder / "moved elsewhere")


def test_it_is_the_release_that_was_asked_for(built: Built) -> None:
    assert f"{built.version.major}.{built.version.minor}" == built.series
    assert f"version {built.version}" in built.say("--version")


def test_its_machines_are_xens_and_xenfv_is_the_default(built: Built) -> None:
    machines = {line.split()[0]: line for line in built.say("-M", "help").splitlines()[1:]}
    expected = {"none", "xenfv", "xenpv"} | ({"xenpvh"} if built.version >= Version("10") else set())
    assert expected <= set(machines)
    default = next(line for line in machines.values() if "(default)" in line)
    assert default.startswith("xenfv")
    # xl asks for `pc` where the guest is not to have the platform device
    assert all(name.startswith(("xen", "pc")) or name == "none" for name in machines)
    assert "pc" in machines


def test_it_has_the_devices_that_libxl_names(built: Built) -> None:
    listed = set(re.findall(r'^name "([^"]+)"', built.say("-device", "help"), re.MULTILINE))
    known = {entry["name"] for entry in ask(built.binary, ["qom-list-types"], "-M", "none")[0]}
    expected = set(expected_devices(load_profile("hvm"), built.version))
    assert len(expected) > 20
    assert expected <= known
    # what a new QEMU brings along has to be named by the profile, or left out by it
    types = set(load_profile("hvm").types_for(built.version))
    assert listed <= types
    assert len(listed) <= MOST_DEVICE_TYPES
    assert not known & set(load_profile("hvm").left_out_for(built.version))
    assert {"rtl8139", "e1000", "cirrus-vga", "VGA", "usb-tablet", "ich9-ahci", "lsi53c895a"} <= listed


def test_what_a_device_model_has_no_use_for_is_not_in_it(built: Built) -> None:
    devices = built.say("-device", "help")
    assert "cxl" not in devices
    accelerators = built.say("-accel", "help").split(":")[1].split()
    assert "xen" in accelerators
    assert not {"tcg", "kvm"} & set(accelerators)


def test_qmp_names_the_architecture_instead_of_aborting(built: Built) -> None:
    target, cpus = ask(built.binary, ["query-target", "query-cpus-fast"], "-M", "none")
    assert target == {"arch": "i386"}
    assert cpus == []


def test_the_schema_of_qmp_is_whole(built: Built) -> None:
    (schema,) = ask(built.binary, ["query-qmp-schema"], "-M", "none")
    entries = {entry["name"]: entry for entry in schema}
    assert len(entries) == len(schema) > 900
    assert {"query-status", "blockdev-change-medium", "xen-save-devices-state"} <= set(entries)
    for entry in schema:
        parts = [*entry.get("members", ()), *entry.get("variants", ())]
        named = [part["type"] for part in parts if entry["meta-type"] in ("object", "alternate")]
        named += [entry[key] for key in ("arg-type", "ret-type", "element-type") if key in entry]
        assert set(named) <= set(entries), entry


def test_old_options_of_libxl_reach_what_replaced_them(built: Built, tmp_path: Path) -> None:
    def refusal(*arguments: str) -> str:
        done = subprocess.run(
            [built.binary, "-M", "none", *arguments], env={}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        return done.stderr

    assert "none-machine.acpi" in refusal("-no-acpi")
    for option in ("-runas", "-run-with"):
        assert "doesn't exist" in refusal(option, "no-such-user" if option == "-runas" else "user=no-such-user")
    bios = tmp_path / "bios"
    bios.write_bytes(bytes(65536))
    for device in ("host:1", "host:1.2.3", "host:8086:", "host::1", "host:1.f"):
        message = refusal("-M", "pc,accel=qtest", "-bios", str(bios), "-nodefaults", "-usbdevice", device)
        assert "expected host:BUS.ADDR or host:VENDOR:PRODUCT" in message


@pytest.mark.parametrize("spelling", ["old", "new"])
def test_it_gives_up_its_root_directory_and_its_user(built: Built, tmp_path: Path, spelling: str) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    old = ["-chroot", root, "-runas", "65534:65533"]
    new = ["-run-with", f"chroot={root}", "-run-with", "user=65534:65533"]
    process = subprocess.Popen(
        [built.binary, "-M", "none", "-display", "none", "-qmp", "stdio", *(old if spelling == "old" else new)],
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if os.geteuid() != 0:
            assert "chroot failed" in process.communicate(timeout=60)[1]
            return
        process.stdin.write('{"execute": "qmp_capabilities"}\n{"execute": "query-status"}\n')
        process.stdin.flush()
        answers = [process.stdout.readline() for _ in range(3)]
        assert "status" in answers[2]
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.findall(r"^(?:Uid|Gid|Groups|CapEff):\t(.*?) ?$", status, re.MULTILINE) == [
            "\t".join(["65534"] * 4),
            "\t".join(["65533"] * 4),
            "65533",
            "0" * 16,
        ]
        assert Path(f"/proc/{process.pid}/root").readlink() == root
    finally:
        process.kill()
        process.communicate()


def test_it_says_that_it_has_the_new_spelling(built: Built) -> None:
    # device_model_probe_cmdline() of libxl's tools/libs/light/libxl_dm.c looks for these two
    options = {entry["option"]: entry for entry in ask(built.binary, ["query-command-line-options"], "-M", "none")[0]}
    assert {"chroot", "user"} <= {parameter["name"] for parameter in options["run-with"]["parameters"]}


def test_a_socket_that_is_handed_down_keeps_its_name(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # libxl has bound the next one to that path by then.
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("qmp")
        listener.listen()
        chardev = f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off"
        words = ("-M", "none", "-display", "none", "-chardev", chardev, "-mon", "chardev=qmp,mode=control")
        with subprocess.Popen([str(built.binary), *words], pass_fds=[listener.fileno()], env={}) as process:
            client.connect("qmp")
            client.sendall(b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
            assert process.wait(60) == 0
    assert Path("qmp").exists()


def test_it_finds_its_keymaps_where_it_was_moved(built: Built) -> None:
    assert (built.folder / "share/qemu/keymaps/de").is_file()
    assert ask(built.binary, ["query-status"], "-M", "none", "-k", "de")[0]["running"] in (True, False)


def test_it_installs_nothing_that_it_does_not_open(built: Built) -> None:
    files = {path.relative_to(built.folder).as_posix() for path in built.folder.rglob("*") if path.is_file()}
    others = {name for name in files if not name.startswith("share/qemu/keymaps/")}
    roms = {"linuxboot", "linuxboot_dma", "multiboot", "multiboot_dma", "pvh"}  # pc_memory_init() and x86_load_linux()
    assert others == {
        *("bin/qemu-system-xen", "manifest.json", "build.log"),
        *(f"share/qemu/{name}.bin" for name in roms),
    }
    for name in others:
        if name.endswith(".bin"):
            assert (built.folder / name).read_bytes()[:2] == b"\x55\xaa", f"{name} is no option ROM"


def test_it_is_hardened(built: Built) -> None:
    report = inspect_elf(built.binary)
    assert report.pie
    assert report.relro == "full"
    assert report.nx_stack
    assert report.stack_protector
    assert report.fortified
    assert report.control_flow
    # what the compiler does to variables leaves no mark in the file: the flag was probed, given and not overridden
    assert "zero-initialised-variables" in built.manifest["hardening"]["features"]
    assert (report.rpath, report.runpath) == ("", "")


def test_it_names_no_place_where_it_was_made(built: Built, shared_state: StateDir) -> None:
    content = built.binary.read_bytes()
    for place in (str(shared_state.root), str(Path.home()), os.uname().nodename, "/tmp/"):
        if len(place) > 6:
            assert place.encode() not in content, place


def test_the_manifest_accounts_for_everything(built: Built, shared_state: StateDir) -> None:
    manifest = built.manifest
    text = json.dumps(manifest)
    assert str(shared_state.root) not in text
    assert [entry["topic"] for entry in manifest["patches"]]
    for entry in manifest["outputs"]:
        content = (built.folder / entry["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["path"]
    listed = {entry["path"] for entry in manifest["outputs"]}
    assert "bin/qemu-system-xen" in listed
    assert manifest["qemu"]["origin"]["sha256"]


def test_the_same_again_is_nothing_to_do(built: Built, xenqemu: Run, tmp_path: Path) -> None:
    done = xenqemu("build", "--qemu", f"distro:{built.series}", "--out", tmp_path / "dist")
    assert "nothing to do" in done.stderr
    assert (tmp_path / "dist/bin/qemu-system-xen").read_bytes() == built.binary.read_bytes()
    before = (tmp_path / "dist/bin/qemu-system-xen").stat()
    xenqemu("build", "--qemu", f"distro:{built.series}", "--out", tmp_path / "dist")
    assert (tmp_path / "dist/bin/qemu-system-xen").stat() == before


def test_killed_in_every_phase_elsewhere_it_gives_the_same_bytes(
    xenqemu: Run, xenqemu_command: Path, shared_state: StateDir, tmp_path: Path
) -> None:
    """Another state directory, another HOME, another time zone, stopped in every phase: the result is the same."""
    newest = f"distro:{SERIES[-1]}"
    xenqemu("build", "--qemu", newest, "--out", tmp_path / "here")
    home = tmp_path / "somebody else"
    home.mkdir()
    other = tmp_path / "another-state-directory"
    shutil.copytree(shared_state.downloads, other / "downloads")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XENQEMU_", "XDG_"))}
    environment |= {"HOME": str(home), "USER": "somebody", "LC_ALL": "C.UTF-8", "TZ": "Pacific/Auckland"}
    argv: list[str | Path] = [xenqemu_command, "--state-dir", other, "build"]
    argv += ["--qemu", newest, "--out", tmp_path / "there"]
    for words, number in (
        ("importing", signal.SIGKILL),
        ("apply the series", signal.SIGKILL),
        ("render target", signal.SIGKILL),
        ("check out the tree", signal.SIGKILL),
        ("configure ...", signal.SIGKILL),
        ("precompile", signal.SIGKILL),
        ("(10 %)", signal.SIGKILL),
        ("(20 %)", signal.SIGINT),
        ("(50 %)", signal.SIGTERM),
        ("install ...", signal.SIGKILL),
    ):
        assert _stopped_at(words, number, argv, environment, tmp_path) == (-9 if number == signal.SIGKILL else 130)
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("bin/qemu-system-xen", "manifest.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


def _stopped_at(words: str, number: int, argv: list[str | Path], environment: dict[str, str], cwd: Path) -> int:
    """Start the build, send it the signal as soon as it says `words`, and return how it ended."""
    process = subprocess.Popen(argv, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            process.send_signal(number)
            break
    else:
        pytest.fail(f"the build ended without a word of '{words}':\n{''.join(said)}")
    process.stderr.read()
    return process.wait()


def test_two_xens_on_one_machine_do_not_mix(xenqemu: Run, shared_state: StateDir, tmp_path: Path) -> None:
    newest = f"distro:{SERIES[-1]}"
    system = json.loads(xenqemu("xen", "info", "system", "--json").stdout)
    xenqemu("build", "--qemu", newest, "--out", tmp_path / "system")
    xenqemu("build", "--qemu", newest, "--xen", "distro:4.20", "--out", tmp_path / "tree")
    ours = {library["soname"] for library in system["libraries"]}
    needed_system = {name for name in inspect_elf(tmp_path / "system/bin/qemu-system-xen").needed if "libxen" in name}
    needed_tree = {name for name in inspect_elf(tmp_path / "tree/bin/qemu-system-xen").needed if "libxen" in name}
    assert needed_system <= ours
    assert "libxenctrl.so.4.20" in needed_tree
    assert f"libxenctrl.so.{system['version']}" in needed_system
    assert not {name for name in needed_tree if name.startswith("libxenctrl") and not name.endswith("4.20")}
    # meson would have added the folder of those libraries on this machine
    assert inspect_elf(tmp_path / "tree/bin/qemu-system-xen").rpath == "$ORIGIN/../lib"
    # the prefix that those libraries are in is the same Xen
    library = next(shared_state.xen.rglob("libxenctrl.so.4.20"))
    prefix = next(path for path in library.parents if path.parent == shared_state.xen or path.name == "install")
    again = xenqemu("build", "--qemu", newest, "--xen", prefix, "--out", tmp_path / "prefix")
    assert "nothing to do" in again.stderr
    moved = (tmp_path / "tree").rename(tmp_path / "moved")
    machines = subprocess.run(
        [moved / "bin/qemu-system-xen", "-M", "help"], env={}, capture_output=True, text=True, check=True
    )
    assert "xenfv" in machines.stdout


@pytest.mark.parametrize(
    ("profile", "series"),
    [("backend", series) for series in (SERIES if THOROUGH else SERIES[-1:])]
    + [("stubdom", series) for series in (SERIES if THOROUGH else ())],
)
def test_a_profile_has_what_it_names_and_nothing_else(
    profile: str, series: str, xenqemu: Run, shared_state: StateDir, tmp_path: Path
) -> None:
    cache = {"CCACHE_DIR": str(shared_state.root / "ccache")}
    argv = ["--qemu", f"distro:{series}", "--profile", profile, "--cc", "ccache gcc", "--out", tmp_path / "dist"]
    xenqemu("build", *argv, env=cache)
    built = Built(series, tmp_path / "dist")
    loaded = load_profile(profile)
    listed = set(re.findall(r'^name "([^"]+)"', built.say("-device", "help"), re.MULTILINE))
    known = {entry["name"] for entry in ask(built.binary, ["qom-list-types"], "-M", "none")[0]}
    assert set(expected_devices(loaded, built.version)) <= known
    assert listed <= set(loaded.types_for(built.version))
    assert not known & set(loaded.left_out_for(built.version))
    machines = {line.split()[0] for line in built.say("-M", "help").splitlines()[1:]}
    if profile == "backend":
        assert machines == {"none", "xenpv"} | ({"xenpvh"} if built.version >= Version("10") else set())
        assert not {"pci-device", "isa-cirrus-vga", "VGA", "i440FX"} & known
        assert not list((tmp_path / "dist").rglob("*.bin"))
    else:
        assert {"xenfv", "pc"} <= machines
        assert "AC97" in listed
        assert "usb-host" not in known
    shown = json.loads(
        xenqemu("profile", "show", profile, "--for", series, "--build", tmp_path / "dist", "--json").stdout
    )
    assert shown["cost"]["device_types"] == len(listed)
    assert shown["cost"]["qom_types"] == len(known)
    program = json.loads((tmp_path / "dist/manifest.json").read_text())["cost"]["program"]
    assert program == {name: shown["cost"][name] for name in program}
    assert {"hw/xen", "hw/block", "block", "qapi (generated)"} <= set(shown["cost"]["areas"])


def test_profile_full_has_what_its_libraries_bring(xenqemu: Run, tmp_path: Path) -> None:
    newest = f"distro:{SERIES[-1]}"
    xenqemu("build", "--qemu", newest, "--profile", "full", "--cc", "ccache gcc", "--out", tmp_path / "dist")
    full = Built(SERIES[-1], tmp_path / "dist")
    listed = set(re.findall(r'^name "([^"]+)"', full.say("-device", "help"), re.MULTILINE))
    assert {"qxl-vga", "usb-redir", "rtl8139"} <= listed <= set(load_profile("full").types_for(full.version))
    assert any(name.startswith("libspice-server") for name in inspect_elf(full.binary).needed)


def test_a_tree_with_firmware_builds_like_one_without(xenqemu: Run, shared_state: StateDir, tmp_path: Path) -> None:
    """A full upstream tree has firmware images and device trees where an archive's tarball has none."""
    newest = f"distro:{SERIES[-1]}"
    origin = json.loads(xenqemu("build", "--qemu", newest, "--dry-run", "--json").stdout)["qemu"]["origin"]
    tarball = shared_state.downloads / origin["sha256"] / origin["file"]
    subprocess.run(["tar", "--no-same-owner", "-xf", tarball, "-C", tmp_path], check=True)
    (tree,) = tmp_path.glob("qemu-*")
    assert add_stand_ins(tree) > 0
    (tree / "pc-bios/vgabios-stdvga.bin").write_bytes(b"\x55\xaa" + bytes(510))
    xenqemu("build", "--qemu", tree, "--cc", "ccache gcc", "--out", tmp_path / "dist")
    assert not list((tmp_path / "dist").rglob("*edk2*"))
    assert "xenfv" in Built(SERIES[-1], tmp_path / "dist").say("-M", "help")
