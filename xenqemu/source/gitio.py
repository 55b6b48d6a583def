"""Reading git repositories that are not xenqemu's own, without leaving a trace in them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from xenqemu.errors import SourceError
from xenqemu.proc import CommandFailedError, Completed, run
from xenqemu.source.entries import EXECUTABLE, FILE, SYMLINK, Entry

_GITLINK = "160000"
# Of a file in the checkout; that git may not read the configuration in somebody else's HOME is no matter.
_REFUSED = re.compile(r"^(?!warning: unable to access ).*Permission denied$")


def user_env() -> dict[str, str]:
    """Return the environment for git in a user's repository: their configuration, but no writes on the side.

    GIT_DIR and its kin, set when xenqemu runs from a hook, would point git at another repository; GIT_CONFIG_*
    and what concerns connections stays.
    """
    local = run(("git", "rev-parse", "--local-env-vars")).stdout.split()
    drop = {name for name in local if not name.startswith("GIT_CONFIG")}
    env = {name: value for name, value in os.environ.items() if name not in drop}
    return env | {
        "GIT_OPTIONAL_LOCKS": "0",  # `git status` would refresh the index
        "GIT_NO_LAZY_FETCH": "1",  # a partial clone would download into the user's repository
        "GIT_NO_REPLACE_OBJECTS": "1",  # the content must be what the commit id says
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


@dataclass(frozen=True)
class GitRepo:
    """A repository to read: `path` is its top folder, or the repository itself when it is bare."""

    path: Path
    env: dict[str, str]

    def git(self, *args: str | Path, check: bool = True) -> Completed:
        """Run git in the repository; raises `CommandFailedError` unless `check` is off."""
        return run(("git", "-C", self.path, "-c", "core.fsmonitor=false", *args), env=self.env, check=check)

    def names(self, *args: str) -> list[str]:
        """Run git with arguments that make it print zero-terminated names; undecodable bytes become surrogates.

        Raises `SourceError` for what git may not read: `git status` only warns, and takes it for unchanged.
        """
        argv = ["git", "-C", str(self.path), "-c", "core.fsmonitor=false", *args]
        done = subprocess.run(argv, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        stderr = done.stderr.decode("utf-8", "backslashreplace")
        refused = next((line for line in stderr.splitlines() if _REFUSED.search(line)), None)
        if refused is not None:
            raise SourceError(f"{self.path}: {refused}", "the whole checkout has to be readable")
        if done.returncode != 0:
            raise CommandFailedError(Completed(tuple(argv), done.returncode, "", stderr))
        return list(filter(None, os.fsdecode(done.stdout).split("\0")))

    def resolve(self, name: str) -> str | None:
        """Return the id of the object that `name` means, or None."""
        found = self.git("rev-parse", "--quiet", "--verify", "--end-of-options", name, check=False)
        # Git up to 2.43 echoes --end-of-options.
        return found.stdout.split()[-1] if found.ok and found.stdout.split() else None

    def tree(self, commit: str) -> list[TreeItem]:
        """Return every file of `commit`, submodules included."""
        items = []
        for line in self.names("ls-tree", "-r", "-z", "--full-tree", commit):
            meta, _, path = line.partition("\t")
            mode, _, oid = meta.split()
            items.append(TreeItem(mode, oid, path))
        return items


@dataclass(frozen=True, slots=True)
class TreeItem:
    """One line of `git ls-tree`."""

    mode: str
    oid: str
    path: str

    @property
    def is_gitlink(self) -> bool:
        """Whether it is a submodule's commit and no file."""
        return self.mode == _GITLINK


class BlobReader:
    """A running `git cat-file --batch`: the bytes of objects, without conversion or export attributes."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes], where: Path) -> None:
        self._requests = requests
        self._answers = answers
        self._where = where

    def read(self, oid: str) -> bytes:
        """Return the content of the object; raises `SourceError` when the repository lacks it or is damaged."""
        try:
            self._requests.write(oid.encode() + b"\n")
            self._requests.flush()
            header = self._answers.readline().split()
            content = self._answers.read(int(header[2]) + 1)[:-1] if len(header) == 3 else None
        except (BrokenPipeError, ValueError):
            content = None
        if content is None or len(content) != int(header[2]):
            raise SourceError(
                f"{self._where}: the repository lacks object {oid}, or it is damaged",
                "`git fsck` there tells more; a partial clone has to fetch it first",
            )
        return content


@contextmanager
def reading(repo: GitRepo) -> Iterator[BlobReader]:
    """Enter with a reader for the objects of `repo`."""
    process = subprocess.Popen(
        ("git", "-C", repo.path, "cat-file", "--batch"),
        env=repo.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    requests, answers = process.stdin, process.stdout
    if requests is None or answers is None:
        raise AssertionError("Popen gives the pipes that it was asked for")
    try:
        yield BlobReader(requests, answers, repo.path)
    finally:
        process.kill()
        process.communicate()


def commit_entries(items: list[TreeItem], reader: BlobReader, prefix: str = "") -> Iterator[Entry]:
    """Yield the files among `items`, their paths below `prefix` (empty, or with a final slash)."""
    for item in items:
        if not item.is_gitlink:
            # Very old commits have 100664, which git treats as 100644.
            mode = item.mode if item.mode in (EXECUTABLE, SYMLINK) else FILE
            yield Entry(prefix + item.path, mode, partial(reader.read, item.oid))
