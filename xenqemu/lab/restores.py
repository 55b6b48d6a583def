"""Which device model takes over a guest that was saved under which: every pair of some, in one host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xenqemu.errors import LabError
from xenqemu.lab import reasons, steps
from xenqemu.lab.boot import Wish, boot_guest
from xenqemu.lab.host import Host
from xenqemu.lab.model import HostError
from xenqemu.lab.staging import StagedGuest
from xenqemu.lab.steps import Dom0Step, GuestStep, HearsStep, Step
from xenqemu.lab.watched import LOGS, WatchedGuest

_BOOT_SECONDS = 300.0
_SECONDS = 180.0
_SAVED = "/root/saved"
# A process that goes on, data on the disk, and the network: what the guest has before, and what it must have after.
_BEFORE: tuple[Step, ...] = (
    GuestStep(
        "seq 20000 | head -c 65536 >/data; dd if=/data of=/dev/sda bs=64k seek=8 oflag=direct 2>/dev/null; "
        "(while sleep 1; do say alive; done) &"
    ),
    Dom0Step(("xl", "save", "{name}", _SAVED), within=_SECONDS),
)
_AFTER: tuple[Step, ...] = (
    Dom0Step(("xl", "list", "{name}")),
    HearsStep("guest: alive", within=_SECONDS),
    GuestStep("dd if=/dev/sda bs=64k skip=8 count=1 iflag=direct 2>/dev/null | cmp - /data", within=_SECONDS),
    Dom0Step(("ping", "-c", "1", "-W", "1", "{address}"), expect=" 0% packet loss", within=_SECONDS, again=True),
)


@dataclass(frozen=True)
class Restored:
    """What came of a guest saved under the device model `saver` and restored under `restorer`.

    `reason` says why it did not work, in a line; empty when it did.
    """

    xen: str
    saver: str
    restorer: str
    seconds: float
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)


def try_restores(
    host: Host,
    xen: str,
    guests: Mapping[str, StagedGuest],
    savers: Sequence[str],
    files: Mapping[str, str],
    logs: Path,
    told: Callable[[Restored], None],
) -> None:
    """Boot and save the guest under each of `savers`, restore it under each of `guests`; `told` hears of each pair.

    `guests` are one guest, staged once for each device model, by the names of these; `files` are words for its steps.
    Raises `HostError`.
    """
    for saver in savers:
        wish = Wish(_BOOT_SECONDS, expect="xenqemu-guest: up ", steps=_BEFORE, files=files)
        saved = boot_guest(host, guests[saver], wish, logs)
        for restorer, guest in guests.items():
            if not saved.booted:
                told(Restored(xen, saver, restorer, 0.0, f"not saved: {saved.reason}"))
                continue
            started = time.monotonic()
            reason = _restore(host, guest, files)
            told(Restored(xen, saver, restorer, time.monotonic() - started, reason))
            host.run(("xl", "destroy", guest.view.name), timeout=_SECONDS)
        host.run(("xl", "destroy", guests[saver].view.name), timeout=_SECONDS)
        host.run(("rm", "-f", _SAVED))


def _restore(host: Host, guest: StagedGuest, files: Mapping[str, str]) -> str:
    """Restore the guest and return why that did not work, or nothing."""
    session = WatchedGuest(host, guest.view, 0, files, host.console.stat().st_size)
    restore = Dom0Step(("xl", "restore", guest.path, _SAVED), within=_SECONDS)
    try:
        steps.take(host, session, (restore, *_AFTER))
    except HostError:
        raise
    except LabError as error:
        log = (session.read(f"{LOGS}/qemu-dm-{guest.view.name}.log", 0) or b"").decode(errors="replace")
        last = [line for line in reasons.last_lines(log, 5) if "warning:" not in line]
        return last[-1] if last and "terminating" not in last[-1] else error.message
    return ""


def markdown(results: Sequence[Restored]) -> str:
    """Return a table for each Xen, savers down and restorers across, and a list of the reasons of what failed."""
    lines = []
    for xen in dict.fromkeys(result.xen for result in results):
        of = {(result.saver, result.restorer): result for result in results if result.xen == xen}
        across = list(dict.fromkeys(restorer for _, restorer in of))
        lines += [f"Xen {xen}:", "", f"| saved under | {' | '.join(across)} |", f"|{' --- |' * (len(across) + 1)}"]
        notes: dict[str, int] = {}
        for saver in dict.fromkeys(saver for saver, _ in of):
            cells = []
            for restorer in across:
                result = of.get((saver, restorer))
                reason = result.reason if result else ""
                note = f"no ({notes.setdefault(reason, len(notes) + 1)})" if reason else "yes"
                cells.append(note if result else "not tried")
            lines.append(f"| {saver} | {' | '.join(cells)} |")
        lines += ["", *(f"{number}. {reason}" for reason, number in notes.items()), *([""] if notes else [])]
    return "\n".join(lines).rstrip() + "\n"
