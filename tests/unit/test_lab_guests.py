"""The lab's guests: the boot sector, disks that tell right from wrong, the Linux guest's file system."""

from __future__ import annotations

import errno
import gzip
import re
import stat
import struct
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenqemu.errors import LabError, MissingError
from xenqemu.lab import cd_image, disk_image
from xenqemu.lab.assemble import BootSector, assemble, build_boot_sector
from xenqemu.lab.linux_guest import build_initramfs
from xenqemu.lab.model import LabBase
from xenqemu.lab.tools import compile_tool
from xenqemu.proc import run

SOURCES = resources.files("xenqemu.lab") / "guests"
CLUSTER = 65536


def constants(source: str) -> dict[str, int]:
    """Return the numbers that an assembler source gives names to."""
    return {name: int(value, 0) for name, value in re.findall(r"^\s+\.set\s+(\w+), (\w+)", source, re.MULTILINE)}


@pytest.mark.parametrize("variant", [BootSector.STAYS, BootSector.POWERS_OFF])
def test_a_boot_sector_is_one(tmp_path: Path, variant: BootSector) -> None:
    image = build_boot_sector(tmp_path, variant).read_bytes()
    assert len(image) == disk_image.SECTORS * 512
    assert image[510:512] == b"\x55\xaa"
    assert b"xenqemu-guest: " in image[512 : disk_image.FIRST_PATTERN_SECTOR * 512]
    assert list(tmp_path.iterdir()) == [tmp_path / "boot-sector.img"]


def test_an_unsigned_one_differs_in_its_signature_alone(tmp_path: Path) -> None:
    signed, unsigned = assemble(tmp_path), assemble(tmp_path, BootSector.UNSIGNED)
    assert unsigned[510:512] == b"\0\0"
    assert unsigned == signed[:510] + b"\0\0" + signed[512:]


def test_the_variants_differ_and_each_is_the_same_each_time(tmp_path: Path) -> None:
    codes = [assemble(tmp_path, variant) for variant in BootSector]
    assert len(set(codes)) == len(BootSector)
    assert codes == [assemble(tmp_path, variant) for variant in BootSector]


def test_source_and_disk_agree_on_where_the_numbered_sectors_are() -> None:
    known = constants((SOURCES / "boot-sector.S").read_text())
    first, step, count = (known[f"{name}"] for name in ("FIRST_PATTERN_SECTOR", "PATTERN_STEP", "PATTERN_COUNT"))
    assert first == disk_image.FIRST_PATTERN_SECTOR
    assert first + step * (count - 1) < disk_image.SECTORS
    # A sector of a CD is four of these, and only the first is looked at.
    assert not step % 4
    assert cd_image.FIRST_PATTERN_SECTOR + step * (count - 1) < disk_image.SECTORS
    source = (SOURCES / "boot-sector.S").read_text()
    assert f".ifdef FROM_CD\n        .set    FIRST_PATTERN_SECTOR, {cd_image.FIRST_PATTERN_SECTOR}\n" in source


@pytest.mark.parametrize("missing", ["as", "ld"])
def test_without_binutils(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    other = fake / ("as" if missing == "ld" else "ld")
    other.write_text("#!/bin/sh\nexit 0\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake))
    with pytest.raises(MissingError, match=f"'{missing}' is not installed"):
        assemble(tmp_path)


def test_binutils_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "as"
    fake.write_text("#!/bin/sh\necho \"as: unrecognized option '--32'\" >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="unrecognized option '--32'") as caught:
        assemble(tmp_path)
    assert "binutils for x86" in caught.value.hint


def test_each_word_of_a_numbered_sector_is_its_number() -> None:
    disk = disk_image.pattern_disk(b"code")
    assert disk.startswith(b"code\0")
    for sector in (disk_image.FIRST_PATTERN_SECTOR, 1000, disk_image.SECTORS - 1):
        assert set(struct.unpack("<128I", disk[sector * 512 : sector * 512 + 512])) == {sector}


def test_code_that_is_too_long_is_refused() -> None:
    room = disk_image.FIRST_PATTERN_SECTOR * 512
    assert len(disk_image.pattern_disk(bytes(room))) == disk_image.SECTORS * 512
    with pytest.raises(ValueError, match="room for"):
        disk_image.pattern_disk(bytes(room + 1))


def read_qcow2(image: bytes) -> bytes:
    """Return the disk in a qcow2 image, read the way that QEMU's docs/interop/qcow2.txt says; refcounts are checked."""
    magic, version, backing, _, bits, size, crypt, l1_size, l1_at, table_at, table_clusters = struct.unpack_from(
        ">4sIQIIQIIQQI", image
    )
    assert (magic, version, backing, bits, crypt) == (b"QFI\xfb", 3, 0, 16, 0)
    assert struct.unpack_from(">IQQQQII", image, 60) == (0, 0, 0, 0, 0, 4, 104)
    assert table_clusters == 1
    assert len(image) % CLUSTER == 0
    (refcounts_at,) = struct.unpack_from(">Q", image, table_at)
    used = len(image) // CLUSTER
    assert struct.unpack_from(f">{used}H", image, refcounts_at) == (1,) * used
    assert not any(image[refcounts_at + 2 * used : refcounts_at + CLUSTER])
    disk = b""
    for (l1,) in struct.iter_unpack(">Q", image[l1_at : l1_at + 8 * l1_size]):
        assert l1 >> 63
        l2_at = l1 & ~(1 << 63)
        for (l2,) in struct.iter_unpack(">Q", image[l2_at : l2_at + CLUSTER]):
            if l2:
                assert l2 >> 63
                assert not l2 % CLUSTER
                at = l2 & ~(1 << 63)
                disk += image[at : at + CLUSTER]
    assert not any(disk[size:])
    return disk[:size]


@settings(max_examples=25, deadline=None)
@given(sectors=st.integers(1, 700), seed=st.binary(min_size=1, max_size=40))
def test_qcow2_holds_the_disk(sectors: int, seed: bytes) -> None:
    raw = (seed * (sectors * 512 // len(seed) + 1))[: sectors * 512]
    assert read_qcow2(disk_image.to_qcow2(raw)) == raw


@pytest.mark.parametrize("size", [511, 8192 * CLUSTER + 512])
def test_what_cannot_be_made_qcow2_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes"):
        disk_image.to_qcow2(bytes(size))


@pytest.fixture
def base(tmp_path: Path) -> LabBase:
    guest = tmp_path / "guest"
    (guest / "modules").mkdir(parents=True)
    (guest / "busybox").write_bytes(b"\x7fELF busybox")
    (guest / "modules" / "modules.dep").write_text("libata:\nata_piix: libata\n8139cp: mii\nmii:\n")
    for name in ("libata", "ata_piix", "8139cp"):  # mii is built into this kernel
        (guest / "modules" / f"{name}.ko").write_bytes(name.encode())
    kernel = tmp_path / "vmlinuz"
    return LabBase("key", "4.17.7", "4.17", kernel, kernel, "6.1.0", kernel, guest, MappingProxyType({}))


def read_newc(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of what a cpio archive holds."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        at += -(-(110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[at : at + size])
        at += -(-size // 4) * 4


def test_the_linux_guest_has_what_it_loads_in_the_order_of_need(base: LabBase, tmp_path: Path) -> None:
    files = read_newc(gzip.decompress(build_initramfs(base, ("ata-piix", "8139cp"), tmp_path).read_bytes()))
    assert files["modules/order"][1] == b"libata.ko\nata_piix.ko\n8139cp.ko\n"
    assert files["modules/ata_piix.ko"][1] == b"ata_piix"
    assert files["bin/busybox"] == (stat.S_IFREG | 0o755, b"\x7fELF busybox")
    assert files["bin/sh"][1] == b"busybox"
    assert files["init"] == (stat.S_IFREG | 0o755, (SOURCES / "linux-init.sh").read_bytes())
    assert stat.S_ISDIR(files["proc"][0])
    for name in ("poweroff", "reboot"):
        assert files[f"sbin/{name}"] == (stat.S_IFREG | 0o755, f"#!/bin/sh\nexec /bin/busybox {name} -f\n".encode())


def test_the_linux_guest_is_the_same_each_time(base: LabBase, tmp_path: Path) -> None:
    first = build_initramfs(base, ("ata_piix",), tmp_path).read_bytes()
    assert build_initramfs(base, ("ata_piix",), tmp_path).read_bytes() == first
    assert build_initramfs(base, (), tmp_path).read_bytes() != first


def test_a_module_that_the_base_does_not_have(base: LabBase, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="kernel module ne2k") as caught:
        build_initramfs(base, ("ne2k",), tmp_path)
    assert "lab prepare" in caught.value.hint


def test_the_linux_guests_init_is_a_shell_script() -> None:
    script = (SOURCES / "linux-init.sh").read_bytes()
    assert script.startswith(b"#!/bin/busybox sh\n")
    assert run(["sh", "-n"], stdin=script).stderr == ""


def test_a_tool_runs_without_any_library(tmp_path: Path) -> None:
    tool = compile_tool("descriptors", tmp_path)
    assert tool.read_bytes()[:4] == b"\x7fELF"
    assert run(("ldd", tool), check=False).returncode != 0
    # Its own descriptors: those of others are not everybody's.
    listed = run(("sh", "-c", 'exec "$0" list $$', tool)).stdout.splitlines()
    assert re.fullmatch(r"\d+ \S+( (r|w|rw)a?)?", listed[0])
    assert sum(int(line.split()[0]) for line in listed) >= 3


def test_a_library_stands_in_for_xens(tmp_path: Path) -> None:
    """The device model's question, with Xen's answer played by a library behind it, or withheld."""
    library = compile_tool("vga/tracking.so", tmp_path)
    assert library == tmp_path / "tracking.so"
    (tmp_path / "xen.c").write_text(
        "int xendevicemodel_track_dirty_vram(void *h, unsigned short d, unsigned long f, unsigned n, unsigned long *b)"
        "{ if (b) { b[0] = 5; b[1] = 2; } return 0; }"
    )
    run(("cc", "-shared", "-fPIC", "-o", tmp_path / "libxen.so", tmp_path / "xen.c"))
    (tmp_path / "ask.c").write_text(
        "#include <errno.h>\n#include <stdio.h>\n"
        "int xendevicemodel_track_dirty_vram(void *, unsigned short, unsigned long, unsigned, unsigned long *);\n"
        "int main(void) { unsigned long b[2] = {0}; xendevicemodel_track_dirty_vram(0, 1, 0, 0, 0); errno = 0;"
        ' int r = xendevicemodel_track_dirty_vram(0, 1, 16, 70, b); printf("%d %d %lu", r, r ? errno : 0, b[0]); }'
    )
    run(("cc", "-o", tmp_path / "ask", tmp_path / "ask.c", tmp_path / "libxen.so", f"-Wl,-rpath,{tmp_path}"))
    source = (SOURCES / "vga" / "tracking.c").read_text()
    here = f'#define MODE "{tmp_path}/mode"'
    (tmp_path / "moved.c").write_text(re.sub(r"#define MODE .*", here, source))
    run(("cc", "-shared", "-fPIC", "-o", tmp_path / "moved.so", tmp_path / "moved.c"))
    for mode, said in (("", "0 0 5"), ("on", "0 0 5"), ("off", f"-1 {errno.ENODATA} 0"), ("blind", "-1 22 0")):
        if mode:
            (tmp_path / "mode").write_text(mode)
        assert run((tmp_path / "ask",), env={"LD_PRELOAD": str(tmp_path / "moved.so")}).stdout == said
        # Three pages: 0 and 2, and 65 of the second word.
        asked, changed, about = (tmp_path / "mode.seen").read_text().split()
        assert (asked, about) == ("1", "70")
        assert changed == ("3" if said == "0 0 5" else "0")


def test_the_screen_guest_is_one_that_a_bios_starts(tmp_path: Path) -> None:
    code = assemble(tmp_path, program="vga/screen.S")
    assert code[510:512] == b"\x55\xaa"
    assert b"xenqemu-guest: up screen\r\n" in code
    assert len(code) < disk_image.FIRST_PATTERN_SECTOR * 512


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("#!/bin/sh\necho 'descriptors.c:1:10: fatal error: no such file' >&2; exit 1\n", "fatal error: no such file"),
        ("#!/bin/sh\nexit 1\n", "the compiler said nothing"),
    ],
)
def test_a_compiler_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, reason: str) -> None:
    (tmp_path / "cc").write_text(compiler)
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MissingError, match=reason) as caught:
        compile_tool("descriptors", tmp_path)
    assert "libc6-dev" in caught.value.hint


def test_what_the_linux_guests_shell_answers() -> None:
    """Each command gets a line of its own with its number and code, whatever it does to its shell."""
    script = (SOURCES / "linux-init.sh").read_text()
    say = next(line for line in script.splitlines() if line.startswith("say()"))
    loop = script[script.index("cd /\nwhile :; do\n    IFS= read") :].replace("sleep 1\n        continue", "exit 0")
    lines = (
        "1 cat; read line; echo read=$line; pwd",
        "no number",
        "",
        "2 exit 7",
        "3 if",
        "4  printf 'a  b\\n' | tr a \"$(printf c)\"\r",
        "5 cd /proc; missing-program; false",
    )
    said = run(
        ["bash", "-c", f"{say}\nexec 3<&0 </dev/null 2>&1\n{loop}"], stdin="\n".join((*lines, "")).encode()
    ).stdout
    said = re.sub(r"(?m)^bash: .*\n", "", said)
    mark = "xenqemu-guest: end"
    assert said == f"read=\n/\n{mark} 1 0\n{mark} 2 7\n{mark} 3 2\nc  b\n{mark} 4 0\n{mark} 5 1\n"
