"""The base of a virtual host, made of a small signed archive of our own."""

from __future__ import annotations

import gzip
import json
import lzma
import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from tests.unit.fake_archive import FakeArchive
from tests.unit.keys import Signer
from tests.unit.read_cpio import Read, read_archive
from xenqemu.archive.mirrors import machine_archive
from xenqemu.boot_pipeline import prune_cache
from xenqemu.errors import LabError, MissingError, UsageError
from xenqemu.lab.base import describe, prepare, stale_bases
from xenqemu.lab.bzimage import elf_inside
from xenqemu.lab.kmod import dependencies, load_order, module_name, uncompressed
from xenqemu.lab.recipe import DOM0_FOLDER, Recipe, default_series, known_series, load_recipe, nearest_recipe
from xenqemu.lab.runs import run_folder
from xenqemu.lab.stored import list_bases
from xenqemu.state import StateDir
from xenqemu.ui import QuietUi

LIBRARIES = "lib/x86_64-linux-gnu"
KERNEL = "lib/modules/6.1.0-test"


def module(*needs: str) -> bytes:
    return b"\x7fELF code\0name=x\0depends=" + ",".join(needs).encode() + b"\0retpoline=Y\0"


def bzimage(payload: bytes, sectors: int = 4) -> bytes:
    image = bytearray((sectors + 1) * 512 + 16)
    image[0x1F1] = sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 16, len(payload))
    return bytes(image) + payload + b"something else"


@pytest.fixture
def archive(tmp_path: Path, key: Signer, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """What a small recipe needs, as packages from before and after /usr was merged."""
    made = FakeArchive(tmp_path / "archive", key, key.export(tmp_path / "archive.gpg", armor=False))
    made.add_binary(
        "bookworm",
        "xen-hypervisor-4.17-amd64",
        "4.17.5+72-1",
        {"boot/xen-4.17-amd64.gz": gzip.compress(b"\x7fELF xen")},
    )
    made.add_binary("bookworm", "linux-image-amd64", "6.1.1", {}, "linux-image-test")
    made.add_binary(
        "bookworm",
        "linux-image-test",
        "1:6.1.1-1",
        {
            "boot/vmlinuz-6.1.0-test": bzimage(lzma.compress(b"\x7fELF kernel") + b"size"),
            f"{KERNEL}/modules.builtin": b"kernel/drivers/virtio.ko\n",
            f"{KERNEL}/kernel/xen/xen-privcmd.ko": module("virtio", "xen-base"),
            f"{KERNEL}/kernel/xen/xen-base.ko.xz": lzma.compress(module()),
            f"{KERNEL}/kernel/net/card.ko": module("xen-base"),
        },
    )
    made.add_binary(
        "bookworm",
        "tools",
        "2:1.0",
        {"bin/tool": Path("/bin/true").read_bytes(), "usr/sbin/link": "/bin/tool", "etc/tool/conf": b"text"},
        "libs",
    )
    made.add_binary(
        "bookworm",
        "libs",
        "1",
        {
            f"{LIBRARIES}/libc.so.6": "libc-2.so",
            f"{LIBRARIES}/libc-2.so": b"a library",
            "lib/unused.so": b"not asked for",
        },
    )
    made.add_binary("bookworm", "busybox-static", "1", {"usr/bin/busybox": b"busybox"})
    made.add_binary(
        "bookworm",
        "roms",
        "1",
        {"usr/share/seabios/vgabios.bin": b"bios", "usr/lib/ipxe/efi-x.rom": "../real.rom", "usr/lib/real.rom": b"rom"},
    )
    made.publish()
    etc = made.etc(tmp_path / "etc")
    monkeypatch.setattr("xenqemu.archive.packages.machine_archive", lambda: machine_archive(etc, etc / "os-release"))
    return made


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    small = replace(
        load_recipe("4.17"),
        packages=("tools", "busybox-static", "roms"),
        toolstack=replace(load_recipe("4.17").toolstack, packages=("xen-hypervisor-4.17-amd64",), files=()),
        dom0_files=("usr/bin/tool", "usr/sbin/l*", "etc/tool/*"),
        dom0_modules=("xen_privcmd", "virtio"),
        more_modules=("card",),
        guest_modules=("card", "virtio"),
    )
    monkeypatch.setattr("xenqemu.lab.base.load_recipe", lambda _: small)
    return small


def entries_of(path: Path) -> dict[str, Read]:
    return read_archive(path.read_bytes())


def test_a_base(archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi) -> None:
    base = prepare("4.17", state, quiet_ui)
    assert (base.series, base.xen_version, base.kernel_release) == ("4.17", "4.17.5", "6.1.0-test")
    assert base.hypervisor.read_bytes() == b"\x7fELF xen"
    assert base.kernel.read_bytes().endswith(b"something else")
    assert base.dom0_kernel.read_bytes() == b"\x7fELF kernel"
    assert base.packages["linux-image-test"] == "1:6.1.1-1"
    assert base.packages["libs"] == "1"
    assert base.busybox.read_bytes() == b"busybox"
    assert [path.name for path in base.modules("card", "virtio", "card")] == ["xen-base.ko", "card.ko"]
    assert base.modules("card")[0].read_bytes() == module()
    with pytest.raises(KeyError):
        base.modules("nothing")
    assert base.device_model == "/usr/libexec/xen-qemu-system-i386"
    facts = describe(base)
    assert facts["key"] == base.key
    assert json.loads(json.dumps(facts, default=str))["packages"]["tools"] == "2:1.0"


def test_dom0s_file_system(archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi) -> None:
    entries = entries_of(prepare("4.17", state, quiet_ui).base)
    assert entries["usr/bin/tool"].content == Path("/bin/true").read_bytes()
    assert entries["usr/bin/tool"].mode == stat.S_IFREG | 0o755
    assert entries["usr/sbin/link"].content == b"/bin/tool"
    assert entries["etc/tool/conf"].content == b"text"
    assert entries["usr/lib/x86_64-linux-gnu/libc.so.6"].content == b"libc-2.so"
    assert entries["usr/lib/x86_64-linux-gnu/libc-2.so"].content == b"a library"
    assert not [path for path in entries if "unused" in path]
    assert entries["lib"].content == b"usr/lib"
    assert entries["usr/share/xenqemu/firmware/efi-x.rom"].content == b"/usr/lib/ipxe/efi-x.rom"
    assert entries["usr/lib/real.rom"].content == b"rom"
    assert entries["init"].content == b"/usr/lib/xenqemu/busybox"
    assert entries["dev/console"].device == (5, 1)
    modules = "usr/lib/modules/6.1.0-test"
    assert entries[f"{modules}/first"].content.decode().split() == [
        f"{modules}/xen-base.ko",
        f"{modules}/xen-privcmd.ko",
    ]
    assert entries[f"{modules}/xen-base.ko"].content == module()
    assert b"card.ko: xen-base.ko\n" in entries[f"{modules}/modules.dep"].content
    start = entries["usr/lib/xenqemu/start"]
    assert start.mode & 0o111
    assert b"@path@" not in start.content
    assert b"/usr/lib/xen-4.17/bin" in start.content


def test_a_second_time_nothing_is_asked(
    archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare("4.17", state, quiet_ui)
    monkeypatch.setattr("xenqemu.lab.base.fetch_closure", lambda *_, **__: pytest.fail("asked again"))
    assert prepare("4.17", state, quiet_ui) == first
    monkeypatch.undo()


def test_newer_packages_make_another_base(
    archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi
) -> None:
    first = prepare("4.17", state, quiet_ui)
    assert prepare("4.17", state, quiet_ui, refresh=True).key == first.key
    archive.add_binary("bookworm", "libs", "2", {f"{LIBRARIES}/libc.so.6": b"newer"})
    archive.publish()
    assert prepare("4.17", state, quiet_ui).key == first.key
    second = prepare("4.17", state, quiet_ui, refresh=True)
    assert second.key != first.key
    assert entries_of(second.base)["usr/lib/x86_64-linux-gnu/libc.so.6"].content == b"newer"
    assert prepare("4.17", state, quiet_ui) == second


def test_a_base_that_is_damaged_is_made_again(
    archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi
) -> None:
    first = prepare("4.17", state, quiet_ui)
    (first.base.parent / "base.json").write_text("{")
    assert prepare("4.17", state, quiet_ui) == first
    assert not list(state.root.glob("tmp/lab-*"))


def test_bases_that_are_out_of_date(
    remote: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stale_bases(state) == ()
    first = prepare("4.17", state, quiet_ui)
    assert stale_bases(state) == ()
    (state.root / "lab" / "runs").mkdir()
    remote.add_binary("bookworm", "libs", "2", {f"{LIBRARIES}/libc.so.6": b"newer"})
    remote.publish()
    prepare("4.17", state, quiet_ui, refresh=True)
    assert stale_bases(state) == (first.base.parent,)
    assert [path.name for path in state.apt.glob("*/cache/archives/libs_*")] == ["libs_2_amd64.deb"]
    monkeypatch.setattr("xenqemu.lab.base.load_recipe", lambda _: replace(recipe, digest="another"))
    assert len(stale_bases(state)) == 2


@pytest.fixture
def remote(archive: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """The same archive, from which apt downloads; what a file: URI names it takes where it lies."""
    etc = archive.etc(tmp_path / "etc-remote")
    sources = etc / "sources.list.d/debian.sources"
    sources.write_text(sources.read_text().replace("file://", "copy:"))
    monkeypatch.setattr("xenqemu.archive.packages.machine_archive", lambda: machine_archive(etc, etc / "os-release"))
    return archive


def test_an_interrupted_run_is_gone_on_with(
    remote: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("xenqemu.lab.base.unpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare("4.17", state, quiet_ui)
    assert not list(state.root.glob("tmp/lab-*"))
    assert not list((state.root / "lab").glob("*"))
    assert list(state.apt.glob("*/cache/archives/tools_*.deb"))
    assert prepare("4.17", state, quiet_ui).base.is_file()


def test_a_damaged_download_is_fetched_again(
    remote: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi
) -> None:
    first = prepare("4.17", state, quiet_ui)
    (package,) = state.apt.glob("*/cache/archives/tools_*.deb")
    content = package.read_bytes()
    package.unlink()
    package.write_bytes(content[:200] + bytes(len(content) - 200))
    (first.base.parent / "base.json").unlink()
    with pytest.raises(MissingError, match="cannot be unpacked"):
        prepare("4.17", state, quiet_ui)
    assert prepare("4.17", state, quiet_ui).key == first.key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packages": ("tools", "nothing-like-it")}, "Unable to locate package nothing-like-it"),
        ({"packages": ("tools",)}, "no package of the archive has usr/share/seabios/vgabios"),
        ({"dom0_files": ("usr/bin/none",)}, "no package of the archive has usr/bin/none"),
        ({"dom0_modules": ("nonesuch",)}, "the kernel has no module nonesuch, which the lab needs"),
    ],
)
def test_what_the_archive_lacks(
    change: dict[str, tuple[str, ...]],
    message: str,
    archive: FakeArchive,
    recipe: Recipe,
    state: StateDir,
    quiet_ui: QuietUi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xenqemu.lab.base.load_recipe", lambda _: replace(recipe, **change))  # type: ignore[arg-type]
    with pytest.raises(LabError, match=message):
        prepare("4.17", state, quiet_ui)


def test_a_disk_that_apt_has_filled(
    archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Write error - write (28: No space left on device)"
    monkeypatch.setattr("xenqemu.archive.packages.PrivateApt.update", lambda *_, **__: said)
    with pytest.raises(MissingError, match="no space left for the virtual host's packages"):
        prepare("4.17", state, quiet_ui)


def test_a_library_that_no_package_has(
    archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {"bin/alone": Path("/bin/true").read_bytes()}
    archive.add_binary("bookworm", "alone", "1", alone)
    archive.publish()
    small = replace(recipe, packages=("alone", "busybox-static", "roms"), dom0_files=("usr/bin/alone",))
    monkeypatch.setattr("xenqemu.lab.base.load_recipe", lambda _: small)
    with pytest.raises(LabError, match=r"no package has libc\.so\.6, which usr/bin/alone needs"):
        prepare("4.17", state, quiet_ui)


def test_a_machine_without_such_an_archive(
    recipe: Recipe, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "os-release").write_text("ID=other\n")
    monkeypatch.setattr(
        "xenqemu.archive.packages.machine_archive", lambda: machine_archive(tmp_path, tmp_path / "os-release")
    )
    with pytest.raises(MissingError) as caught:
        prepare("4.17", state, quiet_ui)
    assert "--qemu" not in caught.value.hint


def test_another_distribution(
    archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xenqemu.lab.base.load_recipe", lambda _: replace(recipe, suites={"other": "x"}))
    with pytest.raises(MissingError, match="no suite of this machine's distribution"):
        prepare("4.17", state, quiet_ui)


def test_an_archive_of_somebody_else(archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi) -> None:
    archive.origin = "Somebody"
    archive.publish()
    with pytest.raises(LabError, match="bookworm is an archive of Somebody"):
        prepare("4.17", state, quiet_ui)


def test_recipes() -> None:
    assert known_series() == ("4.17", "4.20")
    assert load_recipe("distro:4.20") == load_recipe("4.20")
    assert default_series() in known_series()
    with pytest.raises(UsageError, match=r"the lab has no Xen '4\.5'"):
        load_recipe("4.5")
    recipe = load_recipe("4.17")
    assert "usr/lib/xen-4.17/bin/xl" in recipe.toolstack.files
    assert recipe.toolstack.packages[:2] == ("xen-hypervisor-4.17-amd64", "xen-utils-4.17")
    assert nearest_recipe("4.17") == recipe
    assert nearest_recipe("4.21").series == known_series()[-1]
    assert recipe.place("/bin/x") == "usr/bin/x"
    assert recipe.place("/lib64/x/y") == "usr/lib64/x/y"
    assert recipe.place("/var/run/x") == "run/x"
    assert recipe.place("/var/lock/x") == "run/lock/x"
    assert recipe.place("/binary") == "binary"
    assert recipe.place("/usr/bin/awk") == "usr/bin/awk"
    assert all(path.is_file() for path in DOM0_FOLDER.iterdir())


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: lzma.compress(data) + b"\x01\x02\x03\x04",
        gzip.compress,
        lambda data: zstandard.compress(data) + b"\x01\x02\x03\x04",
    ],
)
def test_a_kernel_is_unpacked(pack: object) -> None:
    assert callable(pack)
    packed = pack(b"\x7fELF" + bytes(100_000))
    assert elf_inside(bzimage(packed)) == b"\x7fELF" + bytes(100_000)
    assert elf_inside(bzimage(pack(b"no elf"))) is None
    assert elf_inside(bzimage(packed[: len(packed) // 2])) is None


def test_a_kernel_packed_in_an_unknown_way() -> None:
    assert elf_inside(bzimage(b"BZh91AY")) is None
    assert elf_inside(b"\x7fELF" + bytes(2000)) is None


def test_modules_in_any_packing(tmp_path: Path) -> None:
    content = module()
    for suffix, packed in (
        ("", content),
        (".xz", lzma.compress(content)),
        (".gz", gzip.compress(content)),
        (".zst", zstandard.compress(content)),
    ):
        path = tmp_path / f"a-b.ko{suffix}"
        path.write_bytes(packed)
        assert uncompressed(path) == content
        assert module_name(str(path)) == "a_b"


def test_the_order_of_modules(tmp_path: Path) -> None:
    needs = {"a": ("b", "c"), "b": ("d",), "c": ("d", "b"), "d": (), "e": ("built-in",)}
    files = {}
    for name, others in needs.items():
        files[name] = tmp_path / f"{name}.ko"
        files[name].write_bytes(module(*others))
    order = load_order(["a", "e", "built_in"], files, frozenset({"built_in"}))
    assert list(order) == ["d", "b", "c", "a", "e"]
    assert dependencies(order) == {"d": (), "b": ("d",), "c": ("d", "b"), "a": ("d", "b", "c"), "e": ()}
    files["f"] = tmp_path / "f.ko"
    files["f"].write_bytes(b"no modinfo at all")
    assert load_order(["f"], files, frozenset())["f"].needs == ()


def test_bases_are_listed_and_pruned(
    archive: FakeArchive, recipe: Recipe, state: StateDir, quiet_ui: QuietUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_bases(state) == ()
    assert prune_cache(state, quiet_ui, keep=0, everything=True) == 0
    base = prepare("4.17", state, quiet_ui)
    (state.lab / "damaged").mkdir()
    (state.lab / "damaged/base.json").write_text("{}")
    with run_folder(state):
        pass
    (listed,) = list_bases(state)
    assert (listed.key, listed.xen, listed.current) == (base.key, "4.17.5", True)
    assert listed.size >= base.base.stat().st_size
    prune_cache(state, quiet_ui, keep=0, everything=False)
    assert sorted(path.name for path in state.lab.iterdir()) == [base.key, "runs"]
    assert prepare("4.17", state, quiet_ui) == base
    monkeypatch.setattr("xenqemu.lab.base.load_recipe", lambda _: replace(recipe, digest="another"))
    assert [one.current for one in list_bases(state)] == [False]
    assert prune_cache(state, quiet_ui, keep=0, everything=False) >= listed.size
    assert [path.name for path in state.lab.iterdir()] == ["runs"]
    prepare("4.17", state, quiet_ui)
    assert prune_cache(state, quiet_ui, keep=0, everything=True) > 0
    assert list(state.lab.iterdir()) == []
    assert prepare("4.17", state, quiet_ui).base.is_file()
