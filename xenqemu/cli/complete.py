"""What a shell can complete: names that exist. A completer says nothing and never fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from xenqemu.errors import XenqemuError
from xenqemu.state import StateDir

# Returns names, each with what it is, for the command at hand.
Names = Callable[[click.Context], Iterable[tuple[str, str]]]
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def completer(names: Names, *, several: bool = False, files: bool = False) -> Completer:
    """Return a completer of `names`: of `several` with commas between them, or of a file where no name fits."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        head, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        try:
            known = [*names(ctx)]
        except (XenqemuError, OSError, ValueError, KeyError):  # said when the command runs, not while it is typed
            known = []
        given = head.split(",")
        fits = [
            CompletionItem(f"{head}{comma}{name}", help=about)
            for name, about in known
            if name.startswith(last) and name not in given
        ]
        return fits or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def _state(ctx: click.Context) -> StateDir:
    from xenqemu.settings import resolve

    return StateDir(resolve({"state-dir": ctx.find_root().params.get("state_dir")}).state_dir)


def _profiles(_: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.target.profile import list_profiles, load_profile

    return [(name, load_profile(name).description) for name in list_profiles()]


def _cases(_: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.lab.cases import load_cases

    cases = load_cases()
    groups = dict.fromkeys(case.group for case in cases)
    return [*((case.name, case.summary) for case in cases), *((group, "all of this group") for group in groups)]


def _releases(_: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.series.catalogue import load_series

    return [(version, "a QEMU that is built and tested") for version in load_series().supported]


def _qemus(ctx: click.Context) -> Iterable[tuple[str, str]]:
    newest = ("distro", "the newest in the package archive")
    return [newest, *((f"distro:{version}", "from the package archive") for version, _ in _releases(ctx))]


def _xens(_: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.lab.recipe import known_series

    return [(series, "a Xen that the lab has") for series in known_series()]


def _wheres(ctx: click.Context) -> Iterable[tuple[str, str]]:
    system = ("system", "the libraries of this system")
    return [system, *((f"distro:{series}", "the source in the package archive") for series, _ in _xens(ctx))]


def _packaged(ctx: click.Context) -> Iterable[tuple[str, str]]:
    newest = ("distro", "what the distribution ships")
    return [newest, *((f"distro:{series}", f"that of Xen {series}") for series, _ in _xens(ctx))]


def _topics(_: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.series.catalogue import load_series

    return [(topic.name, topic.summary) for topic in load_series().topics]


def _artifacts(ctx: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.build import list_artifacts

    return [
        (entry.key[:12], f"QEMU {entry.version}, profile {entry.profile}, Xen {entry.xen}")
        for entry in list_artifacts(_state(ctx))
    ]


def _contenders(_: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.bench.model import known_contenders

    return [(contender.name, "") for contender in known_contenders()]


def _configs(_: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.vm.catalogue import DEFAULT_FOLDERS, is_vm_config

    here = [(path.name, "") for path in sorted(Path().iterdir()) if is_vm_config(path)]
    found = [path for folder in DEFAULT_FOLDERS if folder.is_dir() for path in sorted(folder.iterdir())]
    return [*here, *((str(path), "") for path in found if is_vm_config(path))]


def _guests(ctx: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.explain_pipeline import guests_with_logs

    return [(name, "a guest with logs") for name in guests_with_logs(_state(ctx))]


def _host_pci(_: click.Context) -> Iterable[tuple[str, str]]:
    from xenqemu.lab.spare import kinds

    return kinds().items()


profiles = completer(_profiles)
profile_list = completer(_profiles, several=True)
cases = completer(_cases)
case_list = completer(_cases, several=True)
releases = completer(_releases)
release_list = completer(_releases, several=True)
qemus = completer(_qemus, files=True)
xens = completer(_xens)
xen_list = completer(_xens, several=True)
wheres = completer(_wheres, files=True)
device_models = completer(_packaged, files=True)
topics = completer(_topics)
artifacts = completer(_artifacts)
contenders = completer(_contenders)
configs = completer(_configs, files=True)
guests = completer(_guests, files=True)
host_pci = completer(_host_pci, several=True)
