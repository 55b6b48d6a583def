"""A disk specification of xl.cfg: what it says, which backend serves it, which number its vdev has."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from xenqemu.errors import VmConfigError

_HINT = "xl-disk-configuration(5) describes the form: target=PATH, as the last parameter, is the safest"
_SCRIPT_DIR = "/etc/xen/scripts"
_FORMATS = ("raw", "qcow", "qcow2", "vhd", "empty", "qed")
_BACKENDS = ("phy", "tap", "qdisk", "standalone")
_ACCESS = {"r": False, "ro": False, "rw": True, "w": True, "": True}
# Parameters that mean nothing to a device model or to this program: NAME=VALUE, given once each.
_TEXTS = ("colo-host", "colo-export", "active-disk", "hidden-disk")
_FLAGS = (
    *("direct-io-safe", "discard", "no-discard", "colo", "no-colo", "trusted", "untrusted"),
    *("grant_usage=1", "grant_usage=0"),
)


@dataclass(frozen=True)
class Disk:
    """One disk as libxlutil understands it.

    `target` is the path (or what the script takes), empty when there is none; `format` one of raw, qcow, qcow2, vhd,
    qed, empty; `backendtype` phy, tap, qdisk, standalone, or empty when libxl shall choose; `script` the hotplug
    script; `backend` the driver domain; `specification` xen, virtio or empty; `spec` the text that all of it came from.
    """

    target: str = ""
    format: str = ""
    vdev: str = ""
    writable: bool = True
    cdrom: bool = False
    backendtype: str = ""
    script: str = ""
    backend: str = ""
    specification: str = ""
    spec: str = ""


# In the order of libxlu_disk_l.l: of the rules that match the longest text, the first wins. A rule with a second group
# of text behind what it consumes (flex's trailing context) counts as long as both.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (action, re.compile(pattern))
    for action, pattern in (
        ("space", r"(?P<eat>[ \t\n]+)([^ \t\n].*)?"),
        ("format", r"format=[^,]*,?"),
        ("cdrom", r"(devtype=)?cdrom,?"),
        ("disk", r"devtype=disk,?"),
        ("devtype", r"devtype=[^,]*,?"),
        ("access", r"access=[^,]*,?"),
        ("text", rf"({'|'.join(('backend', 'vdev', 'script', *_TEXTS))})=[^,]*,?"),
        ("choice", r"(backendtype|specification)=[^,]*,?"),
        ("flag", rf"({'|'.join(_FLAGS)}),?"),
        ("colo-port", r"colo-port=[^,]*,?"),
        ("target", r"target=.*"),
        ("unknown", r"[a-z][-a-z0-9]*=[^,],?"),
        ("format-prefix", r"(?P<eat>(raw|qcow2?|vhd):).*"),
        ("script-prefix", r"(?P<eat>(iscsi|e?nbd|drbd):).*"),
        ("prefix", r"(?P<eat>(tapdisk|tap2?|aio|ioemu|file|phy):).*"),
        ("unknown-prefix", r"(?P<eat>[a-z][a-z0-9]*:)([^a-z0-9].*)?"),
        ("positional", r"[^=,]*,|[^=,]+"),
        # The scanner goes on to say what is wrong with the text behind a stray "=", and finds none to say it of.
        ("nothing", r"=$"),
    )
)
_CHOICES = {"backendtype": _BACKENDS, "specification": ("xen", "virtio")}


class _Parser:
    """The state of libxlutil's DiskParseContext; strings that were not given are None, as there."""

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._texts: dict[str, str] = {}
        self._cdrom = False
        self._writable = True
        self._prefixed = False
        self._access_given = False

    def parse(self) -> Disk:
        position = 0
        while position < len(self._spec):
            action, match = self._longest(position)
            position = match.end("eat") if "eat" in match.re.groupindex else match.end()
            self._act(action, self._spec[match.start() : position])
        return self._result()

    def _longest(self, position: int) -> tuple[str, re.Match[str]]:
        found: tuple[str, re.Match[str]] | None = None
        for action, pattern in _RULES:
            match = pattern.match(self._spec, position)
            if match and (found is None or match.end() > found[1].end()):
                found = action, match
        if found is None:
            raise self._error(f"it cannot be read from '{self._spec[position:]}' on")
        return found

    def _act(self, action: str, text: str) -> None:
        word = text.removesuffix(",")
        name, _, value = word.partition("=")
        if action in ("cdrom", "disk"):
            self._cdrom = action == "cdrom"
        elif action == "format":
            self._set_format(value)
        elif action == "access":
            self._set_access(value)
        elif action in ("text", "target"):
            self._save(name, value)
        elif action == "choice":
            if value not in _CHOICES[name]:
                raise self._error(f"{name} '{value}' is none of {', '.join(_CHOICES[name])}")
            self._choose(name, value)
        elif action in ("format-prefix", "script-prefix", "prefix"):
            self._prefixed = True
            if action == "format-prefix":
                self._set_format(text.removesuffix(":"))
            elif action == "script-prefix":
                self._save("script", f"block-{text.removesuffix(':')}")
        elif action == "positional":
            self._positional(word)
        elif action == "colo-port":
            if not re.match(r"\s*[+-]?0*[1-9]", value):
                raise self._error(f"colo-port '{value}' is no port")
        elif action == "devtype":
            raise self._error(f"devtype '{value}' is neither cdrom nor disk")
        elif action == "unknown":
            raise self._error(f"there is no parameter '{name}'")
        elif action == "unknown-prefix":
            raise self._error(f"there is no prefix '{text}'")

    def _positional(self, word: str) -> None:
        if "target" not in self._texts:
            self._save("target", word)
        elif not self._prefixed and "format" not in self._texts:
            if not self._texts["target"] and self._vdev_and_type(word):
                self._texts["format"] = "empty"
            else:
                self._set_format(word)
        elif "vdev" not in self._texts:
            if not self._vdev_and_type(word):
                self._save("vdev", word)
        elif not self._access_given:
            self._access_given = True
            self._set_access(word)
        else:
            raise self._error(f"'{word}' is one parameter too many")

    def _vdev_and_type(self, word: str) -> bool:
        """Take `word` as VDEV:TYPE; returns False, doing nothing, when it has no colon."""
        vdev, colon, kind = word.rpartition(":")
        if not colon:
            return False
        self._save("vdev", vdev)
        if kind not in ("cdrom", "disk"):
            raise self._error(f"'{kind}' behind the colon is neither cdrom nor disk")
        self._cdrom = kind == "cdrom"
        return True

    def _set_format(self, value: str) -> None:
        if value and value not in _FORMATS:
            raise self._error(f"format '{value}' is none of {', '.join(_FORMATS)}")
        self._choose("format", value or "raw")

    def _set_access(self, value: str) -> None:
        if value not in _ACCESS:
            raise self._error(f"access '{value}' is none of r, ro, w, rw")
        self._writable = _ACCESS[value]

    def _choose(self, name: str, value: str) -> None:
        if self._texts.setdefault(name, value) != value:
            raise self._error(f"{name} is given twice, as '{self._texts[name]}' and as '{value}'")

    def _save(self, name: str, value: str) -> None:
        if self._texts.get(name):
            raise self._error(f"{name} is given twice, as '{self._texts[name]}' and as '{value}'")
        self._texts[name] = value

    def _result(self) -> Disk:
        target = self._texts.get("target", "")
        form = self._texts.get("format", "raw")
        if "vdev" not in self._texts:
            raise self._error("it has no vdev, the name of the disk in the guest")
        if "target" not in self._texts and not self._cdrom:
            raise self._error("it has no target, and is no CD drive that could be empty")
        return Disk(
            target=target,
            format="empty" if self._cdrom and not target else form,
            vdev=self._texts["vdev"],
            writable=self._writable and not self._cdrom,
            cdrom=self._cdrom,
            backendtype=self._texts.get("backendtype", ""),
            script=self._texts.get("script", ""),
            backend=self._texts.get("backend", ""),
            specification=self._texts.get("specification", ""),
            spec=self._spec,
        )

    def _error(self, what: str) -> VmConfigError:
        return VmConfigError(f"the disk '{self._spec}': {what}", _HINT)


def parse_disk(spec: str) -> Disk:
    """Return what the disk specification `spec` says.

    It accepts and refuses what the scanner of Xen 4.20 does (tools/libs/util/libxlu_disk_l.l, `xlu_disk_parse` of
    libxlu_disk.c), the positional and prefixed forms of xm included. Raises `VmConfigError`.
    """
    return _Parser(spec).parse()


def _drive_index(vdev: str, prefix: str, last: int, partitions: int) -> int | None:
    match = re.fullmatch(rf"{prefix}([a-z]*)([1-9][0-9]*)?", vdev)
    if match is None:
        return None
    index = -1
    for letter in match[1]:
        index = (index + 1) * 26 + ord(letter) - ord("a")
        if index > last:
            return None
    return index if index >= 0 and int(match[2] or 0) <= partitions else None


def disk_index(vdev: str) -> int | None:
    """Return the drive's index (xvda, hda and sda are 0) that libxl finds in `vdev`, or None when it is no disk.

    After `libxl__device_disk_dev_number` (tools/libs/light/libxl_device.c). A plain number is a disk to libxl too, but
    one that it never gives to a device model: it is None here.
    """
    if match := re.fullmatch(r"d([0-9]+)p([0-9]+)", vdev):
        disk, partition = int(match[1]), int(match[2])
        return disk if disk < 1 << 20 and partition < 256 else None
    for prefix, last, partitions in (("xvd", (1 << 20) - 1, 255), ("hd", 3, 63), ("sd", 15, 15)):
        if vdev.startswith(prefix):
            return _drive_index(vdev, prefix, last, partitions)
    return None


def is_vdev(vdev: str) -> bool:
    """Whether libxl takes `vdev` as the name (or the number) of a disk."""
    return disk_index(vdev) is not None or bool(re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", vdev))


def script_path(disk: Disk) -> Path | None:
    """Return the hotplug script that `disk` names, in Xen's folder of scripts unless it is absolute."""
    return Path(_SCRIPT_DIR) / disk.script if disk.script else None


def choose_backend(disk: Disk, *, hvm: bool, folder: Path | None) -> tuple[str, str]:
    """Return the backend that libxl will give `disk`, and why there is none (then the first is empty).

    A relative target is looked for in `folder`; None is for a disk of another machine, where only what is in /dev is
    taken for a block device. After `libxl__device_disk_setdefault` (libxl_disk.c) and
    `libxl__device_disk_set_backend`, `disk_try_backend` (libxl_device.c).
    """
    if disk.cdrom and hvm:
        if disk.backendtype not in ("", "qdisk", "phy"):
            return "", f"a CD drive of an HVM guest cannot have backendtype={disk.backendtype}"
        disk = replace(disk, backendtype=disk.backendtype or "qdisk")
    if disk.format == "empty":
        if not disk.cdrom:
            return "", "format=empty is for CD drives"
        if disk.target:
            return "", f"it is empty, and has the image {disk.target}"
    block = False
    if disk.format != "empty" and disk.backendtype in ("", "phy", "standalone") and not disk.backend + disk.script:
        try:
            block = _is_block(disk.target, folder)
        except OSError as error:
            return "", f"{disk.target}: {error.strerror}"
    names = (disk.backendtype,) if disk.backendtype else ("phy", "qdisk", "tap", "standalone")
    for name in names:
        if _can_serve(disk, name, block=block):
            return name, ""
    return "", f"no backend serves it as {disk.format}{f' with backendtype={names[0]}' if len(names) == 1 else ''}"


def _is_block(target: str, folder: Path | None) -> bool:
    return target.startswith("/dev/") if folder is None else stat.S_ISBLK((folder / target).stat().st_mode)


def _can_serve(disk: Disk, name: str, *, block: bool) -> bool:
    if (name == "standalone") != (disk.specification == "virtio"):
        return False
    if name == "phy":
        empty = disk.cdrom and disk.format == "empty"
        return empty or (disk.format == "raw" and (block or bool(disk.backend or disk.script)))
    if name == "tap":
        return disk.format in ("raw", "vhd")
    if name == "qdisk":
        return not disk.script
    return disk.format == "raw" and not disk.script and (block or bool(disk.backend))
