"""Pictures of guests' screens, made part of the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from xenqemu.report.model import Picture

# More is no screen, and would not be seen either.
_MAX_SIDE = 4096
# What is larger loses some of its detail, so that a page with ten of them stays small.
_MAX_BYTES = 200_000


def load_picture(path: Path) -> Picture | None:
    """Return the picture in the file `path` without loss as WebP, which every browser of today reads.

    One that would be too large in that form loses a little. Returns None for what is no picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if max(image.size) > _MAX_SIDE:
                return None
            content = _webp(image.convert("RGB"))
            return Picture(f"data:image/webp;base64,{base64.b64encode(content).decode()}", *image.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow's readers raise all of these
        return None


def _webp(image: object) -> bytes:
    from PIL import Image

    assert isinstance(image, Image.Image)  # noqa: S101 - what `convert` returns
    content = b""
    for options in ({"lossless": True}, {"quality": 75}, {"quality": 40}):
        file = io.BytesIO()
        image.save(file, "WEBP", method=6, **options)
        content = file.getvalue()
        if len(content) <= _MAX_BYTES:
            break
    return content
