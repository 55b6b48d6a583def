"""Whether a tree is a QEMU, and which."""

from __future__ import annotations

from pathlib import Path

from packaging.version import InvalidVersion, Version

from xenqemu.errors import MissingError, SourceError
from xenqemu.source.normalise import KEYCODEMAPDB

_FILES = ("VERSION", "configure", "meson.build", "Kconfig.host")
# Xen's support moved between them; a QEMU old enough to have neither cannot be a device model at all.
_XEN = ("hw/xen/", "include/hw/xen/")


def parse_version(text: str, what: str) -> Version:
    """Return the version that the `text` of QEMU's VERSION file says; raises `SourceError`, naming `what`.

    `10.2.2` is a release, `10.1.90` (third part from 90 up) a release candidate, `10.2.50` development; the forms of
    tags (`v10.2.0-rc1`) are understood too.
    """
    try:
        return Version(text.strip())
    except InvalidVersion as error:
        shown = text.strip().splitlines()[0][:40] if text.strip() else ""
        raise SourceError(
            f"{what}: the VERSION file says '{shown}', which is no version", "is it the top of a QEMU source tree?"
        ) from error


class Identification:
    """Watches the files of a tree called `what` go by and tells at the end which QEMU it is."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: set[str] = set()
        self._version = ""

    def see(self, path: str, content: bytes) -> None:
        """Take note of one file."""
        if path in _FILES:
            self._seen.add(path)
            if path == "VERSION":
                self._version = content[:200].decode("utf-8", "replace")
        else:
            for prefix in (*_XEN, *(f"{path}/" for path in KEYCODEMAPDB)):
                if path.startswith(prefix):
                    self._seen.add(prefix)

    def version(self) -> Version:
        """Return the version of the tree.

        Raises `SourceError` when it is not QEMU, naming what is missing, and `MissingError` when it is a QEMU
        without keycodemapdb.
        """
        missing = [name for name in _FILES if name not in self._seen]
        if not self._seen.intersection(_XEN):
            missing.append("hw/xen")
        if missing:
            raise _no_qemu(self._what, missing)
        version = parse_version(self._version, self._what)
        if not any(f"{path}/" in self._seen for path in KEYCODEMAPDB):
            raise MissingError(
                f"{self._what} (QEMU {version}) lacks keycodemapdb, which QEMU cannot be built without",
                "automatic archives of git hosting sites lack it: take a release tarball, a checkout or a git URL",
            )
        return version


def require_qemu(top: Path) -> None:
    """Raise `SourceError` when the folder `top` is evidently no QEMU, before anything of it is read."""
    missing = [name for name in _FILES if not (top / name).is_file()]
    if missing:
        raise _no_qemu(str(top), missing)


def _no_qemu(what: str, missing: list[str]) -> SourceError:
    return SourceError(
        f"{what} is not a QEMU source tree: it has no {', '.join(missing)}",
        "name the top folder of a QEMU checkout, or a release tarball",
    )
