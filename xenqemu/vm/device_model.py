"""A device model binary: what it is, and what it refuses, asked of itself. Nothing here needs Xen."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xenqemu.errors import MissingError
from xenqemu.proc import run
from xenqemu.state import StateDir
from xenqemu.sysroot import qemu_words

_MEMO = "device-model"
_SECONDS = "10"
# What libxl__local_dm_preexec_restrict() sets, in tools/libs/light/libxl_linux.c of Xen.
_SANDBOX = ("prlimit", "--fsize=262144", "--core=0", "--msgqueue=0", "--locks=0", "--memlock=0", "--")
_VERSION = re.compile(r"QEMU emulator version ([0-9.]+)")
_SONAME = re.compile(r"libxenctrl\.so\.([0-9]+\.[0-9]+)")
_NO_LIBRARY = re.compile(r"error while loading shared libraries: ([^:]+):")
# A machine without a BIOS starts with any file of a plausible size.
_BIOS_SIZE = 64 * 1024
# Without one of these accelerators a PC cannot be made where there is no hypervisor; what they emulate never runs.
_ACCELERATORS = ("qtest", "tcg")
_MANIFEST = "manifest.json"
# Where the device models of Xen and of Debian's package are (QEMU_XEN_PATH of Xen's configure).
DEFAULT_PATHS = (
    *("/usr/libexec/xen-qemu-system-i386", "/usr/lib/xen/bin/qemu-system-i386"),
    *("/usr/local/lib/xen/bin/qemu-system-i386", "/usr/lib/qemu/bin/qemu-system-i386", "/usr/lib64/xen/bin/qemu-dm"),
)


@dataclass(frozen=True)
class DeviceModel:
    """What is known of a device model at `path`.

    `version` is QEMU's, `banner` what it calls itself; `xen` the version of Xen whose libraries it is linked against
    (empty: none), `profile` and `topics` what built it, from the manifest of a build; `accelerators` what it runs
    guests with; `missing_library` the shared library without which it does not start.
    """

    path: Path
    version: str = ""
    banner: str = ""
    xen: str = ""
    profile: str = ""
    topics: tuple[str, ...] = ()
    accelerators: tuple[str, ...] = ()
    missing_library: str = ""

    @property
    def brings_roms(self) -> bool:
        """Whether it does without the ROM files of cards, which hvmloader brings under Xen."""
        return any(topic.endswith("own-option-roms") for topic in self.topics)

    @property
    def for_xen(self) -> bool:
        """Whether it was built with support for Xen (or cannot say so, as it does not start)."""
        return "xen" in self.accelerators or not self.accelerators


def default_path() -> Path | None:
    """Return the toolstack's own device model on this machine, None where there is none."""
    packaged = sorted(Path("/usr/lib").glob("xen-*/bin/qemu-system-i386"), reverse=True)
    return next((path for path in (*map(Path, DEFAULT_PATHS), *packaged) if os.access(path, os.X_OK)), None)


class Interview:
    """Questions to the device model at a path, each of which costs a start; answers are kept in the state directory.

    They are kept for as long as the file is the same (device, inode, size, time of change). What is started is never
    given a guest, a network or a screen.
    """

    def __init__(self, path: Path, state: StateDir) -> None:
        """Prepare to ask; raises `MissingError` when `path` is no program."""
        try:
            found = path.stat()
        except OSError as error:
            raise MissingError(
                f"the device model {path} cannot be used: {error.strerror}", "name another, or build it"
            ) from error
        if not path.is_file() or not os.access(path, os.X_OK):
            raise MissingError(f"the device model {path} is no program", "it has to be an executable file")
        self._path = path
        self._state = state
        identity = (os.fspath(path.resolve()), found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)
        self._key = hashlib.sha256(repr(identity).encode()).hexdigest()
        self._answers: dict[str, Any] = state.recall(_MEMO, self._key) or {}
        self._model: DeviceModel | None = None

    def model(self) -> DeviceModel:
        """Return what the device model is."""
        if self._model is None:
            known = self._answers.get("model")
            if known is None:
                known = asdict(self._identify())
                known["path"] = os.fspath(self._path)
                self._keep("model", known)
            lists = {name: tuple(value) for name, value in known.items() if isinstance(value, (list, tuple))}
            self._model = DeviceModel(**{**known, **lists, "path": self._path})
        return self._model

    def knows_option(self, *arguments: str) -> str:
        """Return why `arguments` (an option and its value) are refused as unknown, "" when they are not.

        QEMU looks at all options for whether it knows them before it acts on the first (`qemu_init` in system/vl.c).
        """
        return self._answer(("-version", *arguments))

    def starts_with(self, *arguments: str) -> str | None:
        """Return why a PC with `arguments` does not start, "" when it does, None when no PC starts at all."""
        base = self._base()
        if base is None:
            return None
        return self._answer((*base, *arguments))

    def starts_limited(self, *arguments: str) -> str | None:
        """Return the same as `starts_with`, for a device model that is held to the limits of libxl's sandbox."""
        base = self._base()
        if base is None:
            return None
        return self._answer((*base, *arguments), _SANDBOX)

    def _base(self) -> tuple[str, ...] | None:
        for accelerator in _ACCELERATORS:
            base = (
                *("-machine", "pc", "-accel", accelerator, "-nodefaults", "-no-user-config"),
                *("-display", "none", "-bios", "{folder}/bios", "-S", "-monitor", "stdio"),
            )
            if self._answer(base) == "":
                return base
        return None

    def _answer(self, arguments: tuple[str, ...], limits: tuple[str, ...] = ()) -> str:
        question = json.dumps((*limits, *arguments))
        if question not in self._answers:
            self._keep(question, self._start(arguments, limits))
        return str(self._answers[question])

    def _keep(self, question: str, answer: object) -> None:
        # Another run may have learnt something meanwhile.
        self._answers = {**(self._state.recall(_MEMO, self._key) or {}), **self._answers, question: answer}
        self._state.remember(_MEMO, self._key, self._answers)

    def _start(self, arguments: Sequence[str], limits: Sequence[str]) -> str:
        """Start the device model with `arguments` and a monitor that says quit; return its complaint, "" for none."""
        with self._state.scratch("ask") as folder:
            (folder / "bios").write_bytes(bytes(_BIOS_SIZE))
            words = [word.replace("{folder}", os.fspath(folder)) for word in arguments]
            done = self._run(*words, limits=limits)
            if done[0] == 0:
                return ""
            return _complaint(done[2], self._path.name).replace(os.fspath(folder), "{folder}") or _end(done[0])

    def _run(self, *words: str, limits: Sequence[str] = ()) -> tuple[int, str, str]:
        completed = run(
            (*limits, "timeout", "--kill-after=2", _SECONDS, *qemu_words(self._path), *words),
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            stdin=b"quit\n",
            check=False,
        )
        return completed.returncode, completed.stdout, completed.stderr

    def _identify(self) -> DeviceModel:
        status, said, complaint = self._run("-version")
        version = _VERSION.search(said)
        missing = _NO_LIBRARY.search(complaint)
        accelerators = self._run("-accel", "help")[1].splitlines()[1:] if version else []
        manifest = _manifest(self._path)
        if not version and not missing and not manifest:
            what = _complaint(complaint, self._path.name) or f"exit {status}"
            raise MissingError(f"{self._path} is no QEMU that runs here: {what}", "name a device model")
        xen, qemu, profile = (manifest.get(key, {}) for key in ("xen", "qemu", "profile"))
        return DeviceModel(
            path=self._path,
            version=version[1] if version else str(qemu.get("version", "")),
            banner=said.splitlines()[0] if said else "",
            xen=_linked_xen(self._path) or str(xen.get("version", "")),
            profile=str(profile.get("name", "")),
            topics=tuple(map(str, manifest.get("patches", ()))),
            accelerators=tuple(line.strip() for line in accelerators if line.strip()),
            missing_library=missing[1] if missing else "",
        )


def _end(code: int) -> str:
    """Return how a process ended that said nothing; timeout(1) ends by the signal that its command ended by."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def _complaint(said: str, program: str) -> str:
    """Return the line of a device model's errors that says what is wrong, without the program's name."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and "warning:" not in line]
    named = [line.removeprefix(f"{program}: ") for line in lines if line.startswith(f"{program}: ")]
    return (named or lines or [""])[-1]


def _manifest(path: Path) -> Mapping[str, Any]:
    """Return the manifest of the build whose program `path` is: beside its bin/, or one folder above."""
    resolved = path.resolve()
    for folder in resolved.parents[1:5]:
        try:
            manifest = json.loads((folder / _MANIFEST).read_bytes())
        except (OSError, ValueError):
            continue
        program = str(manifest.get("program", "")) if isinstance(manifest, dict) else ""
        if program and resolved in (folder / program, folder / "tree" / program):
            return {**manifest, "patches": [_topic(patch) for patch in manifest.get("patches", ())]}
    return {}


def _topic(patch: object) -> object:
    return patch.get("topic", "") if isinstance(patch, dict) else patch


def _linked_xen(path: Path) -> str:
    """Return the version of Xen in the soname of the libxenctrl that the program at `path` is linked against."""
    from xenqemu.xen.elf import NotSharedObjectError, read

    try:
        needed = read(path).needed
    except (NotSharedObjectError, OSError):
        return ""
    return next((match[1] for name in needed if (match := _SONAME.match(name))), "")
