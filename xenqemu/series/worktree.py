"""A patched work tree for people (`patches checkout`), and the way back into the series (`patches refresh`)."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from xenqemu.errors import PatchError, SourceError, UsageError
from xenqemu.gitstore import EMAIL, GitStore, blobs_digest, clean_environment
from xenqemu.series.catalogue import select
from xenqemu.series.model import Series, Topic
from xenqemu.series.patchfile import GENERATED_TRAILER, TOPIC_TRAILER
from xenqemu.state import StateDir, publish, write_atomic

if TYPE_CHECKING:
    from git import Repo

_BUSY = ("rebase-merge", "rebase-apply", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")


@dataclass(frozen=True)
class RefreshedTopic:
    """What `refresh` did with one topic: `action` is unchanged, rewritten, new or missing.

    `also_for` names the other supported QEMU series that use the same file and need another `patches check`.
    """

    topic: str
    file: str
    action: str
    also_for: tuple[str, ...] = ()


def checkout_series(ref_kind: str, commit: str, version: Version, folder: Path, state: StateDir) -> Path:
    """Make `folder` a git work tree with the series on top of the pristine QEMU, one commit a topic, and return it.

    `ref_kind` is the kind under which `GitStore.keep` keeps `commit`. Raises `UsageError` when `folder` is there.
    """
    from git import Repo

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", "give a folder that does not exist")
    store = GitStore.open(state)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        work_tree = Path(scratch) / folder.name
        repo = Repo.init(work_tree, env=clean_environment())
        repo.git.update_environment(**clean_environment())
        repo.git.fetch("--quiet", str(store.path), f"refs/xenqemu/{ref_kind}/{commit}")
        repo.git.checkout("--quiet", "-b", f"xenqemu-{version}", commit)
        repo.close()
        publish(work_tree, folder)
    return folder


def refresh_series(
    series: Series, folder: Path, state: StateDir, *, topic: str | None = None, split: bool = False
) -> tuple[RefreshedTopic, ...]:
    """Write what was changed in the patched work tree `folder` back into the series and say what became of each topic.

    Commits that carry a topic's trailer become that topic's file; a commit without one becomes a new topic after the
    one before it. Uncommitted changes go into `topic`; the work tree itself is not touched. The file that fitted this
    QEMU is rewritten, or with `split` a new one named after its version, so that other QEMUs keep theirs.

    Raises `SourceError` when `folder` is no such work tree or a rebase is under way, `UsageError` for uncommitted
    changes without a `topic` or an unknown one, `PatchError` when they do not fit the topic.
    """
    repo = _open(folder)
    base, version = _base(repo, folder)
    chosen = {entry.name: (entry, path) for entry, path in select(series, version)}
    dirty = bool(repo.git.diff("HEAD", "--name-only"))
    if dirty and topic is None:
        raise UsageError(
            f"{folder} has changes that are not committed",
            "commit them, or name the topic that they belong to with --topic",
        )
    if topic is not None and topic not in chosen:
        raise UsageError(f"the series has no topic {topic} for QEMU {version}", f"one of: {', '.join(chosen)}")
    if not dirty or topic is None:
        return _write_back(series, repo, base, version, chosen, split)
    with _folded(repo, base, topic, state) as folded:
        return _write_back(series, folded, base, version, chosen, split)


def _open(folder: Path) -> Repo:
    from git import InvalidGitRepositoryError, NoSuchPathError, Repo

    try:
        repo = Repo(folder)
    except (InvalidGitRepositoryError, NoSuchPathError):
        raise SourceError(f"{folder} is no git work tree", "`xenqemu patches checkout` makes one") from None
    repo.git.update_environment(**clean_environment())
    busy = next((name for name in _BUSY if (Path(repo.git_dir) / name).exists()), None)
    if busy:
        raise SourceError(f"{folder} is in the middle of a git operation ({busy})", "finish or abort it first")
    return repo


def _base(repo: Repo, folder: Path) -> tuple[str, Version]:
    """Return the pristine commit that the series stands on, and the version that its message names."""
    for commit in repo.iter_commits("HEAD", first_parent=True):
        words = str(commit.message).split()
        if commit.author.email == EMAIL and len(words) == 2 and words[0] == "QEMU":
            try:
                return commit.hexsha, Version(words[1])
            except InvalidVersion:
                break
    raise SourceError(
        f"{folder} is no work tree of the series: no commit of a pristine QEMU below its HEAD",
        "`xenqemu patches checkout` makes one",
    )


@contextmanager
def _folded(repo: Repo, base: str, topic: str, state: StateDir) -> Iterator[Repo]:
    """Enter a copy of the work tree's history in which its uncommitted changes are part of `topic`."""
    from git import GitCommandError, Repo

    commit = next((entry for entry in repo.iter_commits(f"{base}..HEAD") if _trailer(entry.message, topic)), None)
    if commit is None:
        raise PatchError(f"no commit of topic {topic} in this work tree", "commit the change as a topic of its own")
    diff = repo.git.diff("HEAD", "--binary", strip_newline_in_stdout=False)
    with state.scratch("refresh") as scratch:
        copy = Repo.clone_from(repo.working_dir, scratch / "copy", multi_options=["--shared"], env=clean_environment())
        copy.git.update_environment(**clean_environment(), GIT_SEQUENCE_EDITOR="true", GIT_EDITOR="true")
        (scratch / "diff").write_text(diff, "utf-8")
        try:
            copy.git.apply("--index", "--whitespace=nowarn", str(scratch / "diff"))
            copy.git.commit("--quiet", f"--fixup={commit.hexsha}")
            copy.git.rebase("--interactive", "--autosquash", base)
        except GitCommandError as error:
            raise PatchError(
                f"the uncommitted changes do not fit topic {topic}: a later topic changes the same lines",
                "commit them on top, or rebase by hand and run refresh again",
            ) from error
        yield copy
        copy.close()


def _trailer(message: str | bytes, topic: str) -> bool:
    return f"{TOPIC_TRAILER}: {topic}" in str(message).splitlines()


def _topic_of(message: str) -> str | None:
    match = re.search(rf"^{TOPIC_TRAILER}: (\S+)$", message, re.MULTILINE)
    return match[1] if match else None


def _write_back(
    series: Series,
    repo: Repo,
    base: str,
    version: Version,
    chosen: dict[str, tuple[Topic, Path]],
    split: bool,
) -> tuple[RefreshedTopic, ...]:
    results: list[RefreshedTopic] = []
    previous: str | None = None
    seen: set[str] = set()
    for commit in reversed(list(repo.iter_commits(f"{base}..HEAD", first_parent=True))):
        message = str(commit.message)
        if f"{GENERATED_TRAILER}:" in message:
            _refuse_generated_changes(repo, commit.hexsha, message)
            continue
        name = _topic_of(message)
        content = _patch_text(repo, commit.hexsha, message)
        if name is None or name not in chosen:
            name = name or _new_name(series, previous, message)
            path = series.folder / name / f"{version.major}.{version.minor}.patch"
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, content.encode())
            _list_topic(series.folder / "series.toml", name, previous, message.splitlines()[0])
            results.append(RefreshedTopic(name, path.relative_to(series.folder).as_posix(), "new"))
        else:
            results.append(_rewrite(series, repo, chosen[name], version, content, split))
        seen.add(name)
        previous = name
    results += [
        RefreshedTopic(name, path.relative_to(series.folder).as_posix(), "missing")
        for name, (_, path) in chosen.items()
        if name not in seen
    ]
    return tuple(results)


def _rewrite(
    series: Series, repo: Repo, entry: tuple[Topic, Path], version: Version, content: str, split: bool
) -> RefreshedTopic:
    topic, path = entry
    relative = path.relative_to(series.folder).as_posix()
    if _patch_id(repo, content) == _patch_id(repo, path.read_text("utf-8")):
        return RefreshedTopic(topic.name, relative, "unchanged")
    own = f"{version.major}.{version.minor}"
    target = path.with_name(f"{own}.patch") if split else path
    write_atomic(target, content.encode())
    others = tuple(
        name for name in series.supported if name != own and topic.file_for(Version(name)) == path and target == path
    )
    return RefreshedTopic(topic.name, target.relative_to(series.folder).as_posix(), "rewritten", others)


def _patch_text(repo: Repo, commit: str, message: str) -> str:
    """Return the commit as a patch file of the series; see `patchfile.read_patch` for the form."""
    subject, _, body = message.partition("\n")
    lines = [line for line in body.strip().splitlines() if not line.startswith(f"{TOPIC_TRAILER}: ")]
    description = "\n".join(lines).strip()
    if not description:
        raise PatchError(
            f"the commit '{subject}' has no description",
            "say in its message what breaks without it, since which QEMU, and what in Xen's toolstack it answers to",
        )
    options = ("--no-color", "--no-ext-diff", "--no-renames", "--abbrev=12")
    stat = repo.git.diff(f"{commit}^", commit, "--stat=80", *options)
    diff = repo.git.diff(f"{commit}^", commit, *options, strip_newline_in_stdout=False)
    return f"Subject: {subject}\n\n{description}\n---\n{stat}\n\n{diff}"


def _patch_id(repo: Repo, text: str) -> tuple[str, str]:
    """Return what makes two patches the same: their words, and the diff without line numbers."""
    head, _, diff = text.partition("\n---\n")
    with tempfile.TemporaryFile() as file:
        file.write(diff.encode())
        file.seek(0)
        identity = str(repo.git.patch_id("--stable", istream=file))
    return " ".join(head.split()), identity.split(" ")[0]


def _new_name(series: Series, previous: str | None, message: str) -> str:
    """Return the name of a new topic: a number after the topic before it, and the first words of its subject."""
    numbers = [int(topic.name[:3]) for topic in series.topics if topic.name[:3].isdigit()]
    before = int(previous[:3]) if previous and previous[:3].isdigit() else 0
    after = min((number for number in numbers if number > before), default=before + 20)
    words = re.findall(r"[a-z0-9]+", message.splitlines()[0].rpartition(": ")[2].lower())
    return f"{(before + after) // 2:03d}-{'-'.join(words[:5])}"


def _list_topic(catalogue: Path, name: str, previous: str | None, summary: str) -> None:
    """Put a `[[topic]]` into series.toml after `previous`, leaving every other byte alone."""
    text = catalogue.read_text("utf-8")
    if re.search(rf'^name\s*=\s*"{re.escape(name)}"', text, re.MULTILINE):
        return
    quoted = summary.replace("\\", "\\\\").replace('"', '\\"')
    entry = f'[[topic]]\nname = "{name}"\nsummary = "{quoted}"\n'
    at = len(text)
    if previous is not None:
        found = re.search(rf'^name\s*=\s*"{re.escape(previous)}"', text, re.MULTILINE)
        following = re.compile(r"^(?:#.*\n)*\[\[topic\]\]", re.MULTILINE).search(text, found.end() if found else at)
        at = following.start() if following else at
    separator = "" if text[:at].endswith("\n\n") else os.linesep
    write_atomic(catalogue, f"{text[:at]}{separator}{entry}{os.linesep if at < len(text) else ''}{text[at:]}".encode())


def _refuse_generated_changes(repo: Repo, commit: str, message: str) -> None:
    """Raise when the rendered files were changed: they are made from templates, which is where a change belongs."""
    recorded = re.search(rf"^{GENERATED_TRAILER}: ([0-9a-f]+)$", message, re.MULTILINE)
    paths = repo.git.diff(f"{commit}^", commit, "--name-only").splitlines()
    found = blobs_digest({path: repo.git.rev_parse(f"{commit}:{path}") for path in paths})
    if recorded is None or recorded[1] != found:
        raise PatchError(
            "the commit with the generated files was changed in this work tree",
            "put that change into targets/xen-dm-softmmu/ instead; the files are rendered from there",
        )
