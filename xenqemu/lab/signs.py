"""Whether a guest has booted, judged by what it was seen and heard to do. Nothing here talks to a host."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from xenqemu.explain import causes
from xenqemu.text import plain

# enum xenbus_state of Xen's public/io/xenbus.h
_CONNECTED = "4"


@dataclass(frozen=True)
class Heard:
    """What is known of a guest `seconds` after it was started.

    `text` maps each place where it can write (`serial port`, `console`) to what it wrote, `xen` is what it and its
    firmware wrote on Xen's console, `frontends` maps its PV devices (`vif/0`) to their xenbus state.
    `shutdown` is its reason for having shut down (`poweroff`, `crash`, ...; xen/include/public/sched.h), or empty.
    """

    seconds: float
    text: Mapping[str, str] = field(default_factory=dict)
    xen: str = ""
    frontends: Mapping[str, str] = field(default_factory=dict)
    shutdown: str = ""


@dataclass(frozen=True)
class Verdict:
    """`sign` says by what the guest counts as booted, `reason` why it has not; both empty: not to be told yet."""

    sign: str = ""
    reason: str = ""

    @property
    def decided(self) -> bool:
        """Whether there is nothing to wait for."""
        return bool(self.sign or self.reason)


@cache
def _rules() -> dict[str, Any]:
    rules: dict[str, Any] = tomllib.loads((Path(__file__).parent / "signs.toml").read_text(encoding="utf-8"))
    return rules


@cache
def _firmware_line() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{line})" for line in _rules()["firmware"]["lines"]))


def spoken(text: str) -> str:
    """Return what is left of `text` of a serial port without the lines that are the firmware's."""
    lines = plain(text).split("\n")
    return "\n".join(line for line in lines if line.strip() and not _firmware_line().fullmatch(line.strip()))


class Judge:
    """Follows one guest: `look` at what was heard, again and again, until the verdict is decided.

    With `expect` that pattern in what the guest writes is the only sign; without, any of signs.toml is, and one that
    is not conclusive has to stand for some seconds, because a guest that fails says so shortly after.
    """

    def __init__(self, expect: str = "") -> None:
        self._expect = re.compile(expect) if expect else None
        self._since: dict[str, float] = {}
        self._last = False

    def look(self, heard: Heard, *, last: bool = False) -> Verdict:
        """Return the verdict on what was heard so far; the `last` time a sign need not stand any longer."""
        self._last = last
        if self._expect is not None:
            for port, text in heard.text.items():
                match = self._expect.search(plain(text))
                if match:
                    said = (match[0].strip().split("\n") or [""])[-1]
                    return Verdict(f"'{said}' on the {port}")
        reason = _failure(heard)
        if reason:
            return Verdict(reason=reason)
        if self._expect is None:
            sign = self._sign(heard)
            if sign:
                return Verdict(sign)
        if heard.shutdown:
            return self._ended(heard)
        return Verdict()

    def _sign(self, heard: Heard) -> str:
        settle = _rules()["settle"]
        for rule in _rules()["text"]:
            for port, text in heard.text.items():
                if not re.search(rule["pattern"], spoken(text)):
                    continue
                sign = str(rule["sign"]).format(port=port)
                quiet = self._stands(f"{sign} {len(text)}", settle["text"], heard)
                if quiet or not rule["settle"] or self._stands(sign, settle["talking"], heard):
                    return sign
        connected = sorted(name for name, state in heard.frontends.items() if state == _CONNECTED)
        if connected and self._stands("frontends", settle["frontends"], heard):
            return f"PV drivers connected ({', '.join(connected)})"
        handover = re.search(_rules()["handover"]["pattern"], plain(heard.xen))
        wait = settle["handover" if heard.text else "handover_without_serial"]
        if handover and self._stands(handover["device"], wait, heard):
            return str(_rules()["handover"]["sign"]).format(device=handover["device"])
        return ""

    def _stands(self, sign: str, seconds: float, heard: Heard) -> bool:
        """Whether `sign` was first seen `seconds` ago; a guest that has switched itself off will say no more."""
        since = self._since.setdefault(sign, heard.seconds)
        return self._last or heard.seconds - since >= seconds or heard.shutdown == "poweroff"

    def _ended(self, heard: Heard) -> Verdict:
        if heard.shutdown != "poweroff":
            return Verdict(reason=f"the domain shut down: {heard.shutdown}")
        if self._expect is not None:
            return Verdict(reason=f"the guest switched itself off without saying /{self._expect.pattern}/")
        return Verdict("clean shutdown by the guest")


def _failure(heard: Heard) -> str:
    texts = {"guest": "\n".join(map(plain, heard.text.values())), "firmware": plain(heard.xen)}
    for rule in causes():
        for place in rule.on if rule.fatal else ():
            match = rule.pattern.search(texts.get(place, ""))
            if match:
                return rule.reason.format(**match.groupdict(), boot=_boot_attempts(texts["firmware"]))
    return ""


def _boot_attempts(xen: str) -> str:
    rule = _rules()["boot"]
    found = [match.groupdict() for match in re.finditer(rule["pattern"], xen)]
    tried = [str(rule["text"]).format(**one) for one in found if one["device"] not in rule["not_worth_telling"]]
    return "; ".join(dict.fromkeys(tried)) or str(rule["none"])
