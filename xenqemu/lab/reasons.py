"""Why a guest was not created or did not boot, in one line. Nothing here talks to a host."""

from __future__ import annotations

import re
from collections.abc import Mapping

from xenqemu.explain import Explanation, explain, log_of
from xenqemu.explain.matching import last_words as last_words_of
from xenqemu.explain.table import is_noise, name_of, reasons
from xenqemu.lab.signs import Heard, spoken
from xenqemu.text import plain

_LAST_LINES = 20


def last_lines(log: str, number: int = _LAST_LINES) -> tuple[str, ...]:
    """Return the last `number` lines of a log that are not empty."""
    return tuple(line for line in plain(log).split("\n") if line.strip())[-number:]


def evidence(xl: str, log: str) -> tuple[str, ...]:
    """Return what to show of an attempt that made no guest: the end of the device model's `log`, else xl's errors."""
    errors = [line for line in plain(xl).split("\n") if line.startswith("libxl: error: ")]
    return last_lines(log) or tuple(errors[-_LAST_LINES:])


def last_words(log: str) -> str:
    """Return the last line of a device model's log that can be why it ended, empty when there is none."""
    return last_words_of(log_of(log, "device-model"))


def explained(reason: str, texts: Mapping[str, str]) -> Explanation:
    """Return what the table of causes makes of a guest that failed for `reason`.

    `texts` are its logs by what the lab calls them: `xl`, `device-model`, `firmware`, `serial-port`, ...
    """
    logs = [log_of(text, name_of(f"guest.{name}.log")[0], name) for name, text in texts.items()]
    # Of no kind: it can quote anyone, as a step does that quotes xl.
    return explain([*logs, log_of(reason, "")])


def why_not_created(xl: str, log: str, seconds: float | None = None) -> str:
    """Return why `xl -vvv create`, which said `xl`, made no guest; `log` is what the device model said.

    `seconds` is how long it was waited for, if it did not end. libxl tells of one failure several times, from the
    inside to the outside (tools/libs/light), so that what it says first is the cause.
    """
    if seconds is not None:
        said = last_words(log)
        return f"xl create did not end within {seconds:.0f} s{f': {said}' if said else ''}"
    words = {"log": last_words(log)}
    said_in_earnest = "\n".join(line for line in xl.split("\n") if not is_noise(line, "libxl"))
    for rule in reasons():
        match = re.search(rule["pattern"], said_in_earnest)
        if match and (words["log"] or not rule.get("and_log")):
            return str(rule["reason"]).format(**(match.groupdict() | words))
    return "xl create failed and said nothing"


def device_model_gone(log: str) -> str:
    """Return what to say of a device model that ended while its guest was running."""
    said = last_words(log)
    return f"the device model ended while the guest was running{f': {said}' if said else ', and said nothing'}"


def why_silent(heard: Heard, seconds: float, *, expect: str = "") -> str:
    """Return what to say of a guest that gave no sign within `seconds`."""
    written = {port: spoken(text).strip() for port, text in heard.text.items()}
    if expect:
        last = next((text.split("\n")[-1] for text in written.values() if text), "")
        heard_last = f"; it last said: {last}" if last else "; it said nothing"
        return f"/{expect}/ was not heard within {seconds:.0f} s{heard_last}"
    reached = last_lines(heard.xen, 1)
    where = f"the last thing its firmware said: {reached[0].strip()}" if reached else "not even from its firmware"
    return f"nothing was heard of the guest within {seconds:.0f} s, {where}"
