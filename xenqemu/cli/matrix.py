"""`xenqemu matrix`: many device models in one go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from xenqemu.cli.common import (
    OFFLOAD,
    cc_option,
    jobs_option,
    json_option,
    matrix_options,
    offload,
    offload_options,
    print_json,
    print_table,
    session,
)
from xenqemu.cli.help import examples
from xenqemu.cli.reporting import report_options, reporting

_EXAMPLES = examples(
    "xenqemu matrix --qemu 7.2,10.0,10.2 --xen 4.17,4.20 --boot boot-sector",
    "xenqemu matrix --qemu 10.2,../qemu@master --shard 2/2 --json",
)


@click.command("matrix", epilog=_EXAMPLES)
@matrix_options(qemu="Releases or sources.  [every supported one]", boot="Boot these cases or groups with each result.")
@click.option("--shard", metavar="I/N", default="1/1", help="Do part I of N, for as many machines.")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), default="dist", show_default=True)
@jobs_option
@cc_option
@offload_options
@report_options
@json_option
def command(
    as_json: bool, shard: str, boot: tuple[str, ...], junit: Path | None, summary: Path | None, **options: Any
) -> int:
    """Build every combination of the QEMUs, Xens and profiles, and print one table.

    Each goes into a folder of its own in --out: DIR/10.2-4.20-hvm. A combination that fails does not stop the others;
    the exit code is the first one's that failed.
    """
    from xenqemu.build.model import BuildOptions
    from xenqemu.lab.cases import find_cases
    from xenqemu.matrix_pipeline import MatrixRequest, parse_shard, report, run_matrix, table
    from xenqemu.series.catalogue import load_series

    chosen = {name.replace("_", "-"): options[name] for name in (*OFFLOAD, "jobs", "cc")}
    context = session(chosen)
    settings = context.settings
    request = MatrixRequest(
        qemus=options["qemus"] or tuple(map(str, load_series().supported)),
        xens=options["xens"],
        profiles=options["profiles"],
        options=BuildOptions(jobs=settings.number("jobs"), cc=settings.optional_text("cc"), offload=offload(settings)),
        out=options["out"].expanduser(),
        boot=tuple(find_cases(boot)),
        shard=parse_shard(shard),
    )
    started = time.monotonic()
    with reporting("matrix", junit, summary) as tell:
        results = run_matrix(request, context.state, context.ui)
        tell(report(results, time.monotonic() - started))
    if as_json:
        print_json({"ok": all(result.ok for result in results), "results": [result.as_dict() for result in results]})
    else:
        print_table(*table(results))
    return next((result.exit_code for result in results if not result.ok), 0)
