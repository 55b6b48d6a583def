"""A patched work tree for people (`patches checkout`), and the way back into the series (`patches refresh`)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from xenqemu.errors import PatchError, SourceError, UsageError, is_disk_full
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
    """What `refresh` did with one topic's file.

    `action` is unchanged, rewritten, new, missing (from the work tree) or kept (a copy of the earlier content, for
    later QEMUs, that `split` made necessary). `also_for` names the other supported QEMU series that use the same file
    and need another `patches check`.
    """

    topic: str
    file: str
    action: str
    also_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Change:
    """A commit of the work tree, or several for one topic: from `parent` to `commit`."""

    topic: str | None
    parent: str
    commit: str
    message: str


@dataclass
class _Plan:
    """What is to be written, complete before the first byte is."""

    files: dict[Path, str] = field(default_factory=dict)
    listed: list[tuple[str, str | None, str]] = field(default_factory=list)
    results: list[RefreshedTopic] = field(default_factory=list)

    def carry_out(self, catalogue: Path) -> tuple[RefreshedTopic, ...]:
        for path, content in self.files.items():
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, content.encode())
        text = catalogue.read_text("utf-8")
        for name, previous, summary in self.listed:
            text = _listed(text, name, previous, summary)
        if self.listed:
            write_atomic(catalogue, text.encode())
        return tuple(self.results)


def checkout_series(ref_kind: str, commit: str, version: Version, folder: Path, state: StateDir) -> Path:
    """Make `folder` a git work tree with the series on top of the pristine QEMU, one commit a topic, and return it.

    `ref_kind` is the kind under which `GitStore.keep` keeps `commit`. Raises `UsageError` when `folder` is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", "give a folder that does not exist")
    try:
        return _make_work_tree(ref_kind, commit, version, folder, GitStore.open(state))
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(f"{folder} cannot be written: {error.strerror}", "give another folder") from error


def _make_work_tree(ref_kind: str, commit: str, version: Version, folder: Path, store: GitStore) -> Path:
    from git import Repo

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
    QEMU is rewritten, or with `split` a new one named after its version, so that other QEMUs keep theirs. All of it is
    worked out before anything is written.

    Raises `SourceError` when `folder` is no such work tree or a rebase is under way, `UsageError` for uncommitted
    changes without a `topic`, an unknown one, or files that git does not know, `PatchError` when the changes do not
    fit the topic, a topic's commits are apart, or a commit has no description.
    """
    repo = _open(folder)
    base, version = _base(repo, folder)
    chosen = {entry.name: (entry, path) for entry, path in select(series, version)}
    untracked = repo.git.ls_files("--others", "--exclude-standard").splitlines()
    if untracked:
        raise UsageError(
            f"{folder} has files that git does not know: {', '.join(untracked[:3])}",
            "`git add` and commit them, or remove them; new files of the target belong under targets/",
        )
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
    match = re.search(rf"^{TOPIC_TRAILER}: (.+)$", message, re.MULTILINE)
    if match is not None and not re.fullmatch(r"[a-z0-9][a-z0-9-]*", match[1]):
        raise PatchError(f"'{match[1]}' is no name for a topic", "name it like 030-what-it-does")
    return match[1] if match else None


def _changes(repo: Repo, base: str) -> list[_Change]:
    """Return the work tree's changes in order, adjacent commits of one topic as one; generated ones are checked."""
    changes: list[_Change] = []
    for commit in reversed(list(repo.iter_commits(f"{base}..HEAD", first_parent=True))):
        message = str(commit.message)
        if f"{GENERATED_TRAILER}:" in message:
            _refuse_generated_changes(repo, commit.hexsha, message)
            continue
        topic = _topic_of(message)
        last = changes[-1] if changes else None
        if last is not None and topic is not None and last.topic == topic and last.commit == commit.parents[0].hexsha:
            changes[-1] = _Change(topic, last.parent, commit.hexsha, last.message)
        elif topic is not None and any(change.topic == topic for change in changes):
            raise PatchError(
                f"topic {topic} has commits that are apart",
                "put them next to each other with `git rebase --interactive`, and run refresh again",
            )
        else:
            changes.append(_Change(topic, commit.parents[0].hexsha, commit.hexsha, message))
    return changes


def _write_back(
    series: Series,
    repo: Repo,
    base: str,
    version: Version,
    chosen: dict[str, tuple[Topic, Path]],
    split: bool,
) -> tuple[RefreshedTopic, ...]:
    plan = _Plan()
    topics = {topic.name: topic for topic in series.topics}
    previous: str | None = None
    seen: set[str] = set()
    for change in _changes(repo, base):
        content = _patch_text(repo, change)
        name = change.topic or _new_name(series, previous, change.message)
        if name in chosen:
            _plan_rewrite(plan, series, repo, chosen[name], version, content, split)
        else:
            path = series.folder / name / f"{version.major}.{version.minor}.patch"
            plan.files[path] = content
            plan.results.append(RefreshedTopic(name, path.relative_to(series.folder).as_posix(), "new"))
            if name not in topics:
                plan.listed.append((name, previous, change.message.splitlines()[0]))
        seen.add(name)
        previous = name
    plan.results += [
        RefreshedTopic(name, path.relative_to(series.folder).as_posix(), "missing")
        for name, (_, path) in chosen.items()
        if name not in seen
    ]
    return plan.carry_out(series.folder / "series.toml")


def _plan_rewrite(
    plan: _Plan,
    series: Series,
    repo: Repo,
    entry: tuple[Topic, Path],
    version: Version,
    content: str,
    split: bool,
) -> None:
    topic, path = entry
    before = path.read_text("utf-8")

    def add(action: str, file: Path, also_for: tuple[str, ...] = ()) -> None:
        name = file.relative_to(series.folder).as_posix()
        plan.results.append(RefreshedTopic(topic.name, name, action, also_for))

    if _patch_id(repo, content) == _patch_id(repo, before):
        add("unchanged", path)
        return
    own = f"{version.major}.{version.minor}"
    users = [name for name in series.supported if name != own and topic.file_for(Version(name)) == path]
    target = path.with_name(f"{own}.patch") if split else path
    plan.files[target] = content
    add("rewritten", target, () if split and target != path else tuple(users))
    later = [name for name in users if Version(name) > version]
    if split and target != path and later:
        # A file serves every version from its own up to the next file, so the first later one needs its own too.
        kept = path.with_name(f"{later[0]}.patch")
        plan.files[kept] = before
        add("kept", kept)


def _patch_text(repo: Repo, change: _Change) -> str:
    """Return the change as a patch file of the series; see `patchfile.read_patch` for the form."""
    subject, _, body = change.message.partition("\n")
    lines = [line for line in body.strip().splitlines() if not line.startswith(f"{TOPIC_TRAILER}: ")]
    description = "\n".join(lines).strip()
    if not description:
        raise PatchError(
            f"the commit '{subject}' has no description",
            "say in its message what breaks without it, since which QEMU, and what in Xen's toolstack it answers to",
        )
    options = ("--no-color", "--no-ext-diff", "--no-renames", "--abbrev=12")
    stat = repo.git.diff(change.parent, change.commit, "--stat=80", *options)
    diff = repo.git.diff(change.parent, change.commit, *options, strip_newline_in_stdout=False)
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


def _listed(text: str, name: str, previous: str | None, summary: str) -> str:
    """Return series.toml's `text` with a `[[topic]]` after `previous`, every other byte as it was."""
    quoted = summary.replace("\\", "\\\\").replace('"', '\\"')
    entry = f'[[topic]]\nname = "{name}"\nsummary = "{quoted}"\n'
    at = len(text)
    if previous is not None:
        found = re.search(rf'^name\s*=\s*"{re.escape(previous)}"', text, re.MULTILINE)
        following = re.compile(r"^(?:#.*\n)*\[\[topic\]\]", re.MULTILINE).search(text, found.end() if found else at)
        at = following.start() if following else at
    separator = "" if text[:at].endswith("\n\n") else "\n"
    return f"{text[:at]}{separator}{entry}{chr(10) if at < len(text) else ''}{text[at:]}"


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
