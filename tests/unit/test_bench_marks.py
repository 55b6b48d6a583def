"""Counting instructions: the two protocols, the marks, and what is made of them. The emulator is a thread here."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.bench import instructions
from xenqemu.bench.instructions import MARKS, Start, emulator_arguments, measure_start, read_result, vmrun_address
from xenqemu.bench.wire import Debugger, Qmp, WireError, connect, packet, read_packet
from xenqemu.errors import LabError
from xenqemu.lab.model import HostDisk, HostOptions, LabBase, OverlayFile
from xenqemu.lab.recipe import DOM0_FOLDER
from xenqemu.lab.staging import StagedDisk, StagedGuest
from xenqemu.ui import QuietUi
from xenqemu.vm.guest import GuestView

_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="$#}"))


@given(_TEXT, st.sampled_from([b"", b"+", b"++", b"-"]))
def test_packets_come_back(text: str, before: bytes) -> None:
    assert read_packet(io.BytesIO(before + packet(text) + b"$more")) == text


@given(st.binary(max_size=40))
def test_what_is_no_packet_is_told(data: bytes) -> None:
    try:
        read_packet(io.BytesIO(data))
    except WireError:
        return
    assert b"$" in data
    assert b"#" in data


@pytest.mark.parametrize("cut", [b"", b"+", b"$O", b"$OK#9", b"$OK#00"])
def test_a_packet_that_is_cut_off_or_wrong(cut: bytes) -> None:
    with pytest.raises(WireError):
        read_packet(io.BytesIO(cut))


_NEXT_MARK = b'{"event": "RESUME"}\n{"event": "GUEST_PANICKED", "data": {}}\n'


class FakeMachine:
    """An emulator's two sockets: stops at a mark as often as it is told to go on; each count is what `counts` says."""

    def __init__(self, folder: Path, counts: dict[str, int], stop: str = "T05thread:01;") -> None:
        self.said: list[str] = []
        self._counts = iter(counts.values())
        self._stop = stop
        self._servers: dict[str, socket.socket] = {}
        self._open = list[socket.socket]()
        for name in ("qmp", "gdb"):
            self._servers[name] = socket.socket(socket.AF_UNIX)
            self._servers[name].bind(str(folder / name))
            self._servers[name].listen(1)
        self.threads = [
            threading.Thread(target=self._qmp, daemon=True),
            threading.Thread(target=self._gdb, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _qmp(self) -> None:
        connection, _ = self._servers["qmp"].accept()
        self._open.append(connection)
        stream = self._monitor = connection.makefile("rwb", buffering=0)
        stream.write(b'{"QMP": {}}\n')
        with suppress(ConnectionError):  # who waits for no more marks goes away
            self._answer(stream)

    def _answer(self, stream: socket.SocketIO) -> None:
        while line := stream.readline():
            command = json.loads(line)["execute"]
            self.said.append(command)
            answer: object = {}
            if command == "query-replay":
                answer = {"mode": "none", "icount": next(self._counts)}
            stream.write(json.dumps({"return": answer}).encode() + b"\n")
            if command in ("qmp_capabilities", "cont"):
                stream.write(_NEXT_MARK)

    def _gdb(self) -> None:
        connection, _ = self._servers["gdb"].accept()
        self._open.append(connection)
        stream = connection.makefile("rb")
        while True:
            try:
                said = read_packet(stream)
            except WireError:
                return
            self.said.append(said)
            connection.sendall(b"+" + packet(self._stop if said == "c" else "OK"))
            if said == "D":
                self._monitor.write(_NEXT_MARK)

    def close(self) -> None:
        for one in (*self._servers.values(), *self._open):
            one.close()


@contextmanager
def machine(folder: Path, counts: dict[str, int], stop: str = "T05thread:01;") -> Iterator[FakeMachine]:
    made = FakeMachine(folder, counts, stop)
    try:
        yield made
    finally:
        made.close()


def test_marks_are_taken_in_their_order(tmp_path: Path) -> None:
    counts = {mark: 100 * number for number, mark in enumerate(MARKS)}
    watch = instructions._Watch(tmp_path, 0xFFFF82D040204502)
    with machine(tmp_path, counts) as fake:
        watch.start()
        watch.join(timeout=20)
        # what leaving says comes last, on a connection of its own
        assert "D" in fake.said
    assert watch.counts == counts
    # at the mark before the breakpoint, only the debugger lets the machine go on
    at = fake.said.index("Z1,ffff82d040204502,1")
    assert fake.said[at - 1] == "query-replay"
    assert fake.said[at + 1 : at + 3] == ["c", "z1,ffff82d040204502,1"]
    assert fake.said.count("cont") == len(MARKS) - 2


def test_a_machine_that_stops_for_another_reason(tmp_path: Path) -> None:
    watch = instructions._Watch(tmp_path, 1)
    with machine(tmp_path, dict.fromkeys(MARKS, 0), stop="T02thread:01;"):
        watch.start()
        watch.join(timeout=20)
    assert watch.problem is not None
    assert "T02" in watch.problem.message
    assert list(watch.counts) == list(MARKS[: MARKS.index("first")])


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="nobody listens"):
        connect(tmp_path / "none", 0.1)


@contextmanager
def talk(answers: bytes) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answers)
        theirs.shutdown(socket.SHUT_WR)
        yield ours


@pytest.mark.parametrize(
    "answers",
    [
        b"",
        b"{}\nnonsense\n",
        b"{}\n[]\n",
        b'{}\n{"error": {"desc": "no"}}\n',
    ],
)
def test_a_monitor_that_does_not_answer(answers: bytes) -> None:
    with talk(answers) as connection, pytest.raises(WireError):
        Qmp(connection)


def test_a_debugger_that_refuses() -> None:
    with talk(b"+" + packet("E22")) as connection, pytest.raises(WireError, match="refuses Z1"):
        Debugger(connection).run_to(5)


@pytest.mark.parametrize("ask", [lambda one: Qmp(one), lambda one: Debugger(one).leave()])
def test_a_closed_connection(ask: Callable[[socket.socket], object]) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(WireError):
        ask(ours)


def test_marks_are_left_out_of_the_figures() -> None:
    """A mark costs 10; the device model takes 500, xl 100 before and 30 after it, the guest is there 7 later."""
    counts = {"settled": 0, "before": 10, "create": 20, "started": 130, "ready": 670, "first": 677, "running": 700}
    figures = Start(counts, 1.5, 1.6).figures()
    assert figures["ready-instructions"] == 630
    assert figures["own-instructions"] == 530
    assert figures["first-instructions"] == 637
    assert (figures["ready-seconds"], figures["first-seconds"]) == (1.5, 1.6)


def test_what_dom0_measured() -> None:
    ready, first = read_result("0 100.5 102.0 102.25\nParsing config\n")
    assert (ready, first) == (1.5, 1.75)
    with pytest.raises(LabError, match=r"exit 3\): no such disk"):
        read_result("3 1 2 3\nParsing\nno such disk\n")
    with pytest.raises(LabError, match="xl said nothing"):
        read_result("1 1 2 3\n")


@given(st.text())
def test_what_dom0_did_not_measure(text: str) -> None:
    try:
        ready, first = read_result(text)
    except LabError:
        return
    assert isinstance(ready, float)
    assert isinstance(first, float)


def _elf(path: Path, text: bytes) -> Path:
    """Write an ELF file of Xen's kind: 32 bits, one segment, physical addresses."""
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, 0, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 128, 0x200000, 0x200000, len(text), len(text), 7, 64)
    path.write_bytes((header + segment).ljust(128, b"\0") + text)
    return path


def test_where_the_guest_is_entered(tmp_path: Path) -> None:
    found = vmrun_address(_elf(tmp_path / "xen", b"\x90" * 5 + b"\x0f\x01\xd8" + b"\x90"))
    assert found == 0xFFFF82D040200005


@pytest.mark.parametrize("text", [b"\x90\x90", b"\x0f\x01\xd8\x90\x0f\x01\xd8"])
def test_a_hypervisor_with_no_or_two_places(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(LabError, match="VMRUN"):
        vmrun_address(_elf(tmp_path / "xen", text))


def test_the_port_is_that_of_the_script() -> None:
    script = (Path(instructions.__file__).parent / "mark.sh").read_text()
    assert f"seek={instructions.PORT} " in script
    arguments = " ".join(emulator_arguments(Path("/run/x")))
    assert f"pvpanic,ioport={instructions.PORT} " in arguments
    assert "path=/run/x/qmp," in arguments


def test_the_device_models_start_is_marked() -> None:
    started = instructions._marking(OverlayFile("/dm", b"#!/bin/sh\nexec /lib/ld.so /qemu\n", 0o755))
    assert started.content == b"#!/bin/sh\n/usr/lib/xenqemu/mark\nexec /lib/ld.so /qemu\n"
    other = OverlayFile("/x", b"#!/bin/sh\necho\n")
    assert instructions._marking(other) is other


def _staged(tmp_path: Path) -> StagedGuest:
    view = SimpleNamespace(name="boot-sector")
    disk = StagedDisk("/x/disk.img", HostDisk(tmp_path / "disk.img"))
    files = (OverlayFile("/x/dm", b"#!/bin/sh\nexec /qemu\n", 0o755), OverlayFile("/x/boot.cfg", b"name"))
    return StagedGuest(cast(GuestView, view), "/x/boot.cfg", "/x", files, (disk,), (), (), None, ())


def test_the_guests_disk_is_in_dom0s_memory(tmp_path: Path) -> None:
    files = {file.path: file for file in instructions.overlay(_staged(tmp_path))}
    assert files["/x/disk.img"].content == tmp_path / "disk.img"
    assert files["/etc/xenqemu/measured"].content == b"/x\n/x/boot.cfg\nboot-sector\n"
    assert b"/usr/lib/xenqemu/mark" in bytes(cast(bytes, files["/x/dm"].content))
    start = bytes(cast(bytes, files["/usr/lib/xenqemu/measured-start"].content))
    # what it puts its own line in front of is a line of dom0's start
    assert b"s|^qemu-ga |" in start
    assert re.search(r"(?m)^qemu-ga ", (DOM0_FOLDER / "start").read_text())


@pytest.mark.parametrize("complete", [True, False])
def test_a_start_is_measured_or_its_problem_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    counts = {mark: 1000 * number for number, mark in enumerate(MARKS)}
    asked: list[HostOptions] = []

    @contextmanager
    def start_host(base: object, overlay: object, disks: object, options: HostOptions, *_: object) -> Iterator[object]:
        asked.append(options)
        yield SimpleNamespace(read=lambda path: b"0 1.0 2.0 2.5\n")

    monkeypatch.setattr(instructions, "start_host", start_host)
    base = cast(LabBase, SimpleNamespace(hypervisor=_elf(tmp_path / "xen", b"\x0f\x01\xd8")))
    sockets = tmp_path / "s"
    sockets.mkdir()
    stop = "T05" if complete else "T02"
    with machine(sockets, counts, stop=stop):
        if complete:
            start = measure_start(base, _staged(tmp_path), tmp_path, sockets, HostOptions(), QuietUi())
            assert start == Start(counts, 1.0, 1.5)
        else:
            with pytest.raises(WireError, match="another reason"):
                measure_start(base, _staged(tmp_path), tmp_path, sockets, HostOptions(), QuietUi())
    assert asked[0].accel == "tcg"
    assert "-icount" in asked[0].extra_emulator_arguments
