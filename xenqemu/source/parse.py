"""What the user means by the text given as a QEMU source."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from xenqemu.errors import SourceError
from xenqemu.source.model import QemuSource, SourceKind
from xenqemu.source.unpack import is_tarball
from xenqemu.source.urls import without_credentials

_TARBALL = re.compile(r"\.(tar|tar\.(xz|gz|bz2|zst)|tgz|txz|tbz2?)$", re.IGNORECASE)
_SCHEME = re.compile(r"^(?:git\+)?([a-z][a-z0-9+]*)://", re.IGNORECASE)
_GIT_ONLY = ("git", "ssh")
_WEB = ("http", "https", "file")
# user@host:path, and host:path where the part before the colon is no path: git's own rule (url_is_local_not_ssh).
_SCP = re.compile(r"^(?:[\w.+-]+@)?[\w.-]{2,}:(?!//)[^@]+?(?:@(?P<ref>.+))?$")

Make = Callable[..., QemuSource]


def parse_source(
    text: str,
    *,
    dirty: bool = False,
    sha256: str | None = None,
    signature: Path | None = None,
    keyring: Path | None = None,
    refresh: bool = False,
) -> QemuSource:
    """Return the source that `text` names; the other arguments go into it as they are.

    Understood are `distro`, `distro:SERIES`, the path of a checkout (`PATH@REF`), of a bare repository, of an
    extracted directory or a tarball, the URL of a tarball, and a git URL (`URL@REF`). What exists as a path is
    that path, also with an `@` in its name. Raises `SourceError` when the text is none of them.
    """

    def make(kind: SourceKind, location: str, ref: str | None = None) -> QemuSource:
        return QemuSource(kind, location, ref, dirty, sha256, signature, keyring, refresh)

    shown = without_credentials(text)
    try:
        source = _distro(text, make) or _path(text, make) or _url(text, make)
    except OSError as error:  # a file or a folder that is there but cannot be looked into
        raise SourceError(
            f"{error.filename or shown} cannot be read: {error.strerror}", "check the path and its permissions"
        ) from error
    if source is None:
        raise SourceError(
            f"'{shown}' is no QEMU source: no such file or folder, no URL, not 'distro' or 'distro:SERIES'",
            "give a checkout (PATH@REF), a git URL (URL@REF), a tarball, an extracted directory or 'distro'",
        )
    if source.kind is not SourceKind.TARBALL and (sha256 or signature or keyring):
        raise SourceError(
            f"a checksum or a signature is for tarballs, and '{shown}' is not one (it is a {source.kind.value})",
            "leave out --sha256, --signature and --keyring",
        )
    if dirty and source.kind is not SourceKind.CHECKOUT:
        raise SourceError(
            f"--dirty is for git checkouts, and '{shown}' is not one (it is a {source.kind.value})", "leave out --dirty"
        )
    return source


def _distro(text: str, make: Make) -> QemuSource | None:
    match = re.fullmatch(r"distro(?::(.*))?", text)
    if match is None or _existing(text) is not None:
        return None
    series = match[1] or ""
    if series and not re.fullmatch(r"\d+(\.\d+)*", series):
        raise SourceError(f"'{series}' is not a QEMU series", "for example distro:10.2")
    return make(SourceKind.DISTRO, series)


def _path(text: str, make: Make) -> QemuSource | None:
    if not text or _SCHEME.match(text):
        return None
    for name, ref in _splits(text):
        path = _existing(name)
        if path is None:
            continue
        if path.is_file():
            if ref is not None or not is_tarball(path):
                raise SourceError(f"{path} is a file but not a tar archive", "give a tarball, or a folder")
            return make(SourceKind.TARBALL, str(path))
        if ref is not None or is_repository(path):
            if ref == "":
                raise SourceError(f"'{text}' names no ref after the @", "for example PATH@v10.2.2")
            return make(SourceKind.CHECKOUT, str(path), ref)
        return make(SourceKind.DIRECTORY, str(path))
    return None


def _existing(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (RuntimeError, OSError, ValueError):  # no such user's home; too long; a zero byte
        return None


def _splits(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the ways to read `text` as PATH or PATH@REF, the one with the longest path first."""
    yield text, None
    at = len(text)
    while (at := text.rfind("@", 0, at)) > 0:
        yield text[:at], text[at + 1 :]


def is_repository(path: Path) -> bool:
    """Return whether the folder is the top of a checkout (a worktree's `.git` is a file) or a bare repository."""
    bare = (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()
    return bare or (path / ".git").exists()


def _url(text: str, make: Make) -> QemuSource | None:
    match = _SCHEME.match(text)
    if match is None:
        scp = _SCP.match(text)
        if scp is None or text.startswith(("/", ".", "~")):
            return None
        ref = scp["ref"]
        return make(SourceKind.GIT, text if ref is None else text[: -len(ref) - 1], ref)
    scheme = match[1].lower()
    if scheme not in _GIT_ONLY + _WEB:
        raise SourceError(f"'{scheme}' URLs are not understood", "use https, http, ssh, git or file")
    explicit = text.lower().startswith("git+")
    if not explicit and scheme in _WEB and _TARBALL.search(urllib.parse.urlsplit(text).path):
        return make(SourceKind.TARBALL, text)
    url = text[4:] if explicit else text
    # An @ in the authority (user@host) is not the one before a ref.
    authority_end = url.find("/", url.index("://") + 3)
    end = url.find(".git@", authority_end) + 4 if ".git@" in url[authority_end:] else url.rfind("@")
    at = end if authority_end >= 0 and end > authority_end else -1
    if at < 0:
        return make(SourceKind.GIT, url)
    if not url[at + 1 :]:
        raise SourceError(f"'{without_credentials(text)}' names no ref after the @", "for example URL@v10.2.2")
    return make(SourceKind.GIT, url[:at], url[at + 1 :])
