"""One guest, from xl create to its result, in a host that a script plays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fake_host import SERIAL, FakeHost
from xenqemu.errors import LabError
from xenqemu.lab import boot, watched
from xenqemu.lab.boot import Wish, boot_guest, furnish
from xenqemu.lab.model import Completed, HostDisk, HostError
from xenqemu.lab.result import GuestResult, Memory
from xenqemu.lab.screen import Screen
from xenqemu.lab.staging import StagedDisk, StagedGuest
from xenqemu.lab.steps import Dom0Step
from xenqemu.vm.guest import view_xl
from xenqemu.vm.xlcfg import parse

LOG = "/var/log/xen/qemu-dm-guest.log"
LIFE = "/var/log/xen/xl-guest.log"
WAITING = b"Waiting for domain guest (domid 3) to die [pid 1]\n"
CONFIG = "name='guest'\ntype='hvm'\nserial='pty'\nvif=['bridge=br7','','bridge=br7']\n"

Boot = Callable[..., GuestResult]


def staged(text: str = CONFIG) -> StagedGuest:
    view = view_xl(parse(text.encode(), "/home/me/guest.cfg"), Path("/home/me"))
    return StagedGuest(view, "/home/me/guest.cfg", "/home/me", (), (), (), ("/home/me",), None, ("a note",))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "_POLL", 0.001)
    monkeypatch.setattr(boot, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(watched, "_OPEN_SECONDS", 0.01)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def run(host: FakeHost, tmp_path: Path) -> Boot:
    def do(guest: StagedGuest | None = None, **wish: object) -> GuestResult:
        given = {"timeout": 5.0} | wish
        return boot_guest(host, guest or staged(), Wish(**given), tmp_path)  # type: ignore[arg-type]

    return do


def test_a_guest_that_boots(host: FakeHost, run: Boot, tmp_path: Path) -> None:
    host.later = {SERIAL: b"Debian\r\nguest login: ", LOG: b"VNC server running\n"}
    said: list[str] = []
    result = run(heard=said.append)
    assert (result.created, result.booted, result.sign) == (True, True, "login prompt on the serial port")
    assert result.memory == Memory(20 << 20, 10 << 20, 8 << 20)
    assert result.create_seconds is not None
    assert result.boot_seconds is not None
    assert (result.reason, result.notes, result.log) == ("", ("a note",), ())
    assert "".join(said) == "Debian\nguest login: "
    assert ("env", "-C", "/home/me", "xl", "-vvv", "create", "-p", "/home/me/guest.cfg") in host.commands
    assert ("xl", "unpause", "3") in host.commands
    # The terminal is read before the guest runs.
    reader = next(number for number, argv in enumerate(host.commands) if "OPEN:/dev/pts/1,rdonly,noctty" in argv)
    assert reader < host.commands.index(("xl", "unpause", "3"))
    assert (tmp_path / "guest.serial-port.log").read_bytes() == b"Debian\r\nguest login: "
    assert "Domain 3" in (tmp_path / "guest.xl.log").read_text()


def test_what_a_guest_before_wrote_on_xens_console_does_not_count(host: FakeHost, run: Boot) -> None:
    host.console.write_bytes(b"(d3) No bootable device.\n")
    host.later = {SERIAL: b"guest login: "}
    assert run().booted


def test_a_serial_port_that_is_a_file(host: FakeHost, run: Boot) -> None:
    host.answers["xenstore-ls"] = Completed(b"", b"", 1)
    host.later = {"/var/tmp/out": b"guest login: "}
    result = run(staged(CONFIG.replace("'pty'", "'file:/var/tmp/out'")))
    assert result.sign == "login prompt on the serial port"


def test_the_first_port_is_the_first_serial_port_whatever_else_there_is(host: FakeHost, tmp_path: Path) -> None:
    ports = b"".join(b'/local/domain/3/%s/tty = "/dev/pts/%d"\n' % (port, 7) for port in (b"console", b"serial/0"))
    host.answers["xenstore-ls"] = Completed(ports, b"", 0)
    guest = staged(CONFIG.replace("'pty'", "['pty', 'file:/var/tmp/out']"))
    one = watched.WatchedGuest(host, guest.view, 3, {}, 0)  # type: ignore[arg-type]
    one.listen()
    host.files |= {"/var/log/xen/3-0.text": b"PV\n", "/var/log/xen/3-1.text": b"first\n", "/var/tmp/out": b"file\n"}
    assert one.heard() == "first\n"
    assert list(one.hear()) == ["serial port", "serial port 1", "console"]


def test_a_guest_that_restarts_is_heard_once_it_has_its_port(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "_FOLLOW_EVERY", 0.0)
    one = watched.WatchedGuest(host, staged(CONFIG).view, 3, {}, 0)  # type: ignore[arg-type]
    one.listen()
    host.files |= {SERIAL: b"restarting\n", "/var/log/xen/4-0.text": b"up again\n"}
    # libxl gives the domain its name, and a port when the device model runs.
    host.answers |= {"xl": Completed(b"4\n", b"", 0), "xenstore-ls": Completed(b'/local/domain/4/name = "g"\n', b"", 0)}
    assert one.heard() == "restarting\n"
    assert one.domid == 3
    host.answers["xenstore-ls"] = Completed(b'/local/domain/4/serial/0/tty = "/dev/pts/2"\n', b"", 0)
    assert one.heard() == "restarting\nup again\n"
    assert one.words()["domid"] == "4"


def test_a_guest_is_heard_through_its_stub_domain(host: FakeHost) -> None:
    one = watched.WatchedGuest(host, staged(CONFIG).view, 3, {}, 0)  # type: ignore[arg-type]
    host.answers["xenstore-ls"] = Completed(
        b'/local/domain/3/image/device-model-domid = "4"\n/local/domain/4/device/console/3/tty = "/dev/pts/6"\n'
        b'/local/domain/4/device/console/1/tty = "/dev/pts/5"\n',
        b"",
        0,
    )
    one.listen()
    host.files[SERIAL] = b"up\n"
    assert one.heard() == "up\n"
    assert any("OPEN:/dev/pts/6,rdonly,noctty" in command for command in host.commands)
    assert (one.words()["stub"], one.pid) == ("4", 0)


def test_what_is_expected(host: FakeHost, run: Boot) -> None:
    host.later = {SERIAL: b"guest login: \r\nready 7\r\n"}
    assert run(expect="ready [0-9]").sign == "'ready 7' on the serial port"
    result = run(expect="ready [a-z]", timeout=0.05)
    assert not result.booted
    assert "was not heard within" in result.reason


def test_xl_create_fails(host: FakeHost, run: Boot) -> None:
    host.create = Completed(b"", b"libxl: error: libxl_disk.c:1:f: Domain 3:no such disk\n", 3)
    host.files[LOG] = b"one\ntwo\n"
    result = run()
    assert (result.created, result.booted, result.reason) == (False, False, "xl: no such disk")
    assert result.log == ("one", "two")
    assert (result.cause, result.remedy) == ("", "")


def test_a_guest_that_fails_is_told_with_cause_and_remedy(host: FakeHost, run: Boot) -> None:
    host.create = Completed(b"", b"libxl: error: libxl_create.c:1:f: Domain 3:device model did not start: -3\n", 3)
    host.files[LOG] = b"qemu-system-xen: -no-acpi: invalid option\n"
    result = run()
    assert result.reason == "the device model exited: qemu-system-xen: -no-acpi: invalid option"
    assert result.cause.startswith("acpi = 0 makes libxl pass -no-acpi")
    assert result.remedy.startswith("Use a device model of `xenqemu build`")


def test_xl_create_does_not_end(host: FakeHost, run: Boot) -> None:
    host.creates = False
    result = run(timeout=0.05)
    assert not result.created
    assert result.reason.startswith("xl create did not end within")
    assert host.jobs[0].killed


def test_the_number_is_asked_for_when_xl_does_not_say(host: FakeHost, run: Boot) -> None:
    host.create = Completed(b"", b"", 0)
    host.answers["xl"] = Completed(b"3\n", b"", 0)
    host.later = {SERIAL: b"guest login: "}
    assert run().booted


def test_no_bootable_disk(host: FakeHost, run: Boot) -> None:
    host.said_on_console = (
        b"(d3) Booting from Hard Disk...\n(d3) Boot failed: not a bootable disk\n(d3) No bootable device.\n"
    )
    assert "not a bootable disk" in run().reason


def test_a_domain_that_crashes(host: FakeHost, run: Boot) -> None:
    host.said_on_console = b"(XEN) d3v0 Triple fault - invoking HVM shutdown action 3\n"
    host.later = {
        LIFE: WAITING + b"Domain 3 has shut down, reason code 3 0x3\nAction for shutdown reason code 3 is destroy\n"
    }
    assert run().reason == ("the domain shut down: crash: (XEN) d3v0 Triple fault - invoking HVM shutdown action 3")


def test_a_device_model_that_dies(host: FakeHost, run: Boot) -> None:
    host.files["/proc/735/stat"] = b"735 (qemu (x) y) Z 1"
    host.files[LOG] = b"qemu: assertion failed\n"
    result = run()
    assert result.reason == "the device model ended while the guest was running: qemu: assertion failed"
    assert result.log == ("qemu: assertion failed",)
    del host.files["/proc/735/stat"]
    assert run().reason == result.reason


def test_a_guest_that_restarts(host: FakeHost, run: Boot) -> None:
    again = WAITING.replace(b"3", b"4")
    host.later = {
        LIFE: WAITING
        + b"Domain 3 has shut down, reason code 1 0x1\nAction for shutdown reason code 1 is restart\n"
        + again,
        "/var/log/xen/4-0.text": b"guest login: ",
    }
    host.answers["xenstore-ls"] = Completed(
        b'/local/domain/4/serial/0/tty = "/dev/pts/9"\n/local/domain/3/serial/0/tty = "/dev/pts/1"\n', b"", 0
    )
    assert run().booted
    many = b"".join(WAITING.replace(b"3", str(number).encode()) for number in range(3, 9))
    host.files = {LIFE: many}
    host.later = {}
    assert run().reason == "the guest restarts over and over"


def test_nothing_is_heard(host: FakeHost, run: Boot) -> None:
    host.said_on_console = b"(d3) HVM Loader\n(d3) Invoking SeaBIOS ...\n"
    result = run(timeout=0.05)
    assert result.created
    assert result.reason.endswith("the last thing its firmware said: Invoking SeaBIOS ...")


def test_steps_have_to_hold(host: FakeHost, run: Boot) -> None:
    host.later = {SERIAL: b"guest login: "}
    host.answers["ping"] = Completed(b"3 packets, 0% loss\n", b"", 0)
    good, bad = Dom0Step(("ping", "-c", "3", "{address}"), " 0% loss"), Dom0Step(("ping", "x"), "100% loss")
    result = run(steps=(good,), files={"address": "192.0.2.2"})
    assert result.booted
    assert result.steps_seconds is not None
    assert ("ping", "-c", "3", "192.0.2.2") in host.commands
    host.files[SERIAL] = b""
    result = run(steps=(good, bad))
    assert not result.booted
    assert result.reason == "step 2, in dom0 `ping x`: it said other than expected: 3 packets, 0% loss"


def test_what_a_step_has_measured_goes_with_the_result(
    host: FakeHost, run: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a later step fails; the client talks to the VNC server that xenstore names."""
    passwords = []

    def view(stream: object, *, password: str | None, timeout: float) -> str:
        passwords.append(password)
        return "a viewer"

    def look(host: object, session: watched.WatchedGuest, steps: object) -> None:
        with session.viewer() as viewer:
            session.note({"viewer": viewer})
        raise LabError("step 2, x: no")

    monkeypatch.setattr("xenqemu.lab.watched.view", view)
    monkeypatch.setattr("xenqemu.lab.steps.take", look)
    host.later = {SERIAL: b"guest login: "}
    result = run(staged(CONFIG + "vncpasswd='geheim'\n"), steps=(Dom0Step(("true",)),))
    assert (result.booted, result.reason) == (False, "step 2, x: no")
    assert result.figures == ({"viewer": "a viewer"},)
    assert passwords == ["geheim"]
    assert ("socat", "-", "TCP:127.0.0.1:5907") in host.commands


def test_a_screenshot(host: FakeHost, run: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.later = {SERIAL: b"guest login: "}
    passwords = []

    def capture(stream: object, *, password: str | None, timeout: float) -> Screen:
        passwords.append(password)
        return Screen(1, 1, b"rgb")

    monkeypatch.setattr("xenqemu.lab.screen.capture", capture)
    result = run(staged(CONFIG + "vncpasswd='geheim'\n"), screenshot=tmp_path / "x.png")
    assert result.screenshot == str(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    kept = next(path for path in tmp_path.rglob(f"{result.stem}.png"))
    assert kept.read_bytes() == (tmp_path / "x.png").read_bytes()
    assert passwords == ["geheim"]
    assert ("socat", "-", "TCP:127.0.0.1:5907") in host.commands

    host.files[SERIAL] = b""
    result = run(screenshot=tmp_path / "nowhere" / "x.png")
    assert "cannot be written" in result.reason

    def dark(stream: object, *, password: str | None, timeout: float) -> Screen:
        raise LabError("the guest's screen is dark")

    monkeypatch.setattr("xenqemu.lab.screen.capture", dark)
    host.files[SERIAL] = b""
    assert run(screenshot=tmp_path / "y.png").reason == "the guest's screen is dark"


def test_the_host_fails(host: FakeHost, run: Boot) -> None:
    host.fails_on = "unpause"
    with pytest.raises(HostError, match="has not answered"):
        run()


def test_what_guests_expect_is_made_in_dom0(host: FakeHost) -> None:
    guest = replace(
        staged(), links=(("/dev/x", "/usr/lib/y"),), disks=(StagedDisk("/home/me/a.img", HostDisk(Path("/a"))),)
    )
    furnish(host, [guest, guest], {"/home/me/a b.img": 1})  # type: ignore[arg-type]
    assert host.commands[0] == ("mkdir", "-p", "--", "/dev", "/home/me")
    assert host.inputs == [b"/usr/lib/y\0/dev/x\0/usr/lib/y\0/dev/x\0/dev/host-disk/1\0/home/me/a b.img\0"]
    assert [argv for argv in host.commands if argv[0] == "ip"] == [
        ("ip", "link", "add", "br7", "type", "bridge"),
        ("ip", "link", "set", "br7", "up"),
    ]
    host.answers["ip"] = Completed(b"", b"RTNETLINK answers: no\n", 2)
    with pytest.raises(HostError, match="RTNETLINK"):
        furnish(host, [guest], {})  # type: ignore[arg-type]
