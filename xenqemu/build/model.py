"""What the build stage takes and what it hands on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.version import Version

from xenqemu.build.environment import honoured
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import UsageError
from xenqemu.xen.model import XenSdk

PROGRAM = "qemu-system-xen"


@dataclass(frozen=True)
class PatchRecord:
    """One applied patch, for the manifest: its topic, its file below `patches/`, the SHA-256 of that file."""

    topic: str
    file: str
    sha256: str


@dataclass(frozen=True)
class BuildInput:
    """A patched and rendered QEMU tree and all that was decided about it.

    `tree` is the checked-out work tree in the state directory's `trees`, which the build only reads; `commit` its git
    commit id, which stands for all of its content. `origin` and `patches` and `target_files` (path, SHA-256) say how
    it came about, for the manifest. `configure_arguments` are those of the target and the profile.
    `pkg_config_files` are .pc files (name, content) for a Xen that brings none.
    """

    tree: Path
    commit: str
    version: Version
    origin: Mapping[str, str]
    patches: tuple[PatchRecord, ...]
    target_files: tuple[tuple[str, str], ...]
    profile: str
    profile_sha256: str
    configure_arguments: tuple[str, ...]
    xen: XenSdk
    xen_compile_flags: tuple[str, ...] = ()
    xen_link_flags: tuple[str, ...] = ()
    pkg_config_files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Where the result is made to be installed: absolute POSIX paths, `datadir` being the parent of `qemu/`.

    QEMU finds its data relative to its own binary as long as both directories are below the prefix (util/cutils.c,
    `get_relocated_path`), so the default is as good below any other folder. `bundle_libraries` takes along the
    libraries of a Xen that is not the system's; a build that is part of Xen's own installs those itself.
    """

    prefix: str = "/usr"
    bindir: str = "/usr/bin"
    datadir: str = "/usr/share"
    bundle_libraries: bool = True

    def __post_init__(self) -> None:
        for name in ("prefix", "bindir", "datadir"):
            path = getattr(self, name)
            if not path.startswith("/") or ".." in path.split("/") or any(c.isspace() for c in path):
                raise UsageError(
                    f"the installation directory {name}={path} is not an absolute path without spaces and '..'"
                )

    @classmethod
    def for_xen(
        cls, prefix: str | None, libexec_bin: str | None, share_dir: str | None, destdir: str | None = None
    ) -> Layout | None:
        """Return the layout of a device model that is installed as a part of Xen, None when nothing asks for that.

        The names and the folders are those of Xen's own build (tools/Makefile, `subdir-all-qemu-xen-dir`): the
        binary goes to LIBEXEC_BIN, the data below SHAREDIR/qemu-xen, so that a distribution's QEMU is not touched.
        """
        if not any((prefix, libexec_bin, share_dir, destdir)):
            return None
        base = (prefix or "/usr/local").rstrip("/") or "/"
        return cls(
            prefix=base,
            bindir=libexec_bin or f"{base.rstrip('/')}/lib/xen/bin",
            datadir=f"{(share_dir or base.rstrip('/') + '/share').rstrip('/')}/qemu-xen",
            bundle_libraries=False,
        )

    @property
    def root(self) -> PurePosixPath:
        """What the paths of an artifact's files are relative to: the prefix, or `/` when a directory is outside it."""
        prefix = PurePosixPath(self.prefix)
        inside = all(PurePosixPath(path).is_relative_to(prefix) for path in (self.bindir, self.datadir))
        return prefix if inside else PurePosixPath("/")

    @property
    def program(self) -> PurePosixPath:
        """The device model, relative to `root`."""
        return (PurePosixPath(self.bindir) / PROGRAM).relative_to(self.root)

    @property
    def data(self) -> PurePosixPath:
        """QEMU's data directory, relative to `root`."""
        return (PurePosixPath(self.datadir) / "qemu").relative_to(self.root)

    @property
    def libraries(self) -> PurePosixPath:
        """Where bundled libraries go, relative to `root`."""
        return self.program.parent.parent / "lib"


@dataclass(frozen=True)
class Offload:
    """Who takes compiles off this machine's compiler; none of it changes the result.

    `launcher` is a cache of recipe.toml's launchers, `auto` (ccache where it is installed) or `none`, and None what the
    compiler command says; `remote_cache` the URL of its storage, which may have a password in it. `engine` hands
    compiles to other machines: `hosts` as the user wrote them (distcc's hosts, icecream's scheduler), or those that
    the engine's own settings name.
    """

    launcher: str | None = None
    remote_cache: str | None = field(default=None, repr=False)
    engine: str | None = None
    hosts: str | None = None


@dataclass(frozen=True)
class BuildOptions:
    """How to build. `jobs`, `keep_build` and `offload` do not change the result, everything else does.

    `cc` is the compiler as words (`ccache gcc`; None: `CC` of the environment, or the system's). `environment` are
    the variables that are honoured (see `xenqemu.build.environment.honoured`; default: those of this process); every
    other one that a build could react to is kept away from it.
    """

    jobs: int | None = None
    debug_info: bool = False
    cc: str | None = None
    keep_build: bool = False
    layout: Layout = field(default_factory=Layout)
    offload: Offload = field(default_factory=Offload)
    environment: Mapping[str, str] = field(default_factory=lambda: honoured(os.environ))


@dataclass(frozen=True)
class Compiler:
    """A C compiler: its command, and the tools behind it by what they say of themselves.

    The command is launchers (`ccache`; recipe.toml has their names), the program, and flags that every call gets.
    """

    argv: tuple[str, ...]
    tools: Mapping[str, str]

    @property
    def _launchers(self) -> int:
        names = load_recipe().launchers
        known = (number for number, word in enumerate(self.argv[:-1]) if PurePosixPath(word).name not in names)
        return next(known, len(self.argv) - 1)

    @property
    def launchers(self) -> tuple[str, ...]:
        """The names of the launchers before the compiler, as recipe.toml has them."""
        return tuple(PurePosixPath(word).name for word in self.argv[: self._launchers])

    @property
    def programs(self) -> tuple[str, ...]:
        """The words that have to be programs: the launchers and the compiler."""
        return self.argv[: self._launchers + 1]

    @property
    def command(self) -> tuple[str, ...]:
        """The command without launchers."""
        return self.argv[self._launchers :]

    @property
    def flags(self) -> tuple[str, ...]:
        """The words after the compiler, which decide what it makes as CFLAGS do."""
        return self.argv[self._launchers + 1 :]


@dataclass(frozen=True)
class Flags:
    """What goes to the compiler and the linker, to QEMU's `configure`, and which features of hardening that makes."""

    compile: tuple[str, ...]
    link: tuple[str, ...]
    configure: tuple[str, ...]
    features: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All of them, whoever they are for."""
        return (*self.configure, *self.compile, *self.link)

    def __add__(self, other: Flags) -> Flags:
        """Return both, those of `other` after these."""
        return Flags(
            self.compile + other.compile,
            self.link + other.link,
            self.configure + other.configure,
            self.features + other.features,
        )


@dataclass(frozen=True)
class ChosenFlags:
    """The flags of a build, by what they are for."""

    hardening: Flags
    size: Flags

    @property
    def together(self) -> Flags:
        """All of them, as they are given to configure."""
        return self.hardening + self.size


@dataclass(frozen=True)
class Artifact:
    """A finished build at `path`: `tree/` with what is installed, `manifest.json`, and what is another in every build.

    That is `build.log`, `timings.json` and `steps.json`, which never leave the state directory but for the log.
    """

    key: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def tree(self) -> Path:
        """The folder with the installed files."""
        return self.path / "tree"

    @property
    def binary(self) -> Path:
        """The device model."""
        return self.tree / str(self.manifest["program"])

    @property
    def log(self) -> Path:
        """Everything that configure and the compile said."""
        return self.path / "build.log"
