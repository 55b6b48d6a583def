"""A report's facts put together: the build, its manifest, the series, the lab's runs and the contract's results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xenqemu
from xenqemu.errors import MissingError, UsageError
from xenqemu.state import StateDir, write_atomic
from xenqemu.ui import Ui

if TYPE_CHECKING:
    from packaging.version import Version

    from xenqemu.build.hardening import ElfReport
    from xenqemu.build.ninja_log import Step
    from xenqemu.report.model import ContractRun, LabRun, Page, Subject, Table, Tile
    from xenqemu.target.profile import Profile


@dataclass(frozen=True)
class ReportRequest:
    """What to report on (`named`: see `find_subject`), where the page goes, and more results of the contract.

    `contract` are files that `xenqemu contract run --json` wrote, beside what is kept here.
    """

    named: str | None
    out: Path
    contract: Sequence[Path] = ()


@dataclass(frozen=True)
class Written:
    """The page that was written, and how much is on it."""

    path: Path
    key: str
    size: int
    patches: int
    commands: int
    contract_cases: int
    guests: int

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {
            "report": str(self.path),
            "key": self.key,
            "bytes": self.size,
            "patches": self.patches,
            "commands": self.commands,
            "contract_cases": self.contract_cases,
            "guests": self.guests,
        }


def write_report(request: ReportRequest, state: StateDir, ui: Ui) -> Written:
    """Write the page that is requested, whole or not at all, and return where it is and how much is on it.

    Raises what `find_subject` raises, `UsageError` for results that cannot be read or a page that cannot be written,
    and `BuildError` for a program that is damaged.
    """
    from xenqemu.report.page import render
    from xenqemu.report.subject import find_subject

    subject = find_subject(request.named, state)
    steps = _steps(subject, state)
    page = _page(subject, steps, request.contract, state, ui)
    content = render(page).encode()
    try:
        write_atomic(request.out, content)
    except OSError as error:
        raise UsageError(
            f"{request.out} cannot be written: {error.strerror}", "name another file with --out"
        ) from error
    return Written(
        path=request.out,
        key=str(subject.manifest.get("key", "")),
        size=len(content),
        patches=len(page.patches),
        commands=len(steps),
        contract_cases=sum(len(run.table.rows) for run in page.contract),
        guests=sum(len(run.guests) for run in page.runs),
    )


def _page(subject: Subject, steps: Sequence[Step], contract: Sequence[Path], state: StateDir, ui: Ui) -> Page:
    from xenqemu.build.hardening import inspect_elf
    from xenqemu.contract.kept import kept_runs
    from xenqemu.report import inputs, outputs, series
    from xenqemu.report.contract import contract_runs, read_results
    from xenqemu.report.model import Page
    from xenqemu.report.runs import lab_runs
    from xenqemu.report.timeline import build_timeline
    from xenqemu.report.words import table, text
    from xenqemu.resources import data_dir

    manifest = subject.manifest
    elf, timings = inspect_elf(subject.binary), _timings(subject)
    warning = _difference(subject)
    if warning:
        ui.warn(warning)
    note, devices = _devices(subject)
    named = [read_results(path) for path in contract]
    runs = contract_runs([*named, *kept_runs(subject.sha256, state).values()])
    booted = lab_runs(state, subject.sha256, text(manifest, "qemu", "version"))
    return Page(
        title=subject.binary.name,
        lead=_lead(manifest),
        version=xenqemu.__version__,
        warning=warning,
        tiles=_tiles(subject, elf, timings, devices, runs, booted),
        inputs=inputs.input_facts(manifest),
        flags=inputs.flag_groups(manifest),
        input_tables=inputs.input_tables(manifest),
        patches=series.patches(manifest, data_dir("patches")),
        outputs=outputs.output_facts(subject, elf),
        checks=outputs.checks(manifest, elf),
        output_tables=outputs.output_tables(subject, elf),
        device_note=note,
        device_tables=devices,
        timeline=build_timeline(timings, steps, sorted(table(manifest, "cost", "areas"))),
        contract=runs,
        runs=booted,
    )


def _lead(manifest: Mapping[str, Any]) -> str:
    from xenqemu.report.words import text

    qemu, xen = (text(manifest, name, "version") or "?" for name in ("qemu", "xen"))
    return f"QEMU {qemu} for Xen {xen}, profile {text(manifest, 'profile', 'name') or '?'}"


def _difference(subject: Subject) -> str:
    """Return in what the program is not what its manifest says, empty for none."""
    program = subject.manifest["program"]
    listed = next((one.get("sha256") for one in subject.manifest["outputs"] if one["path"] == program), None)
    if listed == subject.sha256:
        return ""
    return f"{subject.binary} is not what its manifest says: it was changed after it was built"


def _timings(subject: Subject) -> Mapping[str, Any]:
    from xenqemu.build.stage import TIMINGS

    if subject.kept is None:
        return {}
    try:
        timings = json.loads((subject.kept / TIMINGS).read_bytes())
    except (OSError, ValueError):
        return {}
    return timings if isinstance(timings, dict) else {}


def _steps(subject: Subject, state: StateDir) -> tuple[Step, ...]:
    """Return ninja's commands: as the artifact has them, else from the build directory if it was kept."""
    from xenqemu.build.ninja_log import STEPS, load_steps, read_ninja_log

    kept = load_steps(subject.kept / STEPS) if subject.kept else ()
    return kept or read_ninja_log(state.builds / str(subject.manifest.get("key", "")) / "build")


def _devices(subject: Subject) -> tuple[str, tuple[Table, ...]]:
    """Return the tables of devices, and a note on where they come from."""
    from xenqemu.profile_pipeline import device_help
    from xenqemu.report.devices import asked_by, device_table, kinds_sentence, left_out_table, profile_table

    profile, version, note = _profile(subject)
    asked = asked_by(profile, version) if profile and version else {}
    try:
        listing = device_help(subject.binary)
    except MissingError:  # its loader is not there
        listing = None
    tables: list[Table] = []
    if listing is not None:
        tables.append(device_table(listing, asked))
        note = f"By kind: {kinds_sentence(tables[0])}. {note}".strip()
    elif profile and version:
        note = f"The program does not start on this machine, so this is what its profile asks for. {note}".strip()
        tables.append(profile_table(profile, version))
    if profile and version:
        tables.append(left_out_table(profile, version))
    return note, tuple(table for table in tables if table.rows)


def _profile(subject: Subject) -> tuple[Profile | None, Version | None, str]:
    """Return the profile that was built, as the project has it now, and a note where that is not the same."""
    from xenqemu.report.words import text
    from xenqemu.target.profile import load_profile
    from xenqemu.target.tree import profile_digest
    from xenqemu.versions import parse_version

    name = text(subject.manifest, "profile", "name")
    try:
        profile, version = load_profile(name), parse_version(text(subject.manifest, "qemu", "version"))
    except UsageError:
        return None, None, f"What in xl.cfg asks for them is not known: there is no profile '{name}' here."
    if profile_digest(profile, version) == text(subject.manifest, "profile", "sha256"):
        return profile, version, ""
    return profile, version, f"Profile {name} has changed since: what asks for a device is as it says now."


def _tiles(
    subject: Subject,
    elf: ElfReport,
    timings: Mapping[str, Any],
    devices: Sequence[Table],
    contract: Sequence[ContractRun],
    runs: Sequence[LabRun],
) -> tuple[Tile, ...]:
    from xenqemu.report.model import BAD, GOOD, Tile
    from xenqemu.report.words import format_size, format_time, number

    tiles = [Tile(format_size(subject.binary.stat().st_size), "program", "outputs")]
    if devices and devices[0].columns[0].title == "type":
        tiles.append(Tile(str(len(devices[0].rows)), "device types", "devices"))
    tiles.append(Tile(str(len(elf.needed)), "libraries named", "outputs"))
    if patches := subject.manifest.get("patches"):
        tiles.append(Tile(str(len(patches)), "patches", "series"))
    seconds = sum(number(timings, name, "wall") or 0.0 for name in timings)
    if seconds:
        tiles.append(Tile(format_time(1000 * seconds), "to build", "time"))
    for run in contract:
        works = sum(int(count.figure) for count in run.counts if count.state == GOOD)
        state = BAD if any(count.state == BAD for count in run.counts) else GOOD
        tiles.append(Tile(f"{works} of {len(run.table.rows)}", f"contract, Xen {run.xen}", "contract", state))
    guests = [guest for run in runs for guest in run.guests]
    if guests:
        good = sum(guest.state == GOOD for guest in guests)
        state = BAD if any(guest.state == BAD for guest in guests) else GOOD
        tiles.append(Tile(f"{good} of {len(guests)}", "guests as wanted", "guests", state))
    return tuple(tiles)


def open_page(path: Path, ui: Ui) -> None:
    """Open the page at `path` in the user's browser, and say so when there is none."""
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        ui.warn(f"no browser could be started: open {path} in one")
