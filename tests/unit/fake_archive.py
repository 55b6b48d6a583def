"""A small signed package archive on disk, as apt wants one, and an /etc/apt that names it."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from tests.unit.keys import Signer


@dataclass
class FakeArchive:
    """An archive at `root`, signed by `signer`, with its public key at `keyring`."""

    root: Path
    signer: Signer
    keyring: Path
    listed: dict[str, list[str]] = field(default_factory=dict)
    origin: str = "Debian"

    @property
    def uri(self) -> str:
        """The archive's URI for sources."""
        return f"file://{self.root}"

    def add(self, suite: str, package: str, version: str, tarball: Path | None, name: str) -> Path:
        """List a source package with one upstream tarball called `name` in `suite`; return its place in the pool.

        Without `tarball` the index lists a file that is not served.
        """
        pool = self.root / "pool" / package
        pool.mkdir(parents=True, exist_ok=True)
        content = tarball.read_bytes() if tarball else b"gone"
        if tarball:
            shutil.copy(tarball, pool / name)
        digest = hashlib.sha256(content).hexdigest()
        dsc = f"{package}_{version.partition(':')[2] or version}.dsc"
        self.listed.setdefault(suite, []).append(
            f"Package: {package}\nBinary: {package}\nVersion: {version}\nFormat: 3.0 (quilt)\nArchitecture: any\n"
            f"Maintainer: a <a@invalid>\nDirectory: pool/{package}\nChecksums-Sha256:\n"
            f" {'0' * 64} 1 {dsc}\n {'1' * 64} 1 {name}.asc\n {digest} {len(content)} {name}\n\n"
        )
        return pool / name

    def publish(self) -> None:
        """Write and sign the indexes of every suite."""
        for suite, stanzas in self.listed.items():
            top = self.root / "dists" / suite
            (top / "main/source").mkdir(parents=True, exist_ok=True)
            sources = "".join(stanzas).encode()
            (top / "main/source/Sources").write_bytes(sources)
            release = top / "Release"
            date = format_datetime(datetime.now(UTC), usegmt=True)
            release.write_text(
                f"Origin: {self.origin}\nSuite: {suite}\nCodename: {suite}\nDate: {date}\n"
                "Architectures: amd64\nComponents: main\nSHA256:\n"
                f" {hashlib.sha256(sources).hexdigest()} {len(sources)} main/source/Sources\n"
            )
            self.signer.clear_sign(release, top / "InRelease")

    def etc(self, path: Path) -> Path:
        """Write an apt configuration for it, with a third party's archive beside it, and an os-release."""
        (path / "sources.list.d").mkdir(parents=True)
        (path / "sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: {self.uri}\nSuites: bookworm bookworm-updates\nComponents: main contrib\n"
            f"Signed-By: {self.keyring}\n\n"
            "Types: deb\nEnabled: no\nURIs: http://off.invalid/debian\nSuites: bookworm\nComponents: main\n\n"
            "Types: deb\nURIs: http://third.invalid/debian\nSuites: bookworm\nComponents: stable\n"
        )
        (path / "os-release").write_text('ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian 12"\n')
        return path
