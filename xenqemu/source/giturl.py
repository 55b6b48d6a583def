"""A QEMU from a git URL: one commit, without history, fetched so that an interrupted download goes on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator
from dataclasses import dataclass

from xenqemu.errors import MissingError, SourceError
from xenqemu.gitstore import clean_environment
from xenqemu.proc import Completed, run
from xenqemu.source.checkout import no_such_ref
from xenqemu.source.entries import Entry
from xenqemu.source.gitio import GitRepo, commit_entries, reading, user_env
from xenqemu.source.keycodemapdb import pinned, with_overlay
from xenqemu.source.model import QemuSource, QemuTree
from xenqemu.source.store import import_once
from xenqemu.source.urls import public_url, without_credentials
from xenqemu.state import StateDir, publish
from xenqemu.ui import Ui

# Blobs a request: what an interruption costs at most. A QEMU has 12,000; a request costs a round trip or two.
BATCH = 1500
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class _Clone:
    """A bare partial clone in the state directory, without history, of the repository at `url`."""

    repo: GitRepo
    url: str
    state: StateDir
    ui: Ui

    @classmethod
    def open(cls, url: str, state: StateDir, ui: Ui) -> _Clone:
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        path = state.clones / name
        # A URL can have a token in it, and git keeps the URL in the clone's configuration.
        state.clones.mkdir(mode=0o700, parents=True, exist_ok=True)
        if state.clones.stat().st_mode & 0o077:
            state.clones.chmod(0o700)
        if not path.is_dir():
            with state.scratch("clone") as folder:
                new = folder / "git"
                run(("git", "init", "--quiet", "--bare", "--template=", new), env=clean_environment())
                for key, value in (
                    ("core.repositoryFormatVersion", "1"),
                    ("extensions.partialClone", "origin"),
                    ("remote.origin.url", url),
                    ("remote.origin.promisor", "true"),
                    ("remote.origin.partialCloneFilter", "blob:none"),
                    ("core.hooksPath", "/dev/null"),
                    ("gc.auto", "0"),
                    ("maintenance.auto", "false"),
                ):
                    run(("git", "--git-dir", new, "config", key, value), env=clean_environment())
                publish(new, path)
        # The user's configuration stays in force here: credentials, proxies, url.*.insteadOf.
        return cls(GitRepo(path, user_env()), url, state, ui)

    def commit(self, ref: str) -> str:
        """Return the id of the commit that `ref` (branch, tag, full id) is now, with all of its files here."""
        with self.state.lock(f"clone-{self.repo.path.name}", self.ui):
            return self._commit(ref)

    def _commit(self, ref: str) -> str:
        if _ID.fullmatch(ref):
            commit, name = ref, ref
        else:
            commit, name = self._ask(ref)
        kept = f"refs/xenqemu/{commit}"
        if self.repo.resolve(f"{kept}^{{commit}}") is None:
            with self.ui.step(f"fetching {ref} of {without_credentials(self.url)}"):
                self._fetch("--depth=1", "origin", f"+{name}:{kept}")
        found = self.repo.resolve(f"{kept}^{{commit}}")
        if found is None:
            raise SourceError(
                f"{without_credentials(self.url)}: '{ref}' is not a commit", "name a branch, a tag or a commit"
            )
        self._complete(found)
        return found

    def _ask(self, ref: str) -> tuple[str, str]:
        listed = self.repo.git("ls-remote", "--quiet", "origin", check=False)
        if not listed.ok:
            raise self._failed(listed)
        known = {name: oid for oid, name in (line.split("\t") for line in listed.stdout.splitlines())}
        for name in (ref, f"refs/tags/{ref}", f"refs/heads/{ref}"):
            if name in known:
                return known.get(f"{name}^{{}}", known[name]), name
        short = [name.split("/", 2)[-1] for name in known if name.startswith("refs/") and not name.endswith("^{}")]
        raise no_such_ref(ref, without_credentials(self.url), short)

    def _fetch(self, *words: str, stdin: str = "") -> None:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none")
        argv = ["git", "-C", str(self.repo.path), "-c", "fetch.negotiationAlgorithm=noop", "fetch", *options, *words]
        done = run(argv, env=self.repo.env, stdin=stdin.encode(), check=False)
        if not done.ok:
            raise self._failed(done)

    def _complete(self, commit: str) -> None:
        """Fetch the blobs that are not here yet, in batches that each stay when the next one fails."""
        listed = self.repo.git("rev-list", "--objects", "--missing=print", "--no-object-names", commit)
        missing = [line[1:] for line in listed.stdout.splitlines() if line.startswith("?")]
        if not missing:
            return
        with self.ui.progress(f"downloading {len(missing)} files of {without_credentials(self.url)}") as progress:
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                self._fetch("--stdin", "origin", stdin="".join(f"{oid}\n" for oid in batch))
                progress.update(start + len(batch), len(missing))

    def _failed(self, completed: Completed) -> SourceError | MissingError:
        lines = [line for line in completed.stderr.splitlines() if line.strip()] or ["git gave no reason"]
        if any("No space left" in line for line in lines):
            return MissingError(f"no space left in {self.repo.path}", "free some, or choose another --state-dir")
        telling = next((line for line in lines if line.startswith(("fatal:", "error:", "remote:"))), lines[-1])
        return SourceError(
            f"{without_credentials(self.url)} could not be fetched: {without_credentials(telling)}",
            "check the URL, the network and your access; what was downloaded is kept for the next run",
        )


def obtain_giturl(source: QemuSource, state: StateDir, ui: Ui) -> QemuTree:
    """Fetch `source.ref` (default: the remote's HEAD) of a git URL, with the keycodemapdb that it pins, and import it.

    Raises `SourceError` when the repository or the ref cannot be had.
    """
    url = source.location
    ref = source.ref or "HEAD"
    clone = _Clone.open(url, state, ui)
    commit = clone.commit(ref)
    with reading(clone.repo) as reader:
        items = clone.repo.tree(commit)
        pin = pinned(items, reader, url)

        def entries() -> Generator[Entry, None, None]:
            if pin is None:
                yield from commit_entries(items, reader)
                return
            inner = _Clone.open(pin.url, state, ui)
            inner_commit = inner.commit(pin.revision)  # before anything is imported: it may be out of reach
            yield from commit_entries(items, reader)
            with reading(inner.repo) as inner_reader:
                files = commit_entries(inner.repo.tree(inner_commit), inner_reader, f"{pin.path}/")
                yield from with_overlay(pin, files, items, reader.read)

        key = hashlib.sha256(f"{commit} {pin and pin.revision}".encode()).hexdigest()
        imported = import_once(key, entries, state, ui, f"{without_credentials(url)}@{ref}")
    origin = {"kind": source.kind.value, "location": public_url(url), "ref": ref, "commit": commit}
    if pin is not None:
        origin["keycodemapdb"] = pin.revision
    return QemuTree(state.git, imported.tree, imported.version, origin)
