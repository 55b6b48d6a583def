"""One patch file: its description for the commit message, and its hunks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import PatchError

TOPIC_TRAILER = "Xenqemu-Topic"
# Marks a commit whose files are rendered from templates, with the digest of what was rendered.
GENERATED_TRAILER = "Xenqemu-Generated"


@dataclass(frozen=True)
class PatchHunk:
    """A hunk as the patch has it.

    `number` counts from 1 in the file, `start` is the first line that it expects, `target_start` the first that it
    makes, `leading` how many context lines come before the first change, `expected` the lines that it expects.
    """

    path: str
    number: int
    start: int
    target_start: int
    leading: int
    expected: tuple[str, ...]


@dataclass(frozen=True)
class PatchFile:
    """A parsed patch: `subject` and `description` for people, `diff` for git, `hunks` in order."""

    path: Path
    subject: str
    description: str
    diff: str
    hunks: tuple[PatchHunk, ...]

    def message(self, topic: str) -> str:
        """Return the commit message of this patch; the trailer ties the commit to its topic for `patches refresh`."""
        body = f"{self.description}\n\n" if self.description else ""
        return f"{self.subject}\n\n{body}{TOPIC_TRAILER}: {topic}"


def read_patch(path: Path) -> PatchFile:
    """Read the patch at `path`: `Subject:` line, description, `---`, diffstat, then a git diff.

    Raises `PatchError` when it has no subject, no description or no hunk.
    """
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PatchError(f"{path} cannot be read: {error}") from error
    head, marker, rest = text.partition("\n---\n")
    subject_line, _, description = head.partition("\n")
    start = rest.find("diff --git ")
    if not marker or not subject_line.startswith("Subject: ") or not description.strip() or start < 0:
        raise PatchError(
            f"{path} is no patch of the series",
            "it needs a line 'Subject: ...', a description, '---' and a diff made by git",
        )
    # The signature that `git format-patch` puts last would count as a line of the last hunk.
    diff = rest[start:].partition("\n-- \n")[0].rstrip("\n") + "\n"
    try:
        hunks = tuple(
            PatchHunk(
                file.path,
                number,
                hunk.source_start,
                hunk.target_start,
                next((position for position, line in enumerate(hunk) if not line.is_context), 0),
                tuple(str(line.value).rstrip("\n") for line in hunk if line.is_context or line.is_removed),
            )
            for file in PatchSet(diff)
            for number, hunk in enumerate(file, 1)
        )
    except UnidiffParseError as error:
        raise PatchError(f"the diff in {path} is malformed: {error}", "make it again with `git diff`") from error
    if not hunks:
        raise PatchError(f"{path} changes nothing", "remove it, or make it again with `git diff`")
    return PatchFile(path, subject_line.removeprefix("Subject: ").strip(), description.strip(), diff, hunks)


def closest_lines(hunk: PatchHunk, text: str) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Return where in `text` the lines of `hunk` fit best (1-based line) and, there, each (wanted, found) that differs.

    The place with the most equal lines wins, and of several the one nearest to where the patch says.
    """
    lines = text.splitlines()
    wanted = hunk.expected
    best, best_score = 0, (-1, 0)
    for start in range(max(1, len(lines) - len(wanted) + 1)):
        equal = sum(1 for want, have in zip(wanted, lines[start:], strict=False) if want == have)
        score = (equal, -abs(start + 1 - hunk.start))
        if score > best_score:
            best, best_score = start, score
    found = lines[best : best + len(wanted)] + [""] * len(wanted)
    return best + 1, tuple((want, have) for want, have in zip(wanted, found, strict=False) if want != have)
