"""Downloads over http, https and file URLs that go on where they were interrupted."""

from __future__ import annotations

import base64
import errno
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from xenqemu import __version__
from xenqemu.errors import SourceError
from xenqemu.source.urls import without_credentials
from xenqemu.ui import Ui

_ATTEMPTS = 4
_TIMEOUT = 60.0
_BLOCK = 1 << 18
# What the file system says, not the network: trying again would not help.
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


def download(url: str, destination: Path, ui: Ui) -> None:
    """Download `url` to `destination`; what an interrupted run left in `DESTINATION.part` is continued.

    A lost connection is taken up again a few times. Whether a continued file is of one piece is for the caller to
    check, by checksum or signature: servers that name no version of the file (ETag, Last-Modified) leave no other way.
    Raises `SourceError`.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".part")
    name = urllib.parse.unquote(without_credentials(url).rpartition("/")[2])
    problem = ""
    with ui.progress(f"downloading {name}") as progress:
        for attempt in range(_ATTEMPTS):
            time.sleep(attempt**2 / 2)
            try:
                problem = _receive(url, part, progress)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 416 and part.exists():  # the part is longer than the file: it was replaced
                        part.unlink()
                        continue
                    problem = f"{error.code} {error.reason}"
                    if error.code < 500:
                        break
            except urllib.error.URLError as error:
                problem = str(error.reason)
            except (http.client.HTTPException, OSError) as error:
                if isinstance(error, OSError) and error.errno in _OURS:
                    raise
                problem = str(error) or type(error).__name__
            if not problem:
                settle(part, destination)
                return
    raise SourceError(
        f"{without_credentials(url)} could not be downloaded: {problem}",
        "check the URL and the network; the next run goes on with what has arrived",
    )


def _receive(url: str, part: Path, progress: Any) -> str:
    """Receive what `part` lacks; return what went wrong half way, or an empty string."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"xenqemu/{__version__}", "Accept-Encoding": "identity"}
    validator = part.with_name(part.name + ".version")
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator.exists():
            headers["If-Range"] = validator.read_text()
    parts = urllib.parse.urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    place = parts._replace(netloc=host).geturl()
    request = urllib.request.Request(place, headers=headers)  # noqa: S310  the scheme was checked by parse_source
    if at:  # urllib would take it for a part of the host's name; not sent on to where the server redirects
        login = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
        resumed = response.status == 206
        if not resumed:
            start = 0
            version = response.headers.get("ETag", "")
            # A weak ETag promises nothing about bytes (RFC 9110, section 13.1.5).
            version = version if version and not version.startswith("W/") else response.headers.get("Last-Modified", "")
            validator.write_text(version) if version else validator.unlink(missing_ok=True)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else 0
        done = start
        with part.open("ab" if resumed else "wb") as file:
            while data := response.read(_BLOCK):
                file.write(data)
                done += len(data)
                progress.update(done, total or done)
    if total and done < total:
        return f"the connection was lost after {done} of {total} bytes"
    validator.unlink(missing_ok=True)
    return ""


def settle(part: Path, destination: Path) -> None:
    """Give a finished download its name, its content on the disk before that: a power cut leaves no empty file."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(destination)


def copy_or_download(url: str, destination: Path, ui: Ui) -> None:
    """Like `download`, but for a `file:` URL copy the file; raises `SourceError`."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "file":
        download(url, destination, ui)
        return
    path = Path(urllib.parse.unquote(parts.path))
    if not path.is_file():
        raise SourceError(f"{path} does not exist", "check the URL")
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".part")
    shutil.copyfile(path, part)
    settle(part, destination)
