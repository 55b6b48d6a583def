"""What dom0 tells of a domain, read out of its files. Nothing here talks to a host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from xenqemu.lab.result import Memory

# enum of the SHUTDOWN_ codes of xen/include/public/sched.h
_SHUTDOWNS = {0: "poweroff", 1: "reboot", 2: "suspend", 3: "crash", 4: "watchdog", 5: "soft reset"}
# Of action_on_shutdown_names in tools/xl/xl_parse.c; the others make it anew.
_FINAL = ("destroy", "preserve", "coredump-destroy")
_KIB = 1024
_STORE_LINE = re.compile(r'^(?P<path>/\S*) = "(?P<value>.*)"$', re.MULTILINE)
_FRONTEND = re.compile(r"^device/(?P<device>(?:vif|vbd|console|vkbd|vfb)/\d+)/state$")
# Of reload_domain_config and create_domain in tools/xl/xl_vmcontrol.c.
_WAITING = re.compile(r"^Waiting for domain .* \(domid (?P<domid>\d+)\) to die", re.MULTILINE)
_ENDED = re.compile(r"^Domain (?P<domid>\d+) has shut down, reason code (?P<code>-?\d+)", re.MULTILINE)
_ACTION = re.compile(r"^Action for shutdown reason code -?\d+ is (?P<action>[\w-]+)", re.MULTILINE)
_CREATED = re.compile(r"\bDomain (?P<domid>[1-9]\d*):")
_GUEST_LINE = "(d{domid})"
_STUB_SERIAL = 3


@dataclass(frozen=True)
class Life:
    """What `xl`, waiting for a domain's end, has logged.

    `domid` is the number that the domain has now (0: not known), `restarts` how often it was made anew, `shutdown` the
    reason for which it has ended, empty while it has not and while xl is about to make it anew.
    """

    domid: int = 0
    restarts: int = 0
    shutdown: str = ""


def read_life(log: str) -> Life:
    """Return what the log of a waiting xl (/var/log/xen/xl-NAME.log) says."""
    waits = list(_WAITING.finditer(log))
    if not waits:
        return Life()
    domid = int(waits[-1]["domid"])
    ended = [match for match in _ENDED.finditer(log) if int(match["domid"]) == domid]
    action = _ACTION.search(log, ended[-1].end()) if ended else None
    shutdown = ""
    if action and action["action"] in _FINAL:
        code = int(ended[-1]["code"])
        shutdown = _SHUTDOWNS.get(code, f"reason code {code}")
    return Life(domid, len({match["domid"] for match in waits}) - 1, shutdown)


def created_domid(xl: str) -> int | None:
    """Return the number of the domain that `xl -vvv create`, which said `xl`, has made."""
    match = _CREATED.search(xl)
    return int(match["domid"]) if match else None


def read_store(listing: str, domid: int) -> dict[str, str]:
    """Return what `xenstore-ls -f /local/domain/DOMID` lists, by path relative to the domain's."""
    top = f"/local/domain/{domid}/"
    return {
        match["path"].removeprefix(top): match["value"]
        for match in _STORE_LINE.finditer(listing)
        if match["path"].startswith(top)
    }


def terminals(store: Mapping[str, str]) -> dict[str, str]:
    """Return the terminals in dom0 that a domain writes to, by what a person calls them.

    libxl puts them there: QEMU's serial ports (hw/xen or tools/libs/light/libxl_dm.c, `serial/N/tty`), and the PV
    console, which xenconsoled serves (tools/console/daemon/io.c, `console/tty`).
    """
    found = {}
    for path, tty in store.items():
        port = re.fullmatch(r"serial/(\d+)/tty", path)
        if port and tty:
            found["serial port" if port[1] == "0" else f"serial port {port[1]}"] = tty
        elif path == "console/tty" and tty:
            found["console"] = tty
    return found


def stub_domain(store: Mapping[str, str]) -> int:
    """Return the number of the stub domain with the guest's device model, 0 when that runs in dom0.

    libxl__spawn_stub_dm() of tools/libs/light/libxl_dm.c writes it.
    """
    number = store.get("image/device-model-domid", "")
    return int(number) if number.isdigit() else 0


def stub_terminals(store: Mapping[str, str]) -> dict[str, str]:
    """Return the terminals in dom0 that a guest's serial ports lead to through the stub domain with this `store`.

    They are its consoles from the fourth on (STUBDOM_CONSOLE_SERIAL of tools/libs/light/libxl_internal.h).
    """
    found = {}
    for path, tty in store.items():
        console = re.fullmatch(r"device/console/(\d+)/tty", path)
        if console and tty and int(console[1]) >= _STUB_SERIAL:
            number = int(console[1]) - _STUB_SERIAL
            found["serial port" if number == 0 else f"serial port {number}"] = tty
    return found


def frontends(store: Mapping[str, str]) -> dict[str, str]:
    """Return the state of each PV device that the guest has a driver for, consoles apart."""
    found = {}
    for path, state in store.items():
        match = _FRONTEND.match(path)
        if match and not match["device"].startswith("console"):
            found[match["device"]] = state
    return found


def guest_lines(console: str, domid: int) -> str:
    """Return what the guest `domid`, hvmloader and SeaBIOS wrote on Xen's console (drivers/char/console.c there)."""
    mark = _GUEST_LINE.format(domid=domid)
    lines = (line.partition(mark) for line in console.replace("\r", "").split("\n"))
    return "\n".join(text.removeprefix(" ") for _, found, text in lines if found)


def xen_lines(console: str, domid: int) -> str:
    """Return what Xen itself wrote about the domain."""
    about = re.compile(rf"\(XEN\).*\b[dD](?:omain )?{domid}(?:v\d+)?\b")
    return "\n".join(line.strip() for line in console.replace("\r", "").split("\n") if about.search(line))


def read_rollup(rollup: str) -> Memory | None:
    """Return what /proc/PID/smaps_rollup says (proc(5)), None when it says nothing."""
    sizes = {name: int(size) * _KIB for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", rollup, re.MULTILINE)}
    if "Rss" not in sizes:
        return None
    return Memory(sizes["Rss"], sizes.get("Pss", 0), sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0))
