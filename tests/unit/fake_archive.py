"""A small signed package archive on disk, as apt wants one, and an /etc/apt that names it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
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
    listed_binaries: dict[str, list[str]] = field(default_factory=dict)
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

    def add_binary(
        self, suite: str, package: str, version: str, files: Mapping[str, bytes | str], depends: str = ""
    ) -> Path:
        """List a binary package with `files` (a str is a link's target) in `suite`; return its place in the pool."""
        pool = self.root / "pool" / package
        tree = pool / "tree"
        for name, content in files.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)
                path.chmod(0o755)
        control = f"Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: a <a@invalid>\n"
        control += f"Depends: {depends}\n" if depends else ""
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(f"{control}Description: a package\n")
        deb = pool / f"{package}_{version.partition(':')[2] or version}_amd64.deb"
        build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build"]
        subprocess.run([*build, tree, deb], check=True, capture_output=True)
        shutil.rmtree(tree)
        content = deb.read_bytes()
        self.listed_binaries.setdefault(suite, []).append(
            f"{control}Filename: {deb.relative_to(self.root)}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\nDescription: a package\n\n"
        )
        return deb

    def publish(self) -> None:
        """Write and sign the indexes of every suite."""
        for suite in {**self.listed, **self.listed_binaries}:
            top = self.root / "dists" / suite
            lines = []
            for name, listed in (
                ("main/source/Sources", self.listed),
                ("main/binary-amd64/Packages", self.listed_binaries),
            ):
                if suite in listed:
                    index = "".join(listed[suite]).encode()
                    (top / name).parent.mkdir(parents=True, exist_ok=True)
                    (top / name).write_bytes(index)
                    lines.append(f" {hashlib.sha256(index).hexdigest()} {len(index)} {name}\n")
            release = top / "Release"
            date = format_datetime(datetime.now(UTC), usegmt=True)
            release.write_text(
                f"Origin: {self.origin}\nSuite: {suite}\nCodename: {suite}\nDate: {date}\n"
                "Architectures: amd64\nComponents: main\nSHA256:\n" + "".join(lines)
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
