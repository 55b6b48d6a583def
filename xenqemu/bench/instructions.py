"""How many instructions it takes until a device model is ready, and until its guest executes the first of its own.

The virtual host's emulator counts the instructions that its processor executes (`-icount`), and derives every clock of
the machine from that count, so that nothing in it depends on how fast or how busy this machine is. Dom0 stops the
machine at marks, by a device that is there for such (pvpanic); the count is asked for, and the machine goes on. The
guest's first instruction is where Xen executes VMRUN for the first time, which a breakpoint of the emulator's gdbstub
finds. Waiting costs no instructions: an idle processor has its clock set to the next timer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from xenqemu.bench.wire import Debugger, Qmp, connect
from xenqemu.errors import LabError
from xenqemu.lab.host import start_host
from xenqemu.lab.model import HostOptions, LabBase, OverlayFile
from xenqemu.lab.staging import StagedGuest
from xenqemu.ui import Ui

# The default of a pvpanic device (hw/misc/pvpanic-isa.c); mark.sh has it in decimal.
PORT = 0x505
# In this order, with the device model's own start between the second and the third: see measured.sh.
MARKS = ("settled", "before", "create", "started", "ready", "first", "running")
# XEN_VIRT_START of xen/arch/x86/include/asm/config.h: the hypervisor's physical address 0 is there.
_XEN_VIRT_START = 0xFFFF82D040000000
_VMRUN = b"\x0f\x01\xd8"
_FOLDER = "/usr/lib/xenqemu"
_RESULT = "/run/xenqemu-measured"
_STARTER = b"#!/bin/sh\n"
_HOUR = 3600.0


@dataclass(frozen=True)
class Start:
    """A guest's start: the count of instructions at each mark, and dom0's clock (seconds) when xl ended."""

    counts: Mapping[str, int]
    ready_seconds: float
    first_seconds: float

    def figures(self) -> dict[str, float]:
        """Return the figures; what the marks themselves take is left out."""
        at = self.counts
        cost = at["create"] - at["before"]
        return {
            "ready-instructions": at["ready"] - at["create"] - 2 * cost,
            "own-instructions": at["ready"] - at["started"] - cost,
            "first-instructions": at["first"] - at["create"] - 2 * cost,
            "ready-seconds": self.ready_seconds,
            "first-seconds": self.first_seconds,
        }


def vmrun_address(hypervisor: Path) -> int:
    """Return where the hypervisor, an ELF file, has its VMRUN (svm_asm_do_resume of xen/arch/x86/hvm/svm/entry.S).

    Raises `LabError` when it has none, or several.
    """
    from elftools.elf.elffile import ELFFile

    found = []
    with hypervisor.open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_LOAD"):
            # The file (xen/arch/x86/boot/mkelf32.c) has physical addresses.
            data, start = segment.data(), _XEN_VIRT_START + int(segment["p_paddr"])
            at = data.find(_VMRUN)
            while at >= 0:
                found.append(start + at)
                at = data.find(_VMRUN, at + 1)
    if len(found) != 1:
        raise LabError(f"{hypervisor} has {len(found)} VMRUN instructions, and not one", "name another Xen")
    return found[0]


def read_result(text: str) -> tuple[float, float]:
    """Return dom0's seconds until the device model was ready and until the guest ran, from what measured.sh wrote.

    Raises `LabError` when xl did not create the guest, with its reason.
    """
    line, _, said = text.partition("\n")
    try:
        code, started, ready, running = line.split()
        times = float(ready) - float(started), float(running) - float(started)
    except ValueError as error:
        raise LabError(f"dom0 has measured nothing: {line!r}", "see the run's console log") from error
    if code != "0":
        last = said.strip().splitlines()[-1:] or ["xl said nothing"]
        raise LabError(f"xl did not create the guest (exit {code}): {last[0]}", "see the device model's log")
    return times


def overlay(guest: StagedGuest) -> tuple[OverlayFile, ...]:
    """Return the files in dom0 that the staged guest needs to be created under marks; its disks are in dom0's memory.

    The disks are no disks of the host, as those answer when this machine has time for it.
    """

    def ours(name: str) -> bytes:
        return (resources.files("xenqemu.bench") / name).read_bytes()

    files = [_marking(file) for file in guest.files]
    files += [OverlayFile(disk.path, disk.disk.path) for disk in guest.disks]
    files += [
        OverlayFile(f"{_FOLDER}/mark", ours("mark.sh"), 0o755),
        OverlayFile(f"{_FOLDER}/measured", ours("measured.sh"), 0o755),
        OverlayFile(f"{_FOLDER}/measured-start", ours("measured-start.sh"), 0o755),
        OverlayFile("/etc/xenqemu/measured", f"{guest.folder}\n{guest.path}\n{guest.view.name}\n".encode()),
        OverlayFile("/etc/inittab", f"::sysinit:{_FOLDER}/measured-start\n".encode()),
    ]
    return tuple(files)


def _marking(file: OverlayFile) -> OverlayFile:
    """Return what starts the device model in dom0, a script of ours, with a mark before it; other files as they are."""
    content = file.content
    if isinstance(content, bytes) and content.startswith(_STARTER + b"exec "):
        return replace(file, content=_STARTER + f"{_FOLDER}/mark\n".encode() + content.removeprefix(_STARTER))
    return file


def emulator_arguments(folder: Path) -> list[str]:
    """Return the emulator's arguments for marks, its sockets in `folder`.

    Every instruction is a nanosecond; an idle machine's clock jumps to its next timer (`sleep=off`).
    """
    return [
        *("-icount", "shift=0,sleep=off,align=off"),
        *("-rtc", "base=2026-01-01T00:00:00,clock=vm"),
        *("-device", f"pvpanic,ioport={PORT}", "-action", "panic=pause"),
        *("-chardev", f"socket,id=marks,path={folder}/qmp,server=on,wait=off", "-mon", "chardev=marks,mode=control"),
        *("-chardev", f"socket,id=debugger,path={folder}/gdb,server=on,wait=off", "-gdb", "chardev:debugger"),
    ]


class _Watch(threading.Thread):
    """Takes the counts at the marks, while the host is being waited for in another thread."""

    def __init__(self, folder: Path, vmrun: int) -> None:
        super().__init__(daemon=True, name="marks")
        self._folder = folder
        self._vmrun = vmrun
        self.counts: dict[str, int] = {}
        self.problem: LabError | None = None

    def run(self) -> None:
        try:
            with connect(self._folder / "qmp", _HOUR) as connection:
                self._take(Qmp(connection))
        except LabError as error:
            self.problem = error

    def _take(self, qmp: Qmp) -> None:
        for mark in MARKS:
            if mark == "first":
                with connect(self._folder / "gdb", _HOUR) as connection:
                    debugger = Debugger(connection)
                    debugger.run_to(self._vmrun)
                    self.counts[mark] = _count(qmp)
                    debugger.leave()
                continue
            qmp.wait_for("GUEST_PANICKED")
            self.counts[mark] = _count(qmp)
            if MARKS[MARKS.index(mark) + 1 : MARKS.index(mark) + 2] != ("first",):
                qmp.ask("cont")


def _count(qmp: Qmp) -> int:
    """Return the count of a machine that stands still."""
    return int(qmp.ask("query-replay")["icount"])


def measure_start(
    base: LabBase, guest: StagedGuest, run_dir: Path, sockets: Path, options: HostOptions, ui: Ui
) -> Start:
    """Start a host whose instructions are counted, create `guest` in it, and return what its start took.

    `run_dir` keeps the logs, `sockets` is a folder with a short path. Raises `LabError` when the guest was not created,
    and what starting a host raises.
    """
    extra = (*options.extra_emulator_arguments, *emulator_arguments(sockets))
    counted = replace(options, accel="tcg", boot_timeout=_HOUR, extra_emulator_arguments=extra)
    watch = _Watch(sockets, vmrun_address(base.hypervisor))
    watch.start()
    with start_host(base, overlay(guest), (), counted, run_dir, ui) as host:
        seconds = read_result(host.read(_RESULT).decode(errors="replace"))
    watch.join(timeout=60)
    if watch.problem is not None and len(watch.counts) < len(MARKS):
        raise watch.problem
    return Start(watch.counts, *seconds)
