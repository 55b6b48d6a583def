"""Talking to a device model over QMP on its stdin and stdout."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def ask(binary: Path, commands: Sequence[str], *arguments: str, timeout: float = 60) -> list[Any]:
    """Start `binary` with an empty environment and `-qmp stdio`, and return what each command answers.

    The last answer is followed by `quit`; a device model that aborts on the way leaves answers missing.
    """
    lines = [json.dumps({"execute": name}) for name in ("qmp_capabilities", *commands, "quit")]
    done = subprocess.run(
        [binary, *arguments, "-display", "none", "-qmp", "stdio"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        env={},
        timeout=timeout,
        check=False,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    answers = [message for message in messages if "return" in message or "error" in message]
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return [answer.get("return", answer.get("error")) for answer in answers[1 : 1 + len(commands)]]
