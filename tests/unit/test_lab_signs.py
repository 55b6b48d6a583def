"""When a guest counts as booted, and when as failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.lab.signs import Heard, Judge, Verdict, spoken
from xenqemu.text import plain

SEABIOS = "SeaBIOS (version 1.16.2-debian-1.16.2-1)\nSearching bootorder for: HALT\nenter handle_19:\n  NULL\n"
DISK = SEABIOS + "Booting from Hard Disk...\nBooting from 0000:7c00\n"
NO_DISK = SEABIOS + (
    "Booting from DVD/CD...\nBoot failed: Could not read from CDROM (code 0003)\n"
    "Booting from Hard Disk...\nBoot failed: not a bootable disk\n\n"
    "Booting from Floppy...\nBoot failed: could not read the boot disk\n\n"
    "No bootable device.  Retrying in 60 seconds.\n"
)
FROM_SECOND = SEABIOS + (
    "Booting from DVD/CD...\nBoot failed: Could not read from CDROM (code 0003)\n"
    "Booting from Hard Disk...\nBooting from 0000:7c00\n"
)


def judge(*heard: Heard, expect: str = "") -> Verdict:
    one, verdict = Judge(expect), Verdict()
    for what in heard:
        verdict = one.look(what)
        if verdict.decided:
            break
    return verdict


def serial(text: str, seconds: float = 0.0, **more: str) -> Heard:
    return Heard(seconds, {"serial port": text}, **more)  # type: ignore[arg-type]


def test_a_guest_that_goes_on_talking_is_listened_to() -> None:
    def at(seconds: float) -> Heard:
        return serial("[ 0.0] x\n" * int(seconds + 1), seconds)

    assert not judge(*map(at, range(0, 60, 2))).decided
    assert judge(*map(at, range(0, 61, 2))).sign == "text on the serial port"
    panic = serial(at(40).text["serial port"] + "Kernel panic - not syncing: no init\n", 41)
    assert judge(*map(at, range(0, 40, 2)), panic).reason == "the guest's kernel panicked: no init"


def test_at_the_end_a_sign_need_not_stand() -> None:
    assert Judge().look(serial("x"), last=True).sign == "text on the serial port"
    assert Judge().look(Heard(1, xen=DISK), last=True).sign == "SeaBIOS started Hard Disk"
    assert not Judge().look(Heard(1, xen=SEABIOS), last=True).decided
    assert not Judge("y").look(serial("x"), last=True).decided


def test_a_login_prompt_is_a_sign_at_once() -> None:
    assert (
        judge(serial("Debian GNU/Linux 12 guest ttyS0\r\n\r\nguest login: ")).sign == "login prompt on the serial port"
    )


def test_text_is_a_sign_when_it_stood_for_a_while() -> None:
    text = "[    0.000000] Linux version 6.1.0\r\n"
    assert not judge(serial(text)).decided
    assert not judge(serial(text), serial(text, 4.9)).decided
    assert judge(serial(text), serial(text, 5)).sign == "text on the serial port"


def test_a_kernel_that_panics_has_not_booted() -> None:
    text = "[    0.0] Linux version 6.1.0\r\n[ 5.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n"
    assert judge(serial(text[:30]), serial(text, 9)).reason == (
        "the guest's kernel panicked: VFS: Unable to mount root fs"
    )


@pytest.mark.parametrize("line", ["iPXE 1.0.0+git", "Booting from Hard Disk...", 'BdsDxe: loading Boot0001 "UEFI"', ""])
def test_what_firmware_writes_is_no_sign(line: str) -> None:
    assert not judge(serial(line + "\r\n"), serial(line + "\r\n", 1000)).decided


def test_the_hand_over_is_the_weakest_sign() -> None:
    early, late = Heard(1, xen=DISK), Heard(9, xen=DISK)
    assert not judge(early).decided
    assert judge(early, late).sign == "SeaBIOS started Hard Disk"
    # A guest that could write on a serial port is given longer to do so.
    assert not judge(serial("", 1, xen=DISK), serial("", 39, xen=DISK)).decided
    assert judge(serial("", 1, xen=DISK), serial("", 41, xen=DISK)).sign == "SeaBIOS started Hard Disk"


def test_the_device_that_was_started_is_named() -> None:
    assert judge(Heard(1, xen=FROM_SECOND), Heard(10, xen=FROM_SECOND)).sign == "SeaBIOS started Hard Disk"


def test_no_bootable_disk_is_told_at_once() -> None:
    assert judge(Heard(1, xen=NO_DISK)).reason == (
        "no bootable disk: DVD/CD: Could not read from CDROM (code 0003); Hard Disk: not a bootable disk"
    )
    none = SEABIOS + "No bootable device.  Retrying in 60 seconds.\n"
    assert judge(Heard(1, xen=none)).reason == "no bootable disk: the firmware found none"


def test_firmware_alone_is_not_booted() -> None:
    assert not judge(Heard(0, xen=SEABIOS), Heard(1000, xen=SEABIOS)).decided


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("error: no such partition.\r\nEntering rescue mode...\r\ngrub rescue> ", "GRUB found no system to start"),
        ("\r\nMissing operating system", "the disk's boot sector says: Missing operating system"),
        ("BOOTMGR is missing", "the disk's boot sector says: BOOTMGR is missing"),
    ],
)
def test_boot_loaders_that_give_up(text: str, reason: str) -> None:
    assert judge(serial(text)).reason.startswith(reason)


def test_connected_frontends() -> None:
    waiting = {"vif/0": "1", "vbd/768": "1"}
    connected = {"vif/0": "4", "vbd/768": "3"}
    assert not judge(Heard(1, frontends=waiting), Heard(100, frontends=waiting)).decided
    assert judge(Heard(1, frontends=connected), Heard(4, frontends=connected)).sign == "PV drivers connected (vif/0)"


def test_only_what_is_expected_counts_when_something_is() -> None:
    text = "guest login: "
    assert not judge(serial(text), serial(text, 1000), expect="ready=[0-9]+").decided
    assert judge(serial("x\r\nready=7\r\n"), expect="ready=[0-9]+").sign == "'ready=7' on the serial port"
    assert judge(serial("firmware: Booting from ROM"), expect="ROM").sign == "'ROM' on the serial port"


def test_a_clean_shutdown() -> None:
    assert judge(Heard(5, shutdown="poweroff")).sign == "clean shutdown by the guest"
    assert judge(serial("bye", 5, shutdown="poweroff")).sign == "text on the serial port"
    assert judge(Heard(5, shutdown="poweroff"), expect="up").reason == (
        "the guest switched itself off without saying /up/"
    )


@pytest.mark.parametrize("how", ["crash", "watchdog", "reason code 9"])
def test_other_ends(how: str) -> None:
    assert judge(Heard(5, shutdown=how)).reason == f"the domain shut down: {how}"


def test_escape_sequences_are_no_text() -> None:
    assert plain("\x1b[2J\x1b[01;01H\x1b[?25hguest\x1b(B\r\nx\x00") == "guest\nx"
    assert spoken("\x1b[2J\x1b[0m\r\n  \r\n") == ""


@given(
    st.text(), st.text(), st.floats(0, 1000), st.sampled_from(["", "poweroff", "crash"]), st.sampled_from(["", "a+"])
)
def test_every_verdict_is_one_thing(text: str, xen: str, seconds: float, shutdown: str, expect: str) -> None:
    verdict = judge(serial(text, seconds, xen=xen, shutdown=shutdown), expect=expect)
    assert not (verdict.sign and verdict.reason)
    assert verdict.decided or not shutdown
    assert "\n" not in verdict.reason
