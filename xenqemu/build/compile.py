"""Running ninja: progress out of its status lines, and the one message that matters when it fails."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.errors import BuildError, XenqemuError
from xenqemu.ui import Progress

# Ninja expands %f (finished) and %t (total). The marks keep the line apart from whatever a compiler prints.
NINJA_STATUS = "@xenqemu %f %t@ "

_STATUS = re.compile(r"^@xenqemu (?P<done>\d+) (?P<total>\d+)@ (?P<what>.*)$")
_FAILED = re.compile(r"^FAILED: (?:\[code=\d+\] )?(?P<target>\S+)")
_MESSAGE = re.compile(r"(?:\berror\b|\bundefined reference\b|\bfatal\b|\bError\b|No space left|Killed|cannot find)")
_SHOWN = 12


@dataclass
class NinjaOutput:
    """Follows what ninja says, line by line: hands progress on, keeps the first failed command's message."""

    progress: Progress
    target: str = ""
    message: list[str] = field(default_factory=list)
    last: str = ""
    _collecting: bool = False
    _skip_command: bool = False

    def feed(self, line: str) -> None:
        """Take one line of output."""
        status = _STATUS.match(line)
        if status:
            self._collecting = False
            self.progress.update(int(status["done"]), int(status["total"]), _subject(status["what"]))
            return
        failed = _FAILED.match(line)
        if failed:
            self._collecting = not self.target
            self._skip_command = self._collecting
            self.target = self.target or failed["target"]
            return
        if line.strip():
            self.last = line.strip()
        if line.startswith("ninja: "):
            self._collecting = False
        elif self._skip_command:
            self._skip_command = False
        elif self._collecting:
            self.message.append(line)

    def error(self, log: Path, tree: Path) -> XenqemuError:
        """Return the error for a ninja that has failed; `tree` shortens the names of sources in the message."""
        hint = f"the whole output is in {log}"
        if not self.target:
            return BuildError(f"the compile failed: {self.last or 'ninja said nothing'}", hint)
        body = "\n".join(f"  {_short(line, tree)}" for line in excerpt(self.message))
        return BuildError(f"the compile failed at {self.target}" + (f":\n{body}" if body else ""), hint)


def _subject(what: str) -> str:
    """Return what a status line is about, without meson's `Compiling C object` and the like."""
    return what.rsplit(" ", 1)[-1]


def _short(line: str, tree: Path) -> str:
    return re.sub(rf"(?:\.\./)+[\w./-]*{re.escape(tree.name)}/|{re.escape(str(tree))}/", "", line)


def excerpt(lines: list[str]) -> list[str]:
    """Return the lines of a compiler's output that say what is wrong, with the quoted source after each."""
    picked: list[str] = []
    for number, line in enumerate(lines):
        if len(picked) >= _SHOWN:
            break
        if _MESSAGE.search(line) and "warning:" not in line:
            picked.append(line)
            picked.extend(rest for rest in lines[number + 1 : number + 3] if re.match(r"^\s+\d*\s*\|", rest))
    return picked or lines[-_SHOWN:]
