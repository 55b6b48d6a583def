"""Which package archive the machine is configured for: its mirrors, its keys, its name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenqemu.errors import MissingError

_NO_ARCHIVE = "name a tarball, a checkout or a git URL with --qemu instead"


@dataclass(frozen=True)
class Mirror:
    """One configured place of an archive: its URI, the suite that the machine is configured for, and its keys.

    `signed_by` is a `Signed-By` of a deb822 source, empty for the keys that the machine's apt trusts.
    """

    uri: str
    suite: str
    signed_by: str

    def source(self, suite: str, kind: str = "deb-src") -> str:
        """Return the content of a `.sources` file for the packages of `suite` of a `kind` (a type of sources.list(5)).

        Nothing but place and key is taken over: a configured `Trusted` or `Allow-Insecure` would let apt take what is
        not signed (sources.list(5)).
        """
        lines = [f"Types: {kind}", f"URIs: {self.uri}", f"Suites: {suite}", "Components: main"]
        return "\n".join(lines + ([f"Signed-By: {self.signed_by}"] if self.signed_by else [])) + "\n"


@dataclass(frozen=True)
class Archive:
    """The archive that carries the machine's distribution.

    `codename` is the machine's release, `suites` are all suites to ask, the machine's own first. `mirrors` are the
    places that may have it; a third party can use the same suites and components there, and so only those count
    whose signed Release file names one of `origins` (in lower case) as its `Origin`.
    """

    codename: str
    suites: tuple[str, ...]
    origins: frozenset[str]
    mirrors: tuple[Mirror, ...]


@dataclass(frozen=True)
class _Configured:
    """One configured source, whichever the syntax: what remains when the type is taken away."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str


def machine_archive(etc: Path = Path("/etc/apt"), os_release: Path = Path("/etc/os-release")) -> Archive:
    """Return the archive that the apt configuration in `etc` has for the release that `os_release` names.

    Left out are sources of other suites, and those without the component `main`. Raises `MissingError` when the
    machine is of no known distribution or has no archive of it configured.
    """
    release = _os_release(os_release)
    families = tomllib.loads(Path(__file__).with_name("suites.toml").read_text())
    names = (release.get("ID", ""), *release.get("ID_LIKE", "").split())
    family: dict[str, Any] | None = next((families[name] for name in names if name in families), None)
    codename = release.get("VERSION_CODENAME", "")
    if family is None or not codename:
        raise MissingError(
            f"this machine ({release.get('PRETTY_NAME', 'unknown')}) has no package archive that serves sources",
            _NO_ARCHIVE,
        )
    wanted = {codename, *family["same"]}
    keyring = family["keyring"] if Path(family["keyring"]).is_file() else ""
    mirrors = [
        Mirror(uri, suite, source.signed_by or keyring)
        for source in _configured(etc)
        if "main" in source.components
        for suite in [next((suite for suite in source.suites if suite in wanted), None)]
        if suite is not None
        for uri in source.uris
    ]
    if not mirrors:
        raise MissingError(f"no archive of {codename} is configured in {etc}", _NO_ARCHIVE)
    suites = dict.fromkeys((codename, *(suite.format(codename=codename) for suite in family["ask"])))
    origins = frozenset(name.lower() for name in (names[0], *family["origins"]))
    return Archive(codename, tuple(suites), origins, tuple(dict.fromkeys(mirrors)))


def _os_release(path: Path) -> dict[str, str]:
    """Return the assignments of an os-release file (os-release(5)), empty when there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def _configured(etc: Path) -> Iterator[_Configured]:
    parts = etc / "sources.list.d"
    for path in (etc / "sources.list", *sorted(parts.glob("*.list"))):
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                source = one_line(line)
                if source is not None:
                    yield source
    for path in sorted(parts.glob("*.sources")):
        yield from _deb822(path.read_text(encoding="utf-8", errors="replace"))


def one_line(line: str) -> _Configured | None:
    """Parse one line of a `.list` file (sources.list(5)); None for what names no archive with components."""
    match = re.fullmatch(
        r"\s*deb(?:-src)?\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>[^\s/]+)\s+(?P<components>.+)",
        line.partition("#")[0].rstrip(),
    )
    if match is None:
        return None
    options = dict(option.partition("=")[::2] for option in (match["options"] or "").split())
    signed_by = options.get("signed-by", "").replace(",", " ")
    return _Configured((match["uri"],), (match["suite"],), tuple(match["components"].split()), signed_by)


def _deb822(text: str) -> Iterator[_Configured]:
    from debian.deb822 import Deb822

    for stanza in Deb822.iter_paragraphs(text, use_apt_pkg=False):
        if stanza.get("Enabled", "yes").strip().lower() in ("no", "false", "0", "off", "disable", "without"):
            continue
        uris, suites, components = (tuple(stanza.get(name, "").split()) for name in ("URIs", "Suites", "Components"))
        # A key may be embedded; its lines are kept as they are, each with its leading space.
        yield _Configured(uris, suites, components, stanza.get("Signed-By", "").rstrip())
