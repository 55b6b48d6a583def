"""Kernel modules: which others each of them needs, uncompressed files, lists in the order to load them."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import LabError

# A module's section .modinfo has NUL-terminated assignments (MODULE_INFO in the kernel's include/linux/moduleparam.h).
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_SUFFIX = re.compile(r"\.ko(\.(xz|gz|zst))?$")


def module_name(file: str) -> str:
    """Return a module's name as the kernel compares it: `kernel/net/virtio-net.ko.xz` is `virtio_net`."""
    return _SUFFIX.sub("", file.rpartition("/")[2]).replace("-", "_")


def uncompressed(path: Path) -> bytes:
    """Return the content of a module's file."""
    content = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(content)
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix == ".zst":
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(content).read()
    return content


@dataclass(frozen=True)
class Module:
    """One module: its file's name without `.ko`, its content, and the modules that have to be there before it."""

    file: str
    content: bytes
    needs: tuple[str, ...]


def load_order(names: Iterable[str], files: Mapping[str, Path], builtin: frozenset[str]) -> dict[str, Module]:
    """Return the named modules and all that they need by name, in an order that can be loaded.

    `files` are the kernel's modules by name, `builtin` the names of those in the kernel itself, which are left out.
    Raises `LabError` for one that the kernel has not at all.
    """
    order: dict[str, Module] = {}

    def add(name: str, wanted_by: str) -> None:
        if name in order or name in builtin:
            return
        if name not in files:
            raise LabError(f"the kernel has no module {name}, which {wanted_by} needs", "report it")
        content = uncompressed(files[name])
        match = _DEPENDS.search(content)
        needs = tuple(module_name(need) for need in match[1].decode().split(",") if need) if match else ()
        for need in needs:
            add(need, name)
        order[name] = Module(_SUFFIX.sub("", files[name].name), content, needs)

    for name in names:
        add(module_name(name), "the lab")
    return order


def dependencies(modules: Mapping[str, Module]) -> dict[str, tuple[str, ...]]:
    """Return for each module by name all others that have to be loaded before it, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for name, module in modules.items():  # what a module needs comes before it
        before: dict[str, None] = {}
        for need in module.needs:
            if need in modules:
                before |= dict.fromkeys((*found[need], need))
        found[name] = tuple(before)
    return found
