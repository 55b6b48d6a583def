"""What of a URL may be shown and recorded."""

from __future__ import annotations

import re
import urllib.parse

_USER = re.compile(r"(?P<scheme>(?:git\+)?(?:https?|ftp)://)[^/?#\s]*@", re.IGNORECASE)
_PASSWORD = re.compile(r"(?P<user>(?:git\+)?(?:ssh|git)://[^/:@\s]*):[^/@\s]*@", re.IGNORECASE)
_QUERY = re.compile(r"(?P<url>\bhttps?://[^\s?#'\"]*)[?#][^\s'\"]*", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """Return `text` with the URLs in it stripped of what may be a password or a token.

    Over http that is whatever stands before the host, which hosting sites take tokens as, and the query, which
    signed links have theirs in. With ssh the user is part of the address and stays.
    """
    return _QUERY.sub(r"\g<url>", _PASSWORD.sub(r"\g<user>@", _USER.sub(r"\g<scheme>", text)))


def public_url(url: str) -> str:
    """Return `url` as it may be recorded in a manifest: no credentials, and of a file URL no folder."""
    if url.lower().removeprefix("git+").startswith("file:"):
        return urllib.parse.unquote(url.rstrip("/").rpartition("/")[2])
    return without_credentials(url)
