"""The README's way from a VM config to a booted guest, run as it stands there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.console import ROOT, commands, environment, execute
from xenqemu.state import StateDir

HEADING = "From a VM config to a booted guest"
EXAMPLE = "/etc/xen/xlexample.hvm"


def test_the_commands_say_what_the_readme_says(
    request: pytest.FixtureRequest,
    xenqemu_command: Path,
    shared_state: StateDir,
    xen_trees: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    example = Path(EXAMPLE)
    if not example.is_file():  # Debian's package is for Xen hosts; the file is upstream's
        example = xen_trees("4.17") / "tools" / "examples" / "xlexample.hvm"
    original = example.read_bytes()
    told = [one.line for one in commands("README.md") if one.section == HEADING]
    assert [line.split()[:3] for line in told if line.startswith("xenqemu")] == [
        ["xenqemu", "build", "--out"],
        ["xenqemu", "lab", "cases"],
        ["xenqemu", "vm", "lint"],
        ["xenqemu", "vm", "use"],
        ["xenqemu", "vm", "use"],
        ["xenqemu", "lab", "boot"],
        ["xenqemu", "vm", "revert"],
    ]
    reader = environment(tmp_path, xenqemu_command, shared_state)
    execute(request.node.nodeid, tmp_path, reader, instead={EXAMPLE: str(example)})
    used = (tmp_path / "my.cfg").read_bytes()
    disk = tmp_path / "guests/boot-sector/disk.img"
    expected = original.replace(b"/dev/vg/guest-volume", bytes(disk)).replace(b"\nsdl = 1", b"\nvnc = 1")
    assert used == expected
    with Image.open(tmp_path / "screen.png") as image, Image.open(ROOT / "docs/guest-screen.png") as shown:
        assert image.size == shown.size
