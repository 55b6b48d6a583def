"""A network interface of xl.cfg."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Of parse_nic_config (tools/xl/xl_parse.c); the many colo_ parameters are known by their prefix.
_PARAMETERS = re.compile(
    "type|mac|bridge|netdev|gatewaydev|ip|script|backend|vifname|model|rate|forwarddev|accel|devid|mtu|vlan|colo_.*"
)


@dataclass(frozen=True)
class Vif:
    """One network interface as xl understands it, with libxl's defaults for what it does not say.

    `type` is ioemu (also emulated for the guest) or vif; `model` the emulated card; `mac` empty when libxl makes one
    up; `problems` what xl says it does not understand, and goes on without.
    """

    type: str = ""
    model: str = "rtl8139"
    mac: str = ""
    bridge: str = "xenbr0"
    script: str = "vif-bridge"
    ip: str = ""
    ifname: str = ""
    backend: str = ""
    problems: tuple[str, ...] = ()
    spec: str = ""

    @property
    def emulated(self) -> bool:
        """Whether the device model has to show the card to the guest."""
        return self.type == "ioemu"


def _is_mac(text: str) -> bool:
    """Whether xl takes `text` as a hardware address: six hexadecimal numbers with any character between them."""
    return re.match(r"\s*([0-9a-fA-F]{1,2}.){5}[0-9a-fA-F]{1,2}", text) is not None


def parse_vif(spec: str, *, hvm: bool) -> Vif:
    """Return what the network interface `spec` says, of a guest that is HVM or not.

    It never fails, as xl does not: `parse_nic_config` (tools/xl/xl_parse.c) complains and its caller goes on. Defaults
    are those of `libxl__device_nic_setdefault` (tools/libs/light/libxl_nic.c).
    """
    values: dict[str, str] = {}
    problems = []
    for token in (part.lstrip(" ") for part in spec.split(",") if part):
        name, equals, value = token.partition("=")
        if token in ("trusted", "untrusted"):
            continue
        if not equals or not _PARAMETERS.fullmatch(name):
            problems.append(f"xl does not know '{token}' in a vif and leaves it out")
        elif name == "type" and value not in ("vif", "ioemu"):
            problems.append(f"the type '{value}' of a vif is neither vif nor ioemu")
        elif name == "mac" and not _is_mac(value):
            problems.append(f"'{value}' is no hardware address (00:16:3e:xx:xx:xx)")
        else:
            values[name] = value
    return Vif(
        type=values.get("type", "ioemu" if hvm else "vif"),
        model=values.get("model", "rtl8139"),
        mac=values.get("mac", ""),
        bridge=values.get("bridge", "xenbr0"),
        script=values.get("script", "vif-bridge"),
        ip=values.get("ip", ""),
        ifname=values.get("vifname", ""),
        backend=values.get("backend", ""),
        problems=tuple(problems),
        spec=spec,
    )
