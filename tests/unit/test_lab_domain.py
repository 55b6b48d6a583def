"""What dom0's files tell of a domain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.lab.domain import (
    Life,
    created_domid,
    frontends,
    guest_lines,
    read_life,
    read_rollup,
    read_store,
    stub_domain,
    stub_terminals,
    terminals,
    xen_lines,
)
from xenqemu.lab.result import Memory

WAITING = "Waiting for domain my guest (domid 3) to die [pid 812]\n"
CRASH = "Domain 3 has shut down, reason code 3 0x3\n"
REBOOT = "Domain 3 has shut down, reason code 1 0x1\n"
STORE = """\
/local/domain/3 = ""   (n0,r3)
/local/domain/3/image/device-model-pid = "735"
/local/domain/3/serial/0/tty = "/dev/pts/1"
/local/domain/3/serial/1/tty = "/dev/pts/2"
/local/domain/3/console/tty = "/dev/pts/0"
/local/domain/3/console/vnc-port = "5900"
/local/domain/3/device/vif/0/state = "4"
/local/domain/3/device/vbd/768/state = "1"
/local/domain/3/device/console/1/state = "4"
/local/domain/3/device/vif/0/backend = "/local/domain/0/backend/vif/3/0"
"""


@pytest.mark.parametrize(
    ("log", "life"),
    [
        ("", Life()),
        (WAITING, Life(3)),
        (WAITING + CRASH, Life(3)),  # what xl does about it comes in the next line
        (WAITING + CRASH + "Action for shutdown reason code 3 is destroy\n", Life(3, 0, "crash")),
        (WAITING + CRASH + "Action for shutdown reason code 3 is preserve\n", Life(3, 0, "crash")),
        (WAITING + REBOOT + "Action for shutdown reason code 1 is restart\nDone. Rebooting now\n", Life(3)),
        (
            WAITING
            + REBOOT
            + "Action for shutdown reason code 1 is restart\n"
            + WAITING.replace("3", "4")
            + "Domain 4 has shut down, reason code 0 0x0\nAction for shutdown reason code 0 is destroy\n",
            Life(4, 1, "poweroff"),
        ),
        (
            WAITING + "Domain 3 has shut down, reason code 77 0x4d\nAction for shutdown reason code 77 is destroy\n",
            Life(3, 0, "reason code 77"),
        ),
    ],
)
def test_the_log_of_a_waiting_xl(log: str, life: Life) -> None:
    assert read_life(log) == life


def test_the_store() -> None:
    store = read_store(STORE.replace("   (n0,r3)", ""), 3)
    assert store["image/device-model-pid"] == "735"
    assert terminals(store) == {"serial port": "/dev/pts/1", "serial port 1": "/dev/pts/2", "console": "/dev/pts/0"}
    assert frontends(store) == {"vif/0": "4", "vbd/768": "1"}
    assert read_store(STORE, 4) == {}


def test_a_stub_domain_has_the_terminals_of_the_serial_ports() -> None:
    assert stub_domain({"image/device-model-domid": "7"}) == 7
    assert stub_domain({"image/device-model-domid": "x"}) == stub_domain({}) == 0
    consoles = {f"device/console/{number}/tty": f"/dev/pts/{number}" for number in range(1, 5)}
    store = {**consoles, "device/console/5/tty": "", "device/console/4/state": "4", "console/tty": "/dev/pts/0"}
    assert stub_terminals(store) == {"serial port": "/dev/pts/3", "serial port 1": "/dev/pts/4"}


def test_which_domain_was_created() -> None:
    said = "libxl: debug: x\nlibxl: debug: libxl_create.c:1:f: Domain 12:running bootloader\n"
    assert created_domid(said) == 12
    assert created_domid("nothing") is None


def test_lines_on_xens_console() -> None:
    console = (
        "(XEN) Xen version 4.17\r\n(d3) HVM Loader\r\n(XEN) d3v0 Triple fault - invoking HVM shutdown action 1\r\n"
        "[ 1.0] (d3) Booting from Hard Disk...\n(d31) other\n(XEN) d31v0 other\n(XEN) Domain 3 crashed\n"
    )
    assert guest_lines(console, 3) == "HVM Loader\nBooting from Hard Disk..."
    assert xen_lines(console, 3).split("\n") == [
        "(XEN) d3v0 Triple fault - invoking HVM shutdown action 1",
        "(XEN) Domain 3 crashed",
    ]


def test_memory() -> None:
    rollup = (
        "5581-7ff rw-p 00000000 00:00 0 [rollup]\nRss:       100 kB\nPss:        60 kB\nPss_Anon:    1 kB\n"
        "Private_Clean:   10 kB\nPrivate_Dirty:   40 kB\n"
    )
    assert read_rollup(rollup) == Memory(100 * 1024, 60 * 1024, 50 * 1024)
    assert read_rollup("") is None


@given(st.text(), st.integers(1, 99))
def test_nothing_that_a_guest_writes_is_too_strange(text: str, domid: int) -> None:
    read_life(text)
    read_store(text, domid)
    read_rollup(text)
    xen_lines(text, domid)
    assert "\r" not in guest_lines(text, domid)
