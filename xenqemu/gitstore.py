"""The bare git repository in the state directory that holds every tree and every commit of the series.

All work on trees happens on git objects with an index file of its own: no checkout is needed to patch, two runs do
not meet, and a commit id depends on content alone because author, committer and dates are fixed. GitPython runs git;
it is imported late because it takes a tenth of a second.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.proc import run
from xenqemu.state import StateDir, publish
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from git import Repo

AUTHOR = "xenqemu"
EMAIL = "xenqemu@invalid"
# The day of the announcement that asked for this device model. Any fixed date would do.
DATE = "2010-08-12T00:00:00 +0000"

# The user's and the system's git configuration must not decide what a tree or a commit is (autocrlf, signing,
# templates, hooks), so neither is read.
ENVIRONMENT: Mapping[str, str] = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": AUTHOR,
    "GIT_AUTHOR_EMAIL": EMAIL,
    "GIT_AUTHOR_DATE": DATE,
    "GIT_COMMITTER_NAME": AUTHOR,
    "GIT_COMMITTER_EMAIL": EMAIL,
    "GIT_COMMITTER_DATE": DATE,
    "LC_ALL": "C",
}
# Set while a git hook runs, and would point our git at somebody else's repository.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")


def clean_environment() -> dict[str, str]:
    """Return the environment in which git works on a repository of ours: see `ENVIRONMENT`."""
    inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    return {**inherited, **ENVIRONMENT}


@dataclass(frozen=True)
class GitStore:
    """The object store at `path`, and index files below `scratch`."""

    path: Path
    state: StateDir

    @classmethod
    def open(cls, state: StateDir) -> GitStore:
        """Return the store of `state`, made when it is not there."""
        if not (state.git / "HEAD").is_file():
            with state.scratch("git") as scratch:
                run(["git", "init", "--quiet", "--bare", scratch / "git"], env=clean_environment())
                for key, value in (
                    ("gc.auto", "0"),  # commits are found by id, not by ref: nothing may expire
                    ("core.autocrlf", "false"),
                    ("core.compression", "1"),
                    ("core.logAllRefUpdates", "false"),
                ):
                    run(["git", "-C", scratch / "git", "config", key, value], env=clean_environment())
                # Attributes in a tree must not change what is stored or checked out.
                (scratch / "git" / "info" / "attributes").write_text("* -text -ident -filter -export-subst\n")
                publish(scratch / "git", state.git)
        return cls(state.git, state)

    def has(self, object_id: str) -> bool:
        """Whether the store has the object (cheap: GitPython is not needed for it)."""
        return run(["git", "-C", self.path, "cat-file", "-e", object_id], env=clean_environment(), check=False).ok

    def repo(self) -> Repo:
        """Return the store as a GitPython repository whose commands run in the clean environment."""
        from git import Repo

        repo = Repo(self.path)
        repo.git.update_environment(**clean_environment())
        return repo

    def keep(self, object_id: str, kind: str) -> None:
        """Make the object reachable under `refs/xenqemu/KIND/`, so that git's own tools do not call it garbage."""
        self.repo().git.update_ref(f"refs/xenqemu/{kind}/{object_id}", object_id)

    def commit(self, tree: str, parent: str | None, message: str) -> str:
        """Return the id of the commit of `tree` on `parent` with the fixed author and dates."""
        parents = ["-p", parent] if parent else []
        return str(self.repo().git.commit_tree(tree, *parents, "-m", message))

    @contextmanager
    def index(self, treeish: str) -> Iterator[StoreIndex]:
        """Enter an index of its own that holds `treeish`; what is done to it touches nothing else."""
        with self.state.scratch("index") as scratch:
            repo = self.repo()
            repo.git.update_environment(GIT_INDEX_FILE=str(scratch / "index"))
            repo.git.read_tree(treeish)
            yield StoreIndex(repo, scratch)

    def checkout(self, commit: str, ui: Ui) -> Path:
        """Return `trees/COMMIT` with the files of `commit`; published whole, or as it was published before."""
        destination = self.state.trees / commit
        if destination.is_dir():
            return destination
        with ui.step("check out the tree"), self.state.scratch("tree") as scratch:
            work_tree = scratch / "tree"
            work_tree.mkdir()
            with self.index(commit) as index:
                index.repo.git.update_environment(GIT_WORK_TREE=str(work_tree))
                index.repo.git.checkout_index("--all", f"--prefix={work_tree}/")
            return publish(work_tree, destination)


@dataclass(frozen=True)
class StoreIndex:
    """An index in use: `repo` works on it."""

    repo: Repo
    scratch: Path

    def write_tree(self) -> str:
        """Return the id of the tree that the index holds now."""
        return str(self.repo.git.write_tree())

    def add(self, path: str, content: bytes, *, executable: bool = False) -> str:
        """Put a file with `content` at `path` (relative, posix) and return its blob id."""
        blob = self.scratch / "blob"
        blob.write_bytes(content)
        object_id = self.repo.git.hash_object("-w", "--no-filters", str(blob))
        mode = "100755" if executable else "100644"
        self.repo.git.update_index("--add", "--cacheinfo", f"{mode},{object_id},{path}")
        return str(object_id)

    def read(self, path: str) -> str | None:
        """Return the text of the file at `path`, or None when there is none."""
        from git import GitCommandError

        try:
            return str(self.repo.git.show(f":{path}", stdout_as_string=True, strip_newline_in_stdout=False))
        except GitCommandError:
            return None


def blobs_digest(blobs: Mapping[str, str]) -> str:
    """Return a SHA-256 over the paths and blob ids of files, by which a generated commit can be recognised."""
    listing = "".join(f"{path} {blob}\n" for path, blob in sorted(blobs.items()))
    return hashlib.sha256(listing.encode()).hexdigest()
