"""`xenqemu bench`: what a device model takes and costs, beside others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from xenqemu.bench.model import PARTS, USUAL_PARTS
from xenqemu.cli import complete
from xenqemu.cli.common import DeviceModelName, jobs_option, json_option, print_json, print_table, session
from xenqemu.cli.help import examples


class _Parts(click.ParamType[tuple[str, ...]]):
    """Parts of a run, with commas between them."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the parts that `value` names."""
        words = value if isinstance(value, tuple) else tuple(word.strip() for word in str(value).split(","))
        for word in words:
            if word not in PARTS:
                self.fail(f"there is no part '{word}': name some of {', '.join(PARTS)}", param, ctx)
        return words


_EXAMPLES = examples(
    "xenqemu bench --dm dist/bin/qemu-system-xen --dm /usr/libexec/xen-qemu-system-i386 --only size,lab",
    "xenqemu bench --against guide --against xenqemu --only build --repeat 1",
    "xenqemu bench --all --page docs/benchmarks.md",
)


@click.command("bench", epilog=_EXAMPLES)
@click.option(
    "--dm",
    "device_models",
    metavar="BINARY",
    multiple=True,
    type=DeviceModelName(),
    help="Measure this device model, or `distro`; without --against, only those.",
)
@click.option(
    "--against",
    metavar="NAME",
    multiple=True,
    shell_complete=complete.contenders,
    help="Measure this one of the contenders.  [all of them]",
)
@click.option(
    "--only", "parts", metavar="LIST", type=_Parts(), default=USUAL_PARTS, help="Of build,size,lab,configs,boots."
)
@click.option("--all", "everything", is_flag=True, help="All parts: configs and boots as well.")
@click.option("--repeat", metavar="N", type=click.IntRange(min=1), default=3, show_default=True, help="Repetitions.")
@click.option("--boots", metavar="N", type=click.IntRange(min=1), default=5, show_default=True, help="Of part boots.")
@click.option("--series", metavar="SERIES", default="10.2", show_default=True, help="QEMU to build, from the archive.")
@click.option(
    "--tarball", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Or this."
)
@click.option("--work", metavar="DIR", type=click.Path(path_type=Path), help="Builds and results.  [STATE/bench]")
@click.option("--page", metavar="FILE", type=click.Path(path_type=Path), help="Also put the results into this page.")
@jobs_option
@json_option
def command(
    device_models: tuple[Path | str, ...],
    against: tuple[str, ...],
    parts: tuple[str, ...],
    everything: bool,
    as_json: bool,
    page: Path | None,
    **options: Any,
) -> None:
    """Measure device models and their builds side by side.

    Contenders are the usual manual build, the same trimmed by hand, the distributions' packages, xenqemu's own, and any
    binary of yours. An interrupted run goes on where it stopped; what has been measured is not measured again.
    """
    from xenqemu.bench.model import contenders_for, judge
    from xenqemu.bench.page import write_page
    from xenqemu.bench.report import as_json as as_values
    from xenqemu.bench.report import row_table, table, verdict_table
    from xenqemu.bench_pipeline import BenchRequest, run_bench

    context = session({"jobs": options["jobs"]})
    request = BenchRequest(
        contenders=contenders_for(device_models, against),
        parts=PARTS if everything else parts,
        work=options["work"] or context.state.root / "bench",
        repeat=options["repeat"],
        jobs=context.settings.number("jobs") or os.cpu_count() or 1,
        tarball=options["tarball"],
        series=options["series"],
        boots=options["boots"],
    )
    results = run_bench(request, context.state, context.ui)
    if page is not None:
        write_page(page, results)
    if as_json:
        print_json(as_values(results))
        return
    print_table(*table(results))
    if any(verdict.value is not None for verdict in judge(results)):
        print_table(*verdict_table(results))
    if results.rows:
        print_table(*row_table(results))
