"""`python -m benchmarks`: what xenqemu takes, beside doing the same by hand where that can be, in one run."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks import binary, boots, configs, guide, ours, report

PARTS = ("build", "configs", "boots")


@click.command()
@click.option("--series", default="10.2", show_default=True, help="QEMU series to take from the package archive.")
@click.option("--tarball", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="This one instead.")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True)
@click.option("--only", "parts", type=click.Choice(PARTS), multiple=True, help="Only this part, or these.")
@click.option("--boots", "count", type=click.IntRange(min=1), default=5, show_default=True, help="Boots of a guest.")
@click.option(
    "--dm", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Boot with it.  [what is built]"
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the results to this file.")
@click.option("--work", type=click.Path(path_type=Path), help="Build here, and keep it. [a temporary folder]")
def main(
    series: str,
    tarball: Path | None,
    jobs: int,
    parts: tuple[str, ...],
    count: int,
    dm: Path | None,
    json_file: Path | None,
    work: Path | None,
) -> None:
    """Measure. Takes some minutes, needs 3 GB and what `scripts/bootstrap --for test` installs."""
    wanted = parts or PARTS
    if "boots" in wanted and "build" not in wanted and dm is None:
        raise click.UsageError("--only boots needs a device model: --dm")
    folder = work.absolute() if work else Path(tempfile.mkdtemp(prefix="xenqemu-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    say = Console(stderr=True).print
    measured: tuple[report.Row, ...] = ()
    data: dict[str, object] = {"jobs": jobs}
    try:
        if "build" in wanted:
            say("source ...")
            archive = tarball.absolute() if tarball else ours.fetch(series, folder)
            say(f"xenqemu build of {archive.name} ...")
            built = ours.build(archive, folder, jobs)
            say("manual build ...")
            manual = guide.build(archive, folder, jobs)
            measured += report.rows(manual, built, binary.examine(manual.program), binary.examine(built.program))
            data |= {"source": archive.name, "stand_ins": manual.stand_ins}
            dm = dm or built.program
        if "configs" in wanted:
            say(f"xenqemu vm use of {configs.COUNT:,} configs ...")
            measured += configs.rows(folder)
        if "boots" in wanted and dm is not None:
            say("xenqemu lab ...")
            measured += boots.measure(dm, folder, count, say).rows()
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)
    Console().print(report.table(measured, f"{data.get('source', 'xenqemu')}, {jobs} jobs"))
    if json_file:
        json_file.write_text(json.dumps(data | {"rows": [row.as_json() for row in measured]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
