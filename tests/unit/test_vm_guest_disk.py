from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.xlu_disk import DiskOracle, Parsed
from xenqemu.errors import VmConfigError
from xenqemu.vm.disk import parse_disk

# The numbers of libxl's enumerations disk_format and disk_backend (libxl_types.idl).
FORMATS = {"qcow": 1, "qcow2": 2, "vhd": 3, "raw": 4, "empty": 5, "qed": 6}
BACKENDS = {"": 0, "phy": 1, "tap": 2, "qdisk": 3, "standalone": 4}
HOST = Path("/")


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


@settings(max_examples=2000, deadline=None)
@given(spec=SPECS)
def test_a_specification_means_what_it_means_to_libxlutil(oracle: DiskOracle, spec: str) -> None:
    assert ours(spec) == oracle.parse(spec.encode())


@settings(max_examples=1000, deadline=None)
@given(spec=st.text(alphabet="acdghlmoprtvwx=:,/ \t2-", max_size=24) | st.text(min_size=1, alphabet="\xe9=a,:"))
def test_any_text_means_what_it_means_to_libxlutil(oracle: DiskOracle, spec: str) -> None:
    assert ours(spec) == oracle.parse(spec.encode())
