"""A Linux kernel as it is packaged (bzImage), and the ELF file inside it."""

from __future__ import annotations

import lzma
import struct
import zlib

# Offsets of the setup header: the kernel's Documentation/arch/x86/boot.rst.
_SETUP_SECTORS = 0x1F1
_MAGIC = 0x202
_PAYLOAD = 0x248
_SECTOR = 512


def elf_inside(image: bytes) -> bytes | None:
    """Return the ELF file that the bzImage `image` unpacks itself to, None when it is packed in an unknown way.

    Xen takes both as dom0's kernel (xen/common/decompress.c); what it has not to unpack saves an emulated processor
    seconds.
    """
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        return None
    sectors = image[_SETUP_SECTORS] or 4
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = (sectors + 1) * _SECTOR + offset
    try:
        found = _unpacked(image[start : start + length])
    except (lzma.LZMAError, zlib.error):
        return None
    return found if found is not None and found.startswith(b"\x7fELF") else None


def _unpacked(payload: bytes) -> bytes | None:
    """Return what is packed in `payload`; its size may follow (`size_append` in the kernel's scripts/Makefile.lib)."""
    if payload.startswith(b"\xfd7zXZ\0"):
        unpacker = lzma.LZMADecompressor()
        content = unpacker.decompress(payload)
        return content if unpacker.eof else None
    if payload.startswith(b"\x1f\x8b"):
        gzipped = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        content = gzipped.decompress(payload)
        return content if gzipped.eof else None
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        zstd = zstandard.ZstdDecompressor().decompressobj()
        try:
            content = zstd.decompress(payload)
        except zstandard.ZstdError:
            return None
        return content if zstd.eof else None
    return None
