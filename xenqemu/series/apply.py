"""Applying the series to a tree, as commits, without a checkout."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from packaging.version import Version

from xenqemu.errors import PatchError
from xenqemu.gitstore import GitStore, StoreIndex
from xenqemu.series.catalogue import check_supported, is_listed, select
from xenqemu.series.model import AppliedPatch, Hunk, PatchedTree, Series, Topic
from xenqemu.series.patchfile import PatchFile, closest_lines, read_patch
from xenqemu.source.model import QemuTree
from xenqemu.state import StateDir
from xenqemu.ui import Ui

# git's words in apply.c: apply_one_fragment() and apply_patch(), with LC_ALL=C
_CHECKING = re.compile(r"Checking patch (?:.* => )?(.+?)\.\.\.$")
_OFFSET = re.compile(r"Hunk #(\d+) succeeded at (\d+) \(offset -?\d+ lines?\)")
_REDUCED = re.compile(r"Context reduced to \((\d+)/(\d+)\) to apply fragment at")
_FAILED = re.compile(r"error: patch failed: (.+):(\d+)$", re.MULTILINE)
_ABSENT = re.compile(r"error: (.+): does not exist in index$", re.MULTILINE)
_CONTEXT = 3


def warn_unlisted(series: Series, version: Version, ui: Ui) -> None:
    """Say so when QEMU `version` is not one of the releases that are tested."""
    if not is_listed(series, version):
        tested = ", ".join(series.supported)
        ui.warn(f"QEMU {version} is not one of the tested releases ({tested}): trying the series")


def apply_series(series: Series, tree: QemuTree, state: StateDir, ui: Ui) -> PatchedTree:
    """Apply what `series` has for the version of `tree` and return the result; the same input gives the same commit.

    Raises `SourceError` for a version outside the supported range and `PatchError` naming topic, file, hunk and the
    lines found instead when a patch does not apply. For a version between the supported ones that is tried and said.
    """
    check_supported(series, tree.version)
    listed = is_listed(series, tree.version)
    warn_unlisted(series, tree.version, ui)
    chosen = select(series, tree.version)
    key = _key(tree, chosen)
    store = GitStore.open(state)
    known = state.recall("series", key)
    if known is not None and store.has(known["commit"]):
        return _restore(known, tree, listed)
    with ui.step(f"apply the series ({len(chosen)} patches) to QEMU {tree.version}"):
        base, applied = apply_all(store, tree, chosen, series.folder)
    result = PatchedTree(applied[-1].commit if applied else base, base, tree.version, listed, applied)
    store.keep(result.commit, "patched")
    state.remember(
        "series", key, {"commit": result.commit, "base": base, "patches": [asdict(patch) for patch in applied]}
    )
    return result


def apply_what_applies(series: Series, tree: QemuTree, state: StateDir, ui: Ui) -> PatchedTree:
    """Apply the topics that apply to `tree`, whatever its version, and warn of each that does not.

    For making the series fit a QEMU that it does not fit yet.
    """
    warn_unlisted(series, tree.version, ui)
    store = GitStore.open(state)
    base, applied = apply_all(
        store,
        tree,
        select(series, tree.version),
        series.folder,
        on_failure=lambda topic, path, error: ui.warn(f"left out: {error.message}"),
    )
    result = PatchedTree(
        applied[-1].commit if applied else base, base, tree.version, is_listed(series, tree.version), applied
    )
    store.keep(result.commit, "patched")
    return result


def _key(tree: QemuTree, chosen: tuple[tuple[Topic, Path], ...]) -> str:
    inputs = [tree.tree, str(tree.version)]
    for topic, path in chosen:
        inputs += [topic.name, *(f"{file.name} {_sha256(file)}" for file in (path, *topic.neighbours(path)))]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _restore(known: dict[str, object], tree: QemuTree, listed: bool) -> PatchedTree:
    patches = tuple(
        AppliedPatch(**{**entry, "hunks": tuple(Hunk(**hunk) for hunk in entry["hunks"])})
        for entry in known["patches"]  # type: ignore[attr-defined]
    )
    return PatchedTree(str(known["commit"]), str(known["base"]), tree.version, listed, patches)


def apply_all(
    store: GitStore,
    tree: QemuTree,
    chosen: tuple[tuple[Topic, Path], ...],
    folder: Path,
    on_failure: Callable[[Topic, Path, PatchError], None] | None = None,
) -> tuple[str, tuple[AppliedPatch, ...]]:
    """Apply `chosen` in order and return the pristine commit and what was applied.

    A failure raises `PatchError`, or is given to `on_failure` and the next topic goes on without it.
    """
    base = store.commit(tree.tree, None, f"QEMU {tree.version}")
    applied: list[AppliedPatch] = []
    with store.index(tree.tree) as index:
        parent = base
        for topic, path in chosen:
            try:
                used, patch, hunks = _apply_topic(index, topic, path, tree.version)
            except PatchError as error:
                if on_failure is None:
                    raise
                on_failure(topic, path, error)
                continue
            parent = store.commit(index.write_tree(), parent, patch.message(topic.name))
            name = used.relative_to(folder).as_posix()
            applied.append(AppliedPatch(topic.name, name, _sha256(used), parent, hunks))
    return base, tuple(applied)


def _apply_topic(
    index: StoreIndex, topic: Topic, path: Path, version: Version
) -> tuple[Path, PatchFile, tuple[Hunk, ...]]:
    """Apply the topic's file; where that fails, the one before or after it may fit a QEMU in between."""
    patch = read_patch(path)
    try:
        return path, patch, apply_patch(index, topic.name, patch, version)
    except PatchError as error:
        for neighbour in topic.neighbours(path):
            other = read_patch(neighbour)
            with suppress(PatchError):
                return neighbour, other, apply_patch(index, topic.name, other, version)
        raise error from None


def apply_patch(index: StoreIndex, topic: str, patch: PatchFile, version: Version) -> tuple[Hunk, ...]:
    """Apply one patch to `index` and return how its hunks went in.

    With all context first, then with fewer context lines (what patch(1) calls fuzz). Raises `PatchError`.
    """
    file = index.scratch / "patch"
    file.write_text(patch.diff, "utf-8")
    first = ""
    for context in range(_CONTEXT, 0, -1):
        status, _, output = index.repo.git.apply(
            "--cached",
            "--verbose",
            "--whitespace=nowarn",
            f"-C{context}",
            str(file),
            with_extended_output=True,
            with_exceptions=False,
        )
        if status == 0:
            return _hunks(patch, str(output))
        first = first or str(output)
    raise _explain(index, topic, patch, version, first)


def _hunks(patch: PatchFile, output: str) -> tuple[Hunk, ...]:
    """Read off git's output how each hunk went in.

    Where context was ignored the offset is worked out from the line: git's own number is too high by two for each
    ignored leading line (apply.c, apply_one_fragment() moves its starting point the wrong way).
    """
    known = {(hunk.path, hunk.number): hunk for hunk in patch.hunks}
    offsets: dict[tuple[str, int], int] = {}
    fuzz: dict[str, int] = {}
    here = ("", 0)
    for line in output.splitlines():
        if match := _CHECKING.match(line):
            here = (match[1], 0)
        elif match := _OFFSET.match(line):
            here = (here[0], int(match[1]))
            offsets[here] = int(match[2]) - known[here].target_start
        elif match := _REDUCED.match(line):
            fuzz[here[0]] = max(fuzz.get(here[0], 0), _CONTEXT - min(int(match[1]), int(match[2])))
            if here in offsets:
                offsets[here] -= known[here].leading - int(match[1])
    return tuple(
        Hunk(hunk.path, hunk.number, offsets.get((hunk.path, hunk.number), 0), fuzz.get(hunk.path, 0))
        for hunk in patch.hunks
    )


def _explain(index: StoreIndex, topic: str, patch: PatchFile, version: Version, output: str) -> PatchError:
    """Return the error for a patch that did not apply: topic, file, hunk, and the lines found instead."""
    where = f"{patch.path.parent.name}/{patch.path.name}"
    if _applies_reversed(index):
        return PatchError(
            f"topic {topic} ({where}) is already in this QEMU {version}",
            "give the QEMU without the series; `xenqemu patches refresh` takes changes of a patched work tree back",
        )
    if match := _ABSENT.search(output):
        return PatchError(
            f"topic {topic} ({where}) changes {match[1]}, which QEMU {version} does not have",
            "the file was moved or removed upstream: `xenqemu patches checkout` and `refresh` make a patch that fits",
        )
    match = _FAILED.search(output)
    hunk = next((hunk for hunk in patch.hunks if match and hunk.path == match[1] and hunk.start == int(match[2])), None)
    if match is None or hunk is None:
        return PatchError(f"topic {topic} ({where}) does not apply to QEMU {version}: {output.strip()}")
    line, differing = closest_lines(hunk, index.read(hunk.path) or "")
    shown = "".join(f"\n  wanted: {want}\n  found:  {have}" for want, have in differing[:3])
    return PatchError(
        f"topic {topic} ({where}) does not apply to QEMU {version}: "
        f"hunk {hunk.number} of {hunk.path} at line {hunk.start}, nearest place line {line}:{shown}",
        "make a patch that fits with `xenqemu patches checkout` and `xenqemu patches refresh`, see docs/series.md",
    )


def _applies_reversed(index: StoreIndex) -> bool:
    status, _, _ = index.repo.git.apply(
        "--cached",
        "--check",
        "--reverse",
        str(index.scratch / "patch"),
        with_extended_output=True,
        with_exceptions=False,
    )
    return bool(status == 0)
