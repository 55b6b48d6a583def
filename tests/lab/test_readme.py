"""The README's way from a VM config to a booted guest, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from xenqemu.state import StateDir

README = Path(__file__).resolve().parents[2] / "README.md"
HEADING = "## From a VM config to a booted guest\n"
EXAMPLE = "/etc/xen/xlexample.hvm"
# Differs from machine to machine, and from run to run.
VARIES = (
    (re.compile(r"Xen 4\.\d+(\.\d+)*"), "Xen 4.N"),
    (re.compile(r", \d+ s, \d+ MB"), ", N s, N MB"),
    (re.compile(r"/\S*/(dist|guests)/"), r"/home/me/\1/"),
)


def commands() -> list[tuple[str, str]]:
    """Return each command of the section, with what it says according to the README."""
    section = README.read_text().partition(HEADING)[2].partition("```console\n")[2].partition("```\n")[0]
    parts = (part.partition("\n") for part in re.split(r"^\$ ", section, flags=re.MULTILINE)[1:])
    return [(command, output) for command, _, output in parts]


def alike(text: str) -> list[str]:
    for pattern, replacement in VARIES:
        text = pattern.sub(replacement, text)
    return text.splitlines()


def test_the_commands_say_what_the_readme_says(
    xenqemu_command: Path, shared_state: StateDir, xen_trees: Callable[[str], Path], tmp_path: Path
) -> None:
    example = Path(EXAMPLE)
    if not example.is_file():  # Debian's package is for Xen hosts; the file is upstream's
        example = xen_trees("4.17") / "tools" / "examples" / "xlexample.hvm"
    original = example.read_bytes()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XENQEMU_", "XDG_"))}
    environment |= {
        "PATH": f"{xenqemu_command.parent}:{os.environ['PATH']}",
        "XENQEMU_STATE_DIR": str(shared_state.root),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    told = commands()
    assert [command.split()[:3] for command, _ in told if command.startswith("xenqemu")] == [
        ["xenqemu", "build", "--out"],
        ["xenqemu", "lab", "cases"],
        ["xenqemu", "vm", "lint"],
        ["xenqemu", "vm", "use"],
        ["xenqemu", "vm", "use"],
        ["xenqemu", "lab", "boot"],
        ["xenqemu", "vm", "revert"],
    ]
    for command, output in told:
        argv = ["bash", "-c", command.replace(EXAMPLE, str(example))]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert alike(done.stdout) == alike(output), f"{command}\n{done.stderr}"
        # lint finds the example's SDL window
        assert done.returncode == (7 if " vm lint " in command else 0), f"{command}\n{done.stderr}"
    used = (tmp_path / "my.cfg").read_bytes()
    disk = tmp_path / "guests/boot-sector/disk.img"
    expected = original.replace(b"/dev/vg/guest-volume", bytes(disk)).replace(b"\nsdl = 1", b"\nvnc = 1")
    assert used == expected
    with Image.open(tmp_path / "screen.png") as image, Image.open(README.parent / "docs/guest-screen.png") as shown:
        assert image.size == shown.size
