"""A QEMU release tarball: local or by URL, verified before anything in it is looked at."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from xenqemu.errors import SourceError
from xenqemu.source.download import copy_or_download
from xenqemu.source.model import QemuSource, QemuTree
from xenqemu.source.store import Imported, import_once
from xenqemu.source.unpack import tar_entries
from xenqemu.source.urls import public_url, without_credentials
from xenqemu.source.verify import check_sha256, check_signature, require_checkable, sha256_of
from xenqemu.state import StateDir
from xenqemu.ui import Ui


def obtain_tarball(source: QemuSource, state: StateDir, ui: Ui) -> QemuTree:
    """Verify a tarball as far as `source` says how, and import it.

    Raises `SourceError` when it cannot be had, does not verify, is damaged, hostile or not a QEMU; a URL with
    neither a checksum nor a signature is refused.
    """
    _check_request(source)
    remote = "://" in source.location
    location = public_url(source.location) if remote else Path(source.location).resolve().name
    origin = {"kind": source.kind.value, "location": location}
    if remote:
        path, verified = _downloaded(source, state, ui)
    else:
        path = Path(source.location).resolve()
        verified = _verify(path, source, state)
    digest = sha256_of(path, state)
    imported = import_tarball(path, digest, state, ui)
    return QemuTree(state.git, imported.tree, imported.version, {**origin, "sha256": digest, **verified})


def import_tarball(path: Path, sha256: str, state: StateDir, ui: Ui) -> Imported:
    """Import the verified tarball at `path` with this checksum; see `xenqemu.source.store.import_once`."""
    return import_once(sha256, lambda: tar_entries(path), state, ui, path.name)


def _check_request(source: QemuSource) -> None:
    if (source.signature is None) != (source.keyring is None):
        raise SourceError(
            "a signature needs the keyring of the signer, and the other way round",
            "give both --signature and --keyring",
        )
    if source.signature is not None and source.keyring is not None:
        require_checkable(source.signature, source.keyring)
    if source.sha256 is not None and not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", source.sha256):
        raise SourceError(f"'{source.sha256}' is not a SHA-256 checksum", "it has 64 hexadecimal digits")
    if "://" in source.location and source.sha256 is None and source.signature is None:
        raise SourceError(
            f"{without_credentials(source.location)} comes over the network, and nothing says what it should be",
            "give --sha256, or --signature and --keyring",
        )


def _verify(path: Path, source: QemuSource, state: StateDir) -> dict[str, str]:
    """Return how the tarball was verified, for the manifest."""
    verified: dict[str, str] = {}
    if source.sha256 is not None:
        check_sha256(path, sha256_of(path, state), source.sha256)
        verified["verified"] = "sha256"
    if source.signature is not None and source.keyring is not None:
        verified["signed_by"] = check_signature(path, source.signature, source.keyring)
        verified["verified"] = "sha256, signature" if verified.get("verified") else "signature"
    return verified or {"verified": "no"}


def _downloaded(source: QemuSource, state: StateDir, ui: Ui) -> tuple[Path, dict[str, str]]:
    """Return the verified download; one that does not verify is removed, so that the next run gets it anew."""
    name = re.sub(r"[^\w.+-]", "_", source.location.partition("?")[0].rpartition("/")[2]) or "tarball"
    key = source.sha256.strip().lower() if source.sha256 else hashlib.sha256(source.location.encode()).hexdigest()
    path = state.downloads / key / name
    with state.lock(f"download-{key}", ui):
        if path.is_file() and (source.sha256 or not source.refresh):
            try:
                return path, _verify(path, source, state)
            except SourceError:
                path.unlink()  # damaged since, by a power cut maybe; or the server's file was replaced
        copy_or_download(source.location, path, ui)
        try:
            return path, _verify(path, source, state)
        except SourceError:
            path.unlink(missing_ok=True)
            raise
