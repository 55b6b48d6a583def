"""What `xenqemu stubdom build` has left in a folder, as a VM config names it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import MissingError, UsageError

BUILT_HERE = Path("dist/stubdom")
# Its files there.
KERNEL, RAMDISK, MANIFEST = "vmlinuz", "initramfs.zst", "manifest.json"
# What the stub domain's kernel is told: its messages go to the device model's log, and cost time.
_CMDLINE = "quiet"
# Each page of the guest's that the device model maps has an entry of 8 bytes in a page table, and it maps more and more
# (xen_map_cache() in QEMU); a stub domain that had not enough for that was seen to fail (QubesOS/qubes-issues#3821).
_SMALL_GUEST, _MAPPED_BY_A_MIB = 4096, 512


@dataclass(frozen=True)
class StubImages:
    """A stub domain's `kernel` and `ramdisk`, absolute, and the MiB of `memory` that it takes for a guest of 4 GiB."""

    kernel: Path
    ramdisk: Path
    memory: int

    def settings(self, guest_memory: int) -> dict[str, str]:
        """Return what an xl.cfg has to say for a guest of so many MiB whose device model is to run in it."""
        tables = max(0, guest_memory - _SMALL_GUEST) // _MAPPED_BY_A_MIB
        return {
            "device_model_stubdomain_override": "1",
            "stubdomain_kernel": os.fspath(self.kernel),
            "stubdomain_ramdisk": os.fspath(self.ramdisk),
            "stubdomain_memory": str(self.memory + tables),
            "stubdomain_cmdline": _CMDLINE,
        }


def choose_stubdom(named: Path | None = None) -> StubImages:
    """Return the stub domain in the folder `named`, else in ./dist/stubdom.

    Raises `UsageError` when there is none in `named`, `MissingError` when there is none to take.
    """
    folder = Path(os.path.abspath(named or BUILT_HERE))  # noqa: PTH100 (resolve() would follow a link that is meant)
    images = StubImages(folder / KERNEL, folder / RAMDISK, _memory(folder))
    if images.memory and images.kernel.is_file() and images.ramdisk.is_file():
        return images
    if named is not None:
        raise UsageError(f"there is no stub domain in {folder}", "name what `xenqemu stubdom build --out` was given")
    raise MissingError(
        f"there is no stub domain in ./{BUILT_HERE}",
        "run `xenqemu stubdom build`, or name a folder with --stubdom-from",
    )


def _memory(folder: Path) -> int:
    """Return how much memory the stub domain in `folder` takes, 0 when that does not say."""
    try:
        memory = json.loads((folder / MANIFEST).read_bytes())["memory"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return memory if isinstance(memory, int) else 0
