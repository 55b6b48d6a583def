"""A QEMU in a git checkout, which is only ever read."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xenqemu.errors import MissingError, SourceError
from xenqemu.source.directory import disk_entry, walk
from xenqemu.source.entries import Entry
from xenqemu.source.gitio import BlobReader, GitRepo, TreeItem, commit_entries, reading, user_env
from xenqemu.source.identify import require_qemu
from xenqemu.source.keycodemapdb import COMMANDS, Pin, pinned, with_overlay
from xenqemu.source.model import QemuSource, QemuTree
from xenqemu.source.normalise import KEYCODEMAPDB
from xenqemu.source.store import import_once
from xenqemu.state import StateDir
from xenqemu.ui import Ui

# What git keeps in its folder while an operation waits for the user (wt-status.c, wt_status_get_state).
_OPERATIONS = (
    ("rebase-apply/applying", "git am"),
    ("rebase-apply", "a rebase"),
    ("rebase-merge", "a rebase"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_LOG", "a bisect"),
)


@dataclass(frozen=True)
class Change:
    """A path whose content on disk is not that of HEAD; `state` is git's two letters, `??` for untracked."""

    state: str
    path: str


def obtain_checkout(source: QemuSource, state: StateDir, ui: Ui) -> QemuTree:
    """Import HEAD, a ref, or with `source.dirty` the work tree, of a checkout or a bare repository.

    Raises `SourceError` for a checkout that is not as a build needs it (changes, an operation in progress, no such ref,
    not the top folder, another user's) and `MissingError` when keycodemapdb is not there.
    """
    top = Path(source.location).resolve()
    # Git before 2.44 does not know GIT_NO_LAZY_FETCH; with no protocol allowed a partial clone cannot fetch either.
    repo = GitRepo(top, user_env() | {"GIT_ALLOW_PROTOCOL": "none"})
    bare = _require_top(repo)
    if source.ref is None and not bare:
        require_qemu(top)
        _require_no_operation(repo)
    commit = _resolve(repo, source.ref or "HEAD")
    changes = [] if source.ref is not None or bare else uncommitted(repo)
    if source.dirty and (bare or source.ref is not None):
        raise SourceError(
            f"uncommitted changes were asked for, but {top}{'@' + source.ref if source.ref else ''} can have none",
            "use --dirty with a checkout and without @REF",
        )
    if changes and not source.dirty:
        raise _uncommitted(top, changes)
    return _import(source, repo, commit, changes, state, ui)


def _import(source: QemuSource, repo: GitRepo, commit: str, changes: list[Change], state: StateDir, ui: Ui) -> QemuTree:
    dirty = source.dirty and source.ref is None
    # Without its folder: the manifest goes to others, whom this machine's paths tell nothing. The commit identifies it.
    origin = {"kind": source.kind.value, "location": repo.path.name, "commit": commit, "dirty": str(dirty).lower()}
    if source.ref is not None:
        origin["ref"] = source.ref
    changed = _changed(repo, changes)
    with reading(repo) as reader:
        items = repo.tree(commit)
        pin = pinned(items, reader)
        addition = None if pin is None else _local_keycodemapdb(repo, pin, dirty=dirty)
        if dirty:
            origin["diff_sha256"] = _digest(changed)
        if pin is not None:
            origin["keycodemapdb"] = pin.revision
        inner = "" if addition is None else addition.key

        def entries() -> Generator[Entry, None, None]:
            yield from _overlaid(items, reader, changed)
            if pin is not None and addition is not None:
                yield from with_overlay(pin, addition.entries(), items, reader.read)

        key = hashlib.sha256(f"{commit} {_digest(changed)} {inner}".encode()).hexdigest()
        what = f"{repo.path}{'@' + source.ref if source.ref else ''}"
        imported = import_once(key, entries, state, ui, what)
    return QemuTree(state.git, imported.tree, imported.version, origin)


def _overlaid(items: list[TreeItem], reader: BlobReader, changed: dict[str, Entry | None]) -> Iterator[Entry]:
    """Yield the commit's files with those in `changed` in place of the committed ones; None stands for a removal."""
    yield from commit_entries([item for item in items if item.path not in changed], reader)
    for entry in changed.values():
        if entry is not None:
            yield entry


def _changed(repo: GitRepo, changes: list[Change]) -> dict[str, Entry | None]:
    """Return what is on disk for each of `changes`, read now: it is hashed, and later imported."""
    changed: dict[str, Entry | None] = {}
    for change in changes:
        if change.path.endswith("/") or change.path in KEYCODEMAPDB:
            continue  # another repository inside the checkout is no part of it; keycodemapdb is seen to apart
        entry = disk_entry(repo.path / change.path, change.path)
        if entry is not None:
            entry = Entry(entry.path, entry.mode, partial(bytes, entry.read()))
        changed[change.path] = entry
    return dict(sorted(changed.items()))


def _digest(changed: dict[str, Entry | None]) -> str:
    digest = hashlib.sha256()
    for path, entry in changed.items():
        content = "-" if entry is None else f"{entry.mode} {hashlib.sha256(entry.read()).hexdigest()}"
        digest.update(f"{path}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _require_top(repo: GitRepo) -> bool:
    """Return whether the repository is bare; raises `SourceError` unless its top is where the user said."""
    asked = repo.git("rev-parse", "--is-bare-repository", "--is-inside-git-dir", "--show-prefix", check=False)
    if "dubious ownership" in asked.stderr:
        raise SourceError(
            f"{repo.path} belongs to another user, and git refuses to read it",
            f"if you trust it: git config --global --add safe.directory {repo.path}",
        )
    if not asked.ok:
        said = (asked.stderr.strip().splitlines() or ["git gave no reason"])[-1]
        raise SourceError(
            f"{repo.path} is not a git checkout that can be read: {said}", "`git status` there tells more"
        )
    bare, inside, *prefix = asked.stdout.splitlines()
    if inside != "true" and prefix and prefix[0]:
        raise SourceError(
            f"{repo.path} is a folder inside of a git checkout, not its top",
            f"name the top folder of the checkout: {_above(repo.path, prefix[0])}",
        )
    return bare == "true"


def _above(path: Path, prefix: str) -> Path:
    return path.parents[prefix.strip("/").count("/")]


def _require_no_operation(repo: GitRepo) -> None:
    folder = Path(repo.git("rev-parse", "--absolute-git-dir").stdout.rstrip("\n"))
    for marker, name in _OPERATIONS:
        if (folder / marker).exists():
            raise SourceError(
                f"{repo.path} is in the middle of {name}",
                "finish or abort it there, or name a commit with PATH@REF",
            )


def _resolve(repo: GitRepo, ref: str) -> str:
    commit = repo.resolve(f"{ref}^{{commit}}")
    if commit is not None:
        return commit
    if ref == "HEAD":
        raise SourceError(f"{repo.path} has no commit yet", "commit something, or name the folder of another QEMU")
    listed = repo.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags", "refs/remotes")
    raise no_such_ref(ref, str(repo.path), listed.stdout.split())


def no_such_ref(ref: str, where: str, known: list[str]) -> SourceError:
    """Return the error for a `ref` that `where` does not have, with those of the `known` ones that are spelt alike."""
    close = difflib.get_close_matches(ref, known, n=3)
    hint = f"close to it: {', '.join(close)}" if close else "`git branch -a` and `git tag` list what there is"
    return SourceError(f"{where} has no branch, tag or commit '{ref}'", hint)


def uncommitted(repo: GitRepo) -> list[Change]:
    """Return the paths that differ from HEAD and the untracked ones that are not ignored.

    Submodules other than keycodemapdb do not count, because they are no part of the normalised tree. Raises
    `SourceError` when files are left unmerged.
    """
    argv = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=none")
    changes = []
    for line in repo.names(*argv):
        kind, _, rest = line.partition(" ")
        if kind == "?":
            changes.append(Change("??", rest))
        elif kind == "1":
            states, submodule, *_, path = rest.split(" ", 7)
            if submodule == "N..." or path in KEYCODEMAPDB:
                changes.append(Change(states.replace(".", " "), path))
        elif kind == "u":
            path = rest.split(" ", 9)[-1]
            raise SourceError(f"{repo.path}: {path} is not merged", "resolve it there, or name a commit with PATH@REF")
    return changes


def _uncommitted(top: Path, changes: list[Change]) -> SourceError:
    shown = ", ".join(change.path for change in changes[:4])
    more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
    return SourceError(
        f"{top} has uncommitted changes: {shown}{more}",
        f"build with them by --dirty, or without them by --qemu {top}@HEAD",
    )


@dataclass(frozen=True)
class _Local:
    """A keycodemapdb on disk: its files under the path where it belongs, and what identifies them."""

    repo: GitRepo | None
    folder: Path
    path: str
    key: str
    commit: str = ""
    changed: tuple[tuple[str, Entry | None], ...] = ()

    def entries(self) -> Iterator[Entry]:
        if self.repo is None:
            yield from walk(self.folder, f"{self.path}/")
            return
        with reading(self.repo) as reader:
            for entry in _overlaid(self.repo.tree(self.commit), reader, dict(self.changed)):
                yield Entry(f"{self.path}/{entry.path}", entry.mode, entry.read)


def _local_keycodemapdb(repo: GitRepo, pin: Pin, *, dirty: bool) -> _Local:
    """Find the keycodemapdb that the tree pins in the checkout's folders; raises `MissingError`."""
    for path in sorted(KEYCODEMAPDB, key=lambda name: name != pin.path):
        folder = repo.path / path
        if not (folder / ".git").exists():
            if path == pin.path and (folder / "tools" / "keymap-gen").exists():
                files = {entry.path: entry for entry in walk(folder)}
                return _Local(None, folder, pin.path, _digest({**files}))
            continue
        inner = GitRepo(folder, repo.env)
        commit = inner.resolve("HEAD^{commit}" if dirty and path == pin.path else f"{pin.revision}^{{commit}}")
        if commit is not None:
            changed = _changed(inner, uncommitted(inner)) if dirty and path == pin.path else {}
            return _Local(inner, folder, pin.path, f"{commit} {_digest(changed)}", commit, tuple(changed.items()))
    raise MissingError(
        f"{repo.path} lacks {pin.path} at revision {pin.revision[:12]}, which QEMU cannot be built without",
        f"in the checkout: {COMMANDS[pin.path]}",
    )
