"""Checksums and detached signatures of tarballs."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from xenqemu.errors import MissingError, SourceError
from xenqemu.source.unpack import decompressed
from xenqemu.state import StateDir

_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[!-9;-~]+: .*\r?\n)*\s*\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)
# Any of these refuses the file, whatever else gpgv says and exits with: it ends with 0 for a revoked key. The more
# telling ones come first; ERRSIG accompanies NO_PUBKEY.
_REASONS = {
    "NO_PUBKEY": "the keyring does not have the key that made it",
    "BADSIG": "the signature does not fit the file",
    "REVKEYSIG": "the key was revoked",
    "EXPKEYSIG": "the key has expired",
    "EXPSIG": "the signature has expired",
    "ERRSIG": "the signature cannot be checked",
    "NODATA": "it is not a signature",
}


def sha256_of(path: Path, state: StateDir) -> str:
    """Return the SHA-256 of the file at `path` in hexadecimal.

    It is remembered by what changes with any write to the file (inode, size, both times), so that the next run
    does not read a big file again.
    """
    status = path.stat()
    identity = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    key = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    known = state.recall("sha256", key)
    if known is not None and known.get("identity") == identity:
        return str(known["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    state.remember("sha256", key, {"identity": identity, "sha256": digest})
    return digest


def dearmored(keyring: bytes) -> bytes:
    """Return the binary form of a keyring: gpgv does not read the armored one (RFC 9580, section 6.2).

    What is binary already is returned as it is. Raises `SourceError` for armor that is damaged.
    """
    if not keyring.lstrip().startswith(b"-----BEGIN"):
        return keyring
    parts = []
    for body in _ARMOR.findall(keyring.lstrip()):
        # The last line may be a checksum, `=` and four characters; gpgv checks what matters.
        lines = [line.strip() for line in body.splitlines() if not line.startswith(b"=")]
        try:
            parts.append(base64.b64decode(b"".join(lines), validate=True))
        except binascii.Error as error:
            raise SourceError("the keyring is damaged: its armor cannot be decoded", "export the key again") from error
    if not parts:
        raise SourceError("the keyring has no public key in it", "export it with: gpg --armor --export KEY")
    return b"".join(parts)


def check_sha256(path: Path, actual: str, expected: str) -> None:
    """Raise `SourceError` unless the two checksums (hexadecimal) are equal."""
    if actual != expected.strip().lower():
        raise SourceError(
            f"{path.name} has the wrong checksum: {actual} instead of {expected}", "the file was damaged or exchanged"
        )


def require_checkable(signature: Path, keyring: Path) -> None:
    """Raise what `check_signature` would before it reads the tarball: known early, it costs no download.

    That is `SourceError` for files that are not there or no keyring, and `MissingError` without gpgv.
    """
    if shutil.which("gpgv") is None:
        raise MissingError("checking a signature needs gpgv", "apt-get install gpgv, or give --sha256 instead")
    for file in (signature, keyring):
        if not file.is_file():
            raise SourceError(f"{file} does not exist", "give the detached signature and the keyring as files")
        try:
            file.open("rb").close()
        except OSError as error:
            raise SourceError(f"{file} cannot be read: {error.strerror}", "check its permissions") from error
    dearmored(keyring.read_bytes())


def check_signature(path: Path, signature: Path, keyring: Path) -> str:
    """Return the fingerprint of the key in `keyring` that made the detached `signature` of the tarball at `path`.

    The signature may be over the file as it is, or, as kernel.org does it, over the tar archive in it. Raises
    `SourceError` when it is not good, `MissingError` without gpgv.
    """
    require_checkable(signature, keyring)
    with tempfile.TemporaryDirectory(prefix="xenqemu-gpgv-") as home:
        ring = Path(home, "keyring.gpg")
        ring.write_bytes(dearmored(keyring.read_bytes()))
        fingerprint, reason = _gpgv(ring, signature, path, unpack=False)
        if fingerprint is None and reason in ("BADSIG", ""):
            fingerprint, reason = _gpgv(ring, signature, path, unpack=True)
    if fingerprint is None:
        raise SourceError(
            f"{path.name} is not verified by {signature.name}: {_REASONS.get(reason, 'gpgv does not accept it')}",
            "get the file, its signature and the signer's key from the project's own site",
        )
    return fingerprint


def _gpgv(keyring: Path, signature: Path, path: Path, *, unpack: bool) -> tuple[str | None, str]:
    """Return the fingerprint, or None and the keyword of gpgv's status lines (GnuPG's doc/DETAILS) that says why."""
    argv = ("gpgv", "--homedir", keyring.parent, "--status-fd", "1", "--keyring", keyring, signature.resolve())
    process = subprocess.Popen(
        (*argv, "-" if unpack else path.resolve()),
        stdin=subprocess.PIPE if unpack else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if process.stdin is not None:
        with decompressed(path) as stream:
            try:
                while data := stream.read(1 << 20):
                    process.stdin.write(data)
            except BrokenPipeError:
                pass
    status = process.communicate()[0].decode("utf-8", "replace")
    words = [line.removeprefix("[GNUPG:] ").split() for line in status.splitlines()]
    said = {word[0]: word[1:] for word in words if word}
    refused = next((keyword for keyword in _REASONS if keyword in said), None)
    if refused is None and process.returncode == 0 and "GOODSIG" in said and "VALIDSIG" in said:
        return said["VALIDSIG"][0], ""
    return None, refused or ""
