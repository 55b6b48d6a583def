"""The one line that says why there is no guest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.lab.reasons import device_model_gone, evidence, last_lines, last_words, why_not_created, why_silent
from xenqemu.lab.signs import Heard

# What xl of Xen 4.17 said when the device model refused an option.
SPAWN_FAILED = """\
Parsing config from /tmp/guest.cfg
libxl: debug: libxl_dm.c:179:libxl__domain_get_device_model_uid: Domain 10:dm_restrict disabled, starting QEMU as root
libxl: debug: libxl_create.c:2120:do_domain_create: ao 0x55d: create: how=(nil) callback=(nil)
libxl: error: libxl_dm.c:3161:device_model_spawn_outcome: Domain 10:domain 10 device model: spawn failed (rc=-3)
libxl: error: libxl_dm.c:3381:device_model_postconfig_done: Domain 10:Post DM startup configs failed, rc=-3
libxl: error: libxl_create.c:1896:domcreate_devmodel_started: Domain 10:device model did not start: -3
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 10:Non-existant domain
"""
NO_USER = """\
libxl: error: libxl_dm.c:252:libxl__domain_get_device_model_uid: Domain 16:Could not find user xen-qemuuser-shared
libxl: error: libxl_dm.c:3161:device_model_spawn_outcome: Domain 16:(null): spawn failed (rc=-6)
libxl: error: libxl_create.c:1896:domcreate_devmodel_started: Domain 16:device model did not start: -6
"""
LOG = """\
qemu-system-xen: -device cirrus-vga,vgamem_mb=8: info: cirrus-vga: no "vgabios-cirrus.bin", going on without it
VNC server running on 127.0.0.1:5900
qemu-system-xen: -no-acpi: invalid option
"""


@pytest.mark.parametrize(
    ("xl", "log", "reason"),
    [
        (SPAWN_FAILED, LOG, "the device model exited: qemu-system-xen: -no-acpi: invalid option"),
        (SPAWN_FAILED, "VNC server running on 127.0.0.1:5900\n", "the device model exited and said nothing"),
        (
            "libxl: error: libxl_exec.c:403:spawn_watch_event: domain 10 device model: startup timed out\n"
            + SPAWN_FAILED,
            "qemu-system-xen: waiting\n",
            "the device model did not say within libxl's time that it is ready; it last said: qemu-system-xen: waiting",
        ),
        (
            "libxl: error: libxl_exec.c:403:spawn_watch_event: domain 10 device model: startup timed out\n"
            + SPAWN_FAILED,
            "",
            "the device model did not say within libxl's time that it is ready, nor anything else",
        ),
        (
            "libxl: error: libxl_exec.c:442:spawn_middle_death: domain 10 device model [811]: died during startup "
            f"due to fatal signal Killed\n{SPAWN_FAILED}",
            "",
            "the device model died during startup due to fatal signal Killed, and said nothing",
        ),
        (NO_USER, "", "xl could not start the device model: Could not find user xen-qemuuser-shared"),
        (
            "libxl: error: libxl_dm.c:3000:spawn_dm: Domain 1:device model /x is not executable: No\n"
            "libxl: error: libxl_create.c:1896:domcreate_devmodel_started: Domain 1:device model did not start: -3\n",
            "",
            "xl could not start the device model: device model /x is not executable: No",
        ),
        (
            "libxl: error: libxl_disk.c:12:f: Domain 1:Could not stat /x\nlibxl: error: libxl.c:1:g: later\n",
            "",
            "xl: Could not stat /x",
        ),
        (
            "libxl: error: libxl_aoutils.c:646:libxl__kill_xs_path: qemu command-line probe already exited\n"
            "libxl: error: libxl_qmp.c:1837:qmp_ev_parse_error_messages: Domain 11:Could not open '/sys/x'\n",
            "",
            "xl: Could not open '/sys/x'",
        ),
        ("failed to free memory for the domain\n", "", "the virtual host has too little memory for the guest"),
        ("Parsing config from /x\nUnknown disk format: x\n", "", "xl: Unknown disk format: x"),
        ("", "", "xl create failed and said nothing"),
    ],
)
def test_why_xl_created_nothing(xl: str, log: str, reason: str) -> None:
    assert why_not_created(xl, log) == reason


def test_what_is_shown_of_a_guest_that_was_not_created() -> None:
    assert evidence(SPAWN_FAILED, LOG)[-1] == "qemu-system-xen: -no-acpi: invalid option"
    shown = evidence(SPAWN_FAILED, "")
    assert len(shown) == 4
    assert shown[0].endswith("spawn failed (rc=-3)")


def test_xl_that_does_not_end() -> None:
    assert why_not_created("", LOG, 30) == (
        "xl create did not end within 30 s: qemu-system-xen: -no-acpi: invalid option"
    )
    assert why_not_created("", "", 30) == "xl create did not end within 30 s"


def test_last_words_leave_out_what_a_device_model_says_in_passing() -> None:
    assert last_words(LOG + "VNC server running on 127.0.0.1:5901\n\n") == "qemu-system-xen: -no-acpi: invalid option"
    assert last_words("VNC server running on 127.0.0.1:5901\n") == ""
    assert last_lines("a\r\n\r\nb\nc\n", 2) == ("b", "c")


def test_a_device_model_that_ends_under_its_guest() -> None:
    assert device_model_gone(LOG).endswith("running: qemu-system-xen: -no-acpi: invalid option")
    assert device_model_gone("").endswith("running, and said nothing")


def test_why_nothing_was_heard() -> None:
    firmware = Heard(9, {"serial port": ""}, "HVM Loader\nInvoking SeaBIOS ...\n")
    assert why_silent(firmware, 60).endswith("within 60 s, the last thing its firmware said: Invoking SeaBIOS ...")
    assert why_silent(Heard(9), 60).endswith("within 60 s, not even from its firmware")
    chatty = Heard(9, {"serial port": "one\r\ntwo\r\n"})
    assert why_silent(chatty, 60, expect="up") == "/up/ was not heard within 60 s; it last said: two"
    assert why_silent(firmware, 60, expect="up") == "/up/ was not heard within 60 s; it said nothing"


@given(st.text(), st.text())
def test_a_reason_is_always_one_line(xl: str, log: str) -> None:
    reason = why_not_created(xl, log)
    assert reason
    assert "\n" not in reason
