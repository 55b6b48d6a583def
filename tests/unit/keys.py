"""OpenPGP keys for tests: made when they are needed, in a GnuPG home of their own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Signer:
    """A GnuPG home with one key."""

    home: Path

    def gpg(self, *words: str | Path) -> bytes:
        """Run gpg without questions and return what it printed."""
        argv = ["gpg", "--homedir", self.home, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", *words]
        return subprocess.run(argv, capture_output=True, check=True).stdout

    def sign(self, path: Path, signature: Path) -> Path:
        """Write the detached signature of `path`."""
        self.gpg("--armor", "--output", signature, "--detach-sign", path)
        return signature

    def clear_sign(self, path: Path, output: Path) -> None:
        """Write `path` with an inline signature, like an archive's InRelease."""
        self.gpg("--output", output, "--clear-sign", path)

    def export(self, path: Path, *, armor: bool) -> Path:
        """Write the public key."""
        path.write_bytes(self.gpg(*(["--armor"] if armor else []), "--export"))
        return path


@contextmanager
def signer(name: str = "tests") -> Iterator[Signer]:
    """Enter with a new key; a short path, because gpg-agent's socket is in the home."""
    home = Path(tempfile.mkdtemp(prefix="xq-"))
    try:
        made = Signer(home)
        made.gpg("--passphrase", "", "--quick-generate-key", f"{name} <{name}@invalid>", "ed25519", "sign", "never")
        yield made
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)
