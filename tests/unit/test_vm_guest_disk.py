from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.xlu_disk import DiskOracle, Parsed
from xenqemu.errors import VmConfigError
from xenqemu.vm.disk import Disk, choose_backend, disk_index, is_vdev, parse_disk, script_path

# The numbers of libxl's enumerations disk_format and disk_backend (libxl_types.idl).
FORMATS = {"qcow": 1, "qcow2": 2, "vhd": 3, "raw": 4, "empty": 5, "qed": 6}
BACKENDS = {"": 0, "phy": 1, "tap": 2, "qdisk": 3, "standalone": 4}


@pytest.fixture(scope="module")
def oracle() -> DiskOracle:
    return DiskOracle()


def ours(spec: str) -> Parsed | None:
    try:
        disk = parse_disk(spec)
    except VmConfigError:
        return None
    texts = (os.fsencode(text) for text in (disk.target, disk.vdev, disk.script, disk.backend))
    target, vdev, script, domain = texts
    return Parsed(
        target,
        FORMATS[disk.format],
        vdev,
        disk.writable,
        disk.cdrom,
        BACKENDS[disk.backendtype],
        script,
        domain,
    )


# Not "trusted": Xen 4.17 has it in the scanner's source, but not in the generated file that is compiled.
PIECES = st.sampled_from(
    [
        *(
            "format=qcow2",
            "format=raw",
            "format=",
            "format=vhd",
            "format=vmdk",
            "raw:",
            "qcow2:",
            "qcow:",
            "vhd:",
            "vdi:",
        ),
        *("phy:", "file:", "tap:", "tap2:", "aio:", "ioemu:", "tapdisk:", "iscsi:", "nbd:", "enbd:", "drbd:", "http:"),
        *(
            "/dev/vg/lv",
            "/x y.img",
            "disk.img",
            "xvda",
            "hda",
            "hdc:cdrom",
            "hda:disk",
            "sda:floppy",
            "cdrom",
            "cdromx",
        ),
        *("vdev=xvda", "vdev=", "vdev=hdc", "access=ro", "access=rw", "access=", "access=x", "w", "r", "ro", "rw", "!"),
        *("target=/a,b", "target=", "target=/dev/x", "target", "script=block-x", "script=", "backend=dom1", "backend="),
        *("backendtype=phy", "backendtype=qdisk", "backendtype=tap", "backendtype=x", "devtype=cdrom", "devtype=disk"),
        *("devtype=x", "direct-io-safe", "discard", "no-discard", "colo", "no-colo", "colo-port=80", "colo-port=x"),
        *(
            "colo-host=a",
            "specification=xen",
            "foo=b",
            "foo=bar",
            "Foo=bar",
            "f=",
            "raw",
            "qed",
        ),
        *("", " ", "  ", "\t", ",", ",,", ":", "=", "a", "empty", "qcow2"),
    ]
)
SPECS = st.lists(PIECES, max_size=7).flatmap(
    lambda parts: st.sampled_from([",".join(parts), "".join(parts), ", ".join(parts)])
)


@settings(max_examples=1000, deadline=None)
@given(spec=SPECS)
def test_a_specification_means_what_it_means_to_libxlutil(oracle: DiskOracle, spec: str) -> None:
    assert ours(spec) == oracle.parse(spec.encode())


@settings(max_examples=500, deadline=None)
@given(spec=st.text(alphabet="acdghlmoprtvwx=:,/ \t2-", max_size=24) | st.text(min_size=1, alphabet="\xe9=a,:"))
def test_any_text_means_what_it_means_to_libxlutil(oracle: DiskOracle, spec: str) -> None:
    assert ours(spec) == oracle.parse(spec.encode())


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("/x,raw,xvda,w,more", "one parameter too many"),
        ("format=vmdk,vdev=xvda,target=/x", "format 'vmdk'"),
        ("vdev=xvda,access=never,target=/x", "access 'never'"),
        ("vdev=xvda,vdev=xvdb,target=/x", "vdev is given twice"),
        ("vdev=xvda,format=raw,format=qcow2,target=/x", "format is given twice"),
        ("vdev=xvda,backendtype=loop,target=/x", "backendtype 'loop'"),
        ("vdev=xvda", "no target"),
        ("/x", "no vdev"),
        ("devtype=floppy,vdev=xvda,target=/x", "devtype 'floppy'"),
        ("http:/x,xvda,w", "no prefix 'http:'"),
        ("size=4,vdev=xvda,target=/x", "no parameter 'size'"),
        ("vdev=xvda,A=b", "cannot be read from '=b'"),
        ("/x,raw,hda:floppy,w", "'floppy'"),
        ("vdev=xvda,colo-port=no,target=/x", "colo-port 'no'"),
    ],
)
def test_a_refusal_says_what_is_wrong(spec: str, what: str) -> None:
    with pytest.raises(VmConfigError) as caught:
        parse_disk(spec)
    assert what in caught.value.message
    assert spec in caught.value.message
    assert caught.value.hint


def test_words_of_later_releases_are_known() -> None:
    assert parse_disk("vdev=xvda,trusted,grant_usage=1,specification=virtio,target=/x").specification == "virtio"


@pytest.mark.parametrize(
    ("vdev", "index", "named"),
    [
        ("xvda", 0, True),
        ("xvdaa", 26, True),
        ("xvda1", 0, True),
        ("xvda01", None, False),
        ("xvda256", None, False),
        ("hda", 0, True),
        ("hdd", 3, True),
        ("hde", None, False),
        ("sdp15", 15, True),
        ("sdq", None, False),
        ("xvd", None, False),
        ("d3p1", 3, True),
        ("d3p256", None, False),
        ("51712", None, True),
        ("0xca00", None, True),
        ("vda", None, False),
        ("", None, False),
    ],
)
def test_a_vdev_has_the_number_that_libxl_gives_it(vdev: str, index: int | None, named: bool) -> None:
    assert (disk_index(vdev), is_vdev(vdev)) == (index, named)


def test_the_backend_is_the_one_that_libxl_takes(tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(b"")

    def backend(spec: str, *, hvm: bool = True) -> str:
        return choose_backend(parse_disk(spec), hvm=hvm, folder=tmp_path)[0]

    assert backend("vdev=xvda,target=x.img") == "qdisk"
    assert backend("vdev=xvda,target=missing.img") == ""
    assert backend("vdev=xvda,backendtype=phy,target=x.img") == ""  # no block device
    assert backend("vdev=xvda,script=block-iscsi,target=iqn") == "phy"
    assert backend("vdev=xvda,backend=storage,target=/dev/x") == "phy"
    assert backend("vdev=xvda,backendtype=qdisk,target=missing.img") == "qdisk"  # libxl does not look
    assert backend("vdev=xvda,backendtype=tap,format=vhd,target=x.img") == "tap"
    assert backend("vdev=xvda,backendtype=tap,format=qcow2,target=x.img") == ""
    assert backend(",hdc:cdrom") == "qdisk"
    assert backend(",hdc:cdrom", hvm=False) == "phy"
    assert backend("vdev=hdc,cdrom,backendtype=tap,target=x.img") == ""
    assert backend("vdev=xvda,format=empty,target=") == ""
    assert backend("vdev=hdc,cdrom,format=empty,target=x.img") == ""
    assert backend("vdev=xvda,backendtype=standalone,specification=virtio,backend=d,target=/dev/x") == "standalone"
    assert backend("vdev=xvda,backendtype=standalone,backend=d,target=/dev/x") == ""


def test_a_block_device_is_served_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stat.S_ISBLK", lambda mode: True)
    assert choose_backend(parse_disk("vdev=xvda,target=/dev/null"), hvm=True, folder=Path("/")) == ("phy", "")


def test_hotplug_scripts_are_in_xens_folder_unless_absolute() -> None:
    assert script_path(Disk(script="block-iscsi")) == Path("/etc/xen/scripts/block-iscsi")
    assert script_path(Disk(script="/opt/block")) == Path("/opt/block")
    assert script_path(Disk()) is None
