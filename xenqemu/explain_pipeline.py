"""From what a user names, a guest, logs or folders of logs, to why that guest failed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from xenqemu.errors import UsageError
from xenqemu.explain import Explanation, Log, explain, log_of, read_log
from xenqemu.explain.reading import STDIN
from xenqemu.explain.table import host_places, name_of, places
from xenqemu.lab.runs import RESULT, last_runs
from xenqemu.state import StateDir

# A folder of logs of a busy host has thousands: the guests heard of last are looked at.
_MOST_GUESTS = 20


def explain_named(names: Sequence[str], state: StateDir) -> tuple[Explanation, ...]:
    """Return what the logs say that `names` name; without names those of the lab's last run.

    A name is a file, `-` for standard input, a folder, or a guest, whose logs are then looked for where xl, libxl and
    libvirt put them, and after that in the lab's runs. Files that are named are read together, as of one guest; a
    folder is taken apart by the guests that its files are of. Raises `UsageError` for what is not there, cannot be
    read, or has no logs in it.
    """
    if not names:
        runs = last_runs(state)
        if not runs:
            raise UsageError("the lab has not run anything yet", "name a guest, logs or a folder with logs")
        return _of_folder(runs[0])
    folders = [Path(name) for name in names if Path(name).is_dir()]
    files = [name for name in names if Path(name) not in folders]
    found = [one for folder in folders for one in _of_folder(folder)]
    guests = [name for name in files if _is_guest(name)]
    found += [one for name in guests for one in _of_guest(name, state)]
    logs = [read_log(Path(name)) for name in files if name not in guests]
    if logs:
        found.append(explain(logs, next((name for log in logs if (name := name_of(Path(log.path).name)[1])), "")))
    return tuple(found)


def _is_guest(name: str) -> bool:
    """Whether `name` is to be taken for a guest's: xl's names have no slash, and logs that are there are files."""
    return name != STDIN and os.sep not in name and not os.path.lexists(name)


def _of_guest(name: str, state: StateDir) -> tuple[Explanation, ...]:
    own = [path for path in places(name) if path.is_file()]
    if own:
        logs = [*map(read_log, own), *(_about(path, name) for path in host_places() if path.is_file())]
        return (explain(logs, name),)
    for run in last_runs(state):
        found = [one for one in _of_folder(run) if one.subject == name] if _has(run, name) else []
        if found:
            return tuple(found)
    looked = ", ".join(dict.fromkeys(str(path.parent) for path in places(name)))
    raise UsageError(
        f"there is no log of a guest called '{name}', and no file of that name",
        f"looked in {looked} and the lab's runs; `xl create CONFIG 2>&1 | xenqemu explain -` takes what xl says",
    )


def _about(path: Path, name: str) -> Log:
    """Return the log of the host at `path` if anything in it is about the guest `name`, else an empty one."""
    log = read_log(path)
    told = any(name in line.text for line in log.lines)
    return log if told else Log(log.path, log.kind, (), log.cut)


def _has(run: Path, name: str) -> bool:
    return any(name_of(path.name)[1] == name for path in run.iterdir())


def _of_folder(folder: Path) -> tuple[Explanation, ...]:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}", "become who may read it") from error
    by_guest: dict[str, list[Path]] = {}
    for path in files:
        kind, guest = name_of(path.name)
        if kind:
            by_guest.setdefault(guest, []).append(path)
    shared = by_guest.pop("", [])
    reasons = _reasons(folder / RESULT)
    wanted = dict.fromkeys((*by_guest, *reasons))
    newest = sorted(wanted, key=lambda guest: max((_time(path) for path in by_guest.get(guest, ())), default=0.0))
    if not wanted and not shared:
        raise UsageError(f"{folder} has no logs in it", "name a folder of Xen's logs, as /var/log/xen, or of a lab run")
    if not wanted:
        return (explain([read_log(path) for path in shared]),)
    return tuple(
        explain([*map(read_log, by_guest.get(guest, ())), *_own_words(reasons.get(guest, ""), folder)], guest)
        for guest in newest[-_MOST_GUESTS:]
    )


def _own_words(reason: str, folder: Path) -> tuple[Log, ...]:
    return (log_of(reason, "", str(folder / RESULT)),) if reason else ()


def _reasons(result: Path) -> dict[str, str]:
    """Return why the guests of a lab run failed, by their names; nothing where it left no result."""
    try:
        guests = json.loads(result.read_bytes())["guests"]
        return {str(guest["name"]): str(guest["reason"]) for guest in guests if guest["reason"] and guest["name"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # rotated meanwhile
        return 0.0


def guests_with_logs(state: StateDir) -> tuple[str, ...]:
    """Return the names of the guests that have logs where xl and libxl put them, or in the lab's last run."""
    folders = [*dict.fromkeys(path.parent for path in places("x")), *last_runs(state)[:1]]
    names = (name_of(path.name)[1] for folder in folders if folder.is_dir() for path in folder.iterdir())
    return tuple(sorted({name for name in names if name}))
