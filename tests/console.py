"""The commands of README and docs: read from the pages, and executed as they stand there.

`commands.toml` says which test executes what of which page. A test prepares a folder as a reader of the page would have
it, and hands it to `execute` with the lines that `told` says are its own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenqemu.state import StateDir

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.name: path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))}
_PART = re.compile(r"^## (?P<section>[^\n]*)$|^```(?P<kind>\w*)\n(?P<block>.*?)^```$", re.MULTILINE | re.DOTALL)
# Differs from machine to machine, and from run to run.
_VARIES = (
    (re.compile(r"(?i)\bxen ?4\.\d+(\.\d+)*"), "Xen 4.N"),
    (re.compile(r"\b\d+\.\d+\.\d+(?=\+xen)"), "N"),
    (re.compile(r", \d+ s, \d+ MB"), ", N s, N MB"),
    (re.compile(r"\b(memory|pci|xen)=[\d.]+"), r"\1=N"),
    (re.compile(r"\S*/(?=(qemu-dm|xl)-my-guest)"), "/var/log/xen/"),
    (re.compile(r"/\S*/(dist|guests)/"), r"/home/me/\1/"),
)


@dataclass(frozen=True)
class Command:
    """A line that somebody is to type, without its comment: where it stands, and what it says according to the page."""

    page: str
    section: str
    line: str
    said: str = ""


def commands(page: str) -> tuple[Command, ...]:
    """Return the commands of the page of that name, in their order."""
    found, section = [], ""
    for part in _PART.finditer(PAGES[page].read_text()):
        section = section if part["section"] is None else part["section"]
        if part["kind"] == "console":
            for one in re.split(r"^\$ ", part["block"], flags=re.MULTILINE)[1:]:
                typed, _, said = one.partition("\n")
                found.append(Command(page, section, re.sub(r"\s+#\s.*", "", typed), said.rstrip("\n")))
    return tuple(found)


@dataclass(frozen=True)
class Executed:
    """What a test executes of a page: all of it, or that of a section.

    `replace` are the words of the page that stand for something of the reader's, each with what the test has in its
    place; `exits` are the exit codes of commands that begin so, where it is not 0.
    """

    page: str
    test: str
    section: str | None = None
    replace: Mapping[str, str] | None = None
    exits: Mapping[str, int] | None = None

    def has(self, command: Command) -> bool:
        """Whether `command` is one of these."""
        return command.page == self.page and self.section in (None, command.section)

    def exit_code(self, line: str) -> int:
        """Return how the command has to end."""
        return next((code for words, code in (self.exits or {}).items() if line.startswith(words)), 0)


@dataclass(frozen=True)
class Elsewhere:
    """A line that no test executes as it stands: what does execute it, and why that and not a test of the page."""

    line: str
    pages: tuple[str, ...]
    by: tuple[str, ...]
    why: str

    def has(self, command: Command) -> bool:
        """Whether `command` is this one."""
        return command.line == self.line and command.page in self.pages


def replaced(text: str, words: Mapping[str, str]) -> str:
    """Return `text` with each of the keys of `words` replaced by its value."""
    for word, instead in words.items():
        text = text.replace(word, instead)
    return text


def _table() -> tuple[tuple[Executed, ...], tuple[Elsewhere, ...]]:
    table: dict[str, list[dict[str, Any]]] = tomllib.loads(Path(__file__).with_name("commands.toml").read_text())
    elsewhere = ({**one, "pages": tuple(one["pages"]), "by": tuple(one["by"])} for one in table["elsewhere"])
    return tuple(Executed(**one) for one in table["executed"]), tuple(Elsewhere(**one) for one in elsewhere)


EXECUTED, ELSEWHERE = _table()


def told(test: str) -> tuple[tuple[Executed, Command], ...]:
    """Return what `test`, such as `tests/lab/test_pages.py::test_lab`, has to execute."""
    return tuple(
        (entry, command)
        for entry in EXECUTED
        if entry.test == test
        for command in commands(entry.page)
        if entry.has(command) and not any(other.has(command) for other in ELSEWHERE)
    )


def alike(text: str) -> list[str]:
    """Return the lines of `text`, without what differs from machine to machine and from run to run."""
    for pattern, replacement in _VARIES:
        text = pattern.sub(replacement, text)
    return text.splitlines()


def environment(home: Path, command: Path, state: StateDir) -> dict[str, str]:
    """Return the environment of a reader who is at home in `home`, has nothing configured, and xenqemu in PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XENQEMU_", "XDG_", "MAKE"))}
    return kept | {
        "HOME": str(home),
        "PATH": f"{home / 'bin'}:{command.parent}:{os.environ['PATH']}",
        "XENQEMU_STATE_DIR": str(state.root),
        "CCACHE_DIR": str(state.root / "ccache"),
        "BROWSER": "true",
    }


def execute(
    test: str,
    folder: Path,
    environment: Mapping[str, str],
    *,
    instead: Mapping[str, str] | None = None,
    before: Mapping[str, str] | None = None,
    after: str = "",
) -> str:
    """Run what `told` has for `test` in `folder`, in one shell, as a reader would; return all that was said.

    Each command has to end as it should, and to say on stdout what the page has below it, if it has anything there.
    `instead` is one more `replace`, for what is known only here; `before` has shell that goes before the lines
    that begin so, `after` shell for the end.
    """
    lines = told(test)
    assert lines, f"tests/commands.toml has nothing for {test}"

    def here(entry: Executed, text: str) -> str:
        return replaced(replaced(text, entry.replace or {}), instead or {})

    said = folder.parent / f"{folder.name}.said"
    said.mkdir()
    script = ["set -u"]
    for number, (entry, command) in enumerate(lines):
        # In braces and not in parentheses: a `cd` is for what follows too.
        line, out, wanted = here(entry, command.line), f"{said}/{number}", entry.exit_code(command.line)
        script += [more for words, more in (before or {}).items() if command.line.startswith(words)]
        script += [f"echo {shlex.quote('$ ' + line)} >&2", f"{{ {line}", f"}} >{shlex.quote(out)}", "code=$?"]
        script += [f"((code == {wanted})) || {{ echo exit code $code >&2; cat {shlex.quote(out)} >&2; exit 1; }}"]
    with (said / "errors").open("wb") as errors:
        argv = ["bash", "-c", "\n".join([*script, after])]
        done = subprocess.run(argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=errors, check=False)
    log = (said / "errors").read_text(errors="replace")
    assert done.returncode == 0, log[-8000:]
    for number, (entry, command) in enumerate(lines):
        output = (said / str(number)).read_text(errors="replace")
        if command.said:
            # Where a page shows what goes to stderr, it is something worth knowing, not progress, and need not be all.
            shown = [line for line in alike(here(entry, command.said)) if line not in alike(log)]
            assert alike(output) == shown, f"{command}\n{log[-4000:]}"
    return log + "".join((said / str(number)).read_text(errors="replace") for number in range(len(lines)))


def readers_checkout(folder: Path, plan: str, state: StateDir) -> Path:
    """Make a git checkout of QEMU in `folder`; `master` is the source of `plan`, that of `build --dry-run --json`."""

    def git(*words: str) -> str:
        argv = ["git", "-C", str(folder), *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    folder.mkdir(parents=True)
    git("clone", "--quiet", "--shared", "--no-checkout", str(state.git), ".")
    # Below the series is the source as it was imported.
    pristine = git("rev-list", "--max-parents=0", json.loads(plan)["qemu"]["commit"])
    git("checkout", "--quiet", "-B", "master", pristine)
    return folder
