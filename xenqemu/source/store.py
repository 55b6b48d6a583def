"""The import of a source into the object store."""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from packaging.version import Version

from xenqemu.errors import MissingError, SourceError
from xenqemu.gitstore import AUTHOR, EMAIL, GitStore, clean_environment
from xenqemu.proc import CommandFailedError, Completed, run
from xenqemu.source.entries import Entry
from xenqemu.source.identify import Identification
from xenqemu.source.normalise import normalise
from xenqemu.state import StateDir
from xenqemu.ui import Ui

# gitstore.DATE in the one form that `git fast-import --date-format=raw` takes.
_WHO = f"{AUTHOR} <{EMAIL}> 1281571200 +0000".encode()
# Counts changes of what normalise.py drops: trees that were imported by other rules are not taken for today's.
_RULES = 1


def has_tree(state: StateDir, tree: str) -> bool:
    """Return whether the tree with id `tree` was imported into `state`."""
    if not state.git.is_dir():
        return False
    argv = ("git", "--git-dir", state.git, "rev-parse", "--quiet", "--verify", f"refs/xenqemu/tree/{tree}^{{tree}}")
    return run(argv, env=clean_environment(), check=False).stdout.strip() == tree


@dataclass(frozen=True)
class Imported:
    """What an import gave: the tree's id and the version that its `VERSION` file says."""

    tree: str
    version: Version


@dataclass
class _Stream:
    """The conversation with `git fast-import`: blobs as they come, then one commit that has them all."""

    pipe: IO[bytes]
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def add(self, entry: Entry, content: bytes) -> None:
        mark = len(self.files) + 1
        self.pipe.write(b"blob\nmark :%d\ndata %d\n" % (mark, len(content)))
        self.pipe.write(content)
        self.pipe.write(b"\n")
        self.files[entry.path] = (entry.mode, mark)

    def commit(self, ref: str, message: str) -> None:
        text = message.encode()
        self.pipe.write(
            b"commit %s\nauthor %s\ncommitter %s\ndata %d\n%s\n" % (ref.encode(), _WHO, _WHO, len(text), text)
        )
        for path, (mode, mark) in self._all():
            self.pipe.write(b"M %s :%d %s\n" % (mode.encode(), mark, _quoted(path)))
        self.pipe.write(b"done\n")

    def _all(self) -> Iterator[tuple[str, tuple[str, int]]]:
        yield from self.files.items()
        for path, target in self.links.items():
            seen = {path}
            while target in self.links and target not in seen:
                seen.add(target)
                target = self.links[target]
            if target not in self.files:
                raise SourceError(
                    f"{path} is a hard link to {target}, which is not there", "the archive is damaged: get it again"
                )
            yield path, self.files[target]


def _quoted(path: str) -> bytes:
    """Return `path` as `git fast-import` wants it: C-style quoted where it could be misread."""
    raw = os.fsencode(path)
    if not any(byte in b'"\\' or byte < 0x20 for byte in raw):
        return raw
    return b'"' + b"".join(b"\\%03o" % byte if byte in b'"\\' or byte < 0x20 else bytes((byte,)) for byte in raw) + b'"'


def import_once(
    key: str, entries: Callable[[], Generator[Entry, None, None]], state: StateDir, ui: Ui, what: str
) -> Imported:
    """Import what `entries()` yields, unless that was done before for `key`, the identity of the unnormalised source.

    `what` is the source's name in messages. A ref of the tree's own id keeps it. An interrupted import leaves
    nothing but a temporary file, which the next one removes. Raises `SourceError` when the entries are not a QEMU,
    `MissingError` without keycodemapdb or disk space, and what reading the entries raises.
    """
    imported = _recall(key, state)
    if imported is not None:
        return imported
    git = GitStore.open(state).path
    with state.lock("import", ui):
        imported = _recall(key, state)  # another run may have done it meanwhile
        if imported is None:
            _sweep(git)
            with ui.step(f"importing {what}"), state.scratch("import") as scratch, closing(entries()) as unfiltered:
                imported = _import(normalise(unfiltered, scratch), git, what)
            facts = {"rules": _RULES, "tree": imported.tree, "version": str(imported.version)}
            state.remember("source", key, facts)
    return imported


def _recall(key: str, state: StateDir) -> Imported | None:
    facts = state.recall("source", key)
    if facts is None or facts.get("rules") != _RULES or not has_tree(state, facts["tree"]):
        return None
    return Imported(facts["tree"], Version(facts["version"]))


def _import(entries: Iterable[Entry], git: Path, what: str) -> Imported:
    incoming = f"refs/xenqemu/incoming/{uuid.uuid4().hex}"
    identification = Identification(what)
    # Deltas (--depth) would take a quarter more time and save a thirtieth of the space.
    argv = ("git", "--git-dir", git, "fast-import", "--quiet", "--done", "--depth=0", "--date-format=raw")
    with _feeding(argv, git) as stream:
        for entry in entries:
            content = b"" if entry.link is not None else entry.read()
            identification.see(entry.path, content)
            if entry.link is not None:
                stream.links[entry.path] = entry.link
            else:
                stream.add(entry, content)
        version = identification.version()
        stream.commit(incoming, f"QEMU {version}")
    named = run(("git", "--git-dir", git, "rev-parse", incoming, f"{incoming}^{{tree}}"), env=clean_environment())
    commit, tree = named.stdout.split()
    refs = f"update refs/xenqemu/tree/{tree} {commit}\ndelete {incoming}\n"
    run(("git", "--git-dir", git, "update-ref", "--stdin"), env=clean_environment(), stdin=refs.encode())
    return Imported(tree, version)


@contextmanager
def _feeding(argv: tuple[str | Path, ...], git: Path) -> Iterator[_Stream]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            argv, env=clean_environment(), stdin=subprocess.PIPE, stdout=said, stderr=said, bufsize=1 << 20
        )
        pipe = process.stdin
        if pipe is None:
            raise AssertionError("Popen gives the pipe that it was asked for")
        try:
            yield _Stream(pipe)
            pipe.close()
        except BrokenPipeError:
            pass  # it ended first, and has said why
        except BaseException:
            # Without the `done` line at the end of the stream, nothing of it becomes visible.
            process.kill()
            raise
        finally:
            with suppress(OSError):
                pipe.close()
            code = process.wait()
        if code != 0:
            said.seek(0)
            text = said.read().decode("utf-8", "backslashreplace")
            if "No space left" in text:
                raise MissingError(f"no space left in {git}", "free some, or choose another --state-dir")
            raise CommandFailedError(_completed(argv, code, text))


def _completed(argv: tuple[str | Path, ...], code: int, text: str) -> Completed:
    return Completed(tuple(map(str, argv)), code, "", text)


def _sweep(git: Path) -> None:
    """Remove what killed imports left; the import lock, which the caller holds, says that none is running."""
    for pattern in ("objects/pack/tmp_pack_*", "objects/pack/tmp_idx_*", "fast_import_crash_*"):
        for path in git.glob(pattern):
            path.unlink(missing_ok=True)
