"""What came of the contract's guests is kept for each device model, so that a later look at it finds all of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from xenqemu.build.manifest import file_sha256
from xenqemu.contract.outcome import Outcome, RunReport, facts
from xenqemu.state import StateDir

_KIND = "contract"


def keep_run(report: RunReport, model: Path, state: StateDir, *, whole: bool) -> None:
    """Keep what `report` says of the device model in the file `model`, by the hash of its content and by its Xen.

    A `whole` run takes the place of what was kept; one of single cases puts them into it. Raises `OSError`.
    """
    digest = file_sha256(model)
    kept = dict(kept_runs(digest, state))
    said = facts(report)
    cases = {case["case"]: case for case in ([] if whole else _cases(kept.get(report.xen)))}
    cases |= {case["case"]: case for case in said["cases"]}
    counted = {kind.value: sum(case.get("outcome") == kind.value for case in cases.values()) for kind in Outcome}
    kept[report.xen] = {
        "qemu": said["qemu"],
        "xen": report.xen,
        "finished": datetime.now().astimezone().isoformat(" ", "minutes"),
        "counts": {kind: number for kind, number in counted.items() if number},
        "cases": list(cases.values()),
    }
    state.remember(_KIND, digest, {"runs": kept})


def kept_runs(digest: str, state: StateDir) -> Mapping[str, Mapping[str, Any]]:
    """Return what is kept of the device model whose content has the SHA-256 `digest`: by Xen, as `facts` has it.

    The logs and the time taken are not in it, as runs of single cases are put together; `finished` is the last one's.
    """
    runs = (state.recall(_KIND, digest) or {}).get("runs")
    return {xen: run for xen, run in runs.items() if isinstance(run, dict)} if isinstance(runs, dict) else {}


def _cases(run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [case for case in (run or {}).get("cases", ()) if isinstance(case, dict) and "case" in case]
