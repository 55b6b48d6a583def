"""A pipeline for a CI system, rendered from a template and written where the system looks for it."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from xenqemu.errors import UsageError
from xenqemu.state import write_atomic
from xenqemu.templates import text_environment

# A system starts that many jobs at once at most; with more, each would set up more than it builds.
_MOST_SHARDS = 4


@dataclass(frozen=True)
class System:
    """A CI system: where it looks for a pipeline, and the template of one."""

    name: str
    file: Path
    template: str


@dataclass(frozen=True)
class CiRequest:
    """What a pipeline is to do: build each of `qemus` for each of `xens` with each of `profiles`, and boot `boot`.

    These are words as `xenqemu matrix` takes them. `git` and `ref` say where the pipeline gets xenqemu (an empty URL is
    for the user to fill in), `image` in which container it runs; `shards` is how many jobs it has (None: as many as
    there are combinations, up to four).
    """

    qemus: tuple[str, ...]
    xens: tuple[str, ...]
    profiles: tuple[str, ...]
    boot: tuple[str, ...] = ()
    git: str = ""
    ref: str = "main"
    image: str = "debian:12"
    shards: int | None = None

    @property
    def combinations(self) -> int:
        """How many device models there will be."""
        return len(self.qemus) * len(self.xens) * len(self.profiles)

    @property
    def jobs(self) -> int:
        """How many jobs there will be."""
        return self.shards or min(self.combinations, _MOST_SHARDS)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of doctor/requirements.toml whose packages are needed beside those of a plain build."""
        libraries = () if set(self.xens) == {"system"} else ("xen-libs",)
        return libraries if set(self.profiles) == {"hvm"} else (*libraries, "optional")

    def check(self) -> None:
        """Raise `UsageError` for words that a CI system would take for something else, and jobs without work."""
        for word in (*self.qemus, *self.xens, *self.profiles, *self.boot, self.git, self.ref, self.image):
            # `${{ }}` is GitHub's, `$NAME` GitLab's, in every value of a pipeline.
            if "$" in word or not word.isprintable():
                raise UsageError(f"{word!a} cannot be written into a pipeline", "no '$' and no control characters")
        if self.jobs > self.combinations:
            raise UsageError(
                f"{self.combinations} combinations are no work for {self.jobs} jobs", "give a smaller --shards"
            )


def load_systems() -> dict[str, System]:
    """Return the CI systems by name."""
    table = tomllib.loads((resources.files("xenqemu.ci") / "systems.toml").read_text("utf-8"))
    return {name: System(name, Path(entry["file"]), entry["template"]) for name, entry in table.items()}


def render(system: System, request: CiRequest) -> str:
    """Return the pipeline of `request` for `system`; raises what `CiRequest.check` raises."""
    request.check()
    environment = text_environment(
        "xenqemu.ci",
        # GitHub's expressions have the usual ones, shells have others.
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    # Every JSON text is the same text in YAML 1.2 (section 1.3 of its specification).
    environment.filters["quoted"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.get_template(system.template).render(request=request, system=system)


def write_pipeline(path: Path, text: str, *, force: bool) -> None:
    """Write a pipeline to `path`; with `force` also over a file that is there.

    Raises `UsageError` when there is one (nothing is changed then), or when `path` cannot be written.
    """
    aside = path.with_name(f".{path.name}.xenqemu-new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if force:
            write_atomic(path, text.encode())
            return
        write_atomic(aside, text.encode())
        try:
            os.link(aside, path)  # unlike a rename, it replaces nothing
        except FileExistsError as error:
            raise UsageError(f"{path} is there already", "give another --out, or --force to replace it") from error
        finally:
            aside.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "name another file with --out") from error
