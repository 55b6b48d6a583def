"""The example of docs/python.md, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from xenqemu.state import StateDir

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_pages_example(shared_state: StateDir, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XENQEMU_")}
    environment |= {"XENQEMU_STATE_DIR": str(shared_state.root), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    argv = [sys.executable, "-c", example]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"boot-sector True \S", done.stdout)
    assert (tmp_path / "dist/bin/qemu-system-xen").is_file()
