"""`python -m benchmarks`: build the same QEMU by hand and with xenqemu, in one run, and print both side by side."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks import binary, configs, guide, ours, report


@click.command()
@click.option("--series", default="10.2", show_default=True, help="QEMU series to take from the package archive.")
@click.option("--tarball", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="This one instead.")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the results to this file.")
@click.option("--work", type=click.Path(path_type=Path), help="Build here, and keep it. [a temporary folder]")
def main(series: str, tarball: Path | None, jobs: int, json_file: Path | None, work: Path | None) -> None:
    """Measure. Takes some minutes, needs 3 GB and what `scripts/bootstrap --for test` installs."""
    folder = work.absolute() if work else Path(tempfile.mkdtemp(prefix="xenqemu-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    say = Console(stderr=True).print
    try:
        say("source ...")
        archive = tarball.absolute() if tarball else ours.fetch(series, folder)
        say(f"xenqemu build of {archive.name} ...")
        built = ours.build(archive, folder, jobs)
        say("manual build ...")
        manual = guide.build(archive, folder, jobs)
        say(f"xenqemu vm use of {configs.COUNT:,} configs ...")
        many = configs.rows(folder)
        measured = report.rows(manual, built, binary.examine(manual.program), binary.examine(built.program)) + many
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)
    Console().print(report.table(measured, f"{archive.name}, {jobs} jobs"))
    if json_file:
        data = {"source": archive.name, "jobs": jobs, "stand_ins": manual.stand_ins}
        json_file.write_text(json.dumps(data | {"rows": [row.as_json() for row in measured]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
