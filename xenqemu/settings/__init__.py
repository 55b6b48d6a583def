"""Settings: where each value comes from and which one wins.

Later ones win: the default, `xenqemu.toml` in the user's configuration folder, `xenqemu.toml` in the project (the
current folder), `XENQEMU_*` variables, options on the command line. What there is to set is the table `SETTINGS`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import UsageError

FILE_NAME = "xenqemu.toml"
Value = str | int | bool | None


@dataclass(frozen=True)
class Setting:
    """One thing to set: its name in files and as an option, its type, its default, what it is for.

    `is_path` values in a file are relative to that file's folder; `minimum` is the least number; what `is_secret` may
    have a password in it.
    """

    name: str
    kind: type
    default: Value
    help: str
    is_path: bool = False
    minimum: int | None = None
    is_secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "XENQEMU_" + self.name.replace("-", "_").upper()


SETTINGS: tuple[Setting, ...] = (
    Setting("qemu", str, "distro", "the QEMU to build: checkout, git URL, tarball, directory, distro[:SERIES]"),
    Setting("xen", str, "system", "the Xen to build against: system, a prefix, a source tree, distro:SERIES"),
    Setting("profile", str, "hvm", "the device profile: a name, or the path of a profile file"),
    Setting("out", str, "dist", "the folder that receives the result", is_path=True),
    Setting("jobs", int, None, "compile jobs at once (default: one a processor)", minimum=1),
    Setting("state-dir", str, None, "where xenqemu keeps sources, trees and artifacts", is_path=True),
    Setting("cc", str, None, "the C compiler, with leading words such as ccache (default: cc)"),
    Setting(
        "launcher", str, "auto", "the compiler cache: ccache, sccache, none, or auto: ccache where it is installed"
    ),
    Setting("remote-cache", str, None, "the cache's server: redis://HOST[:PORT], http://HOST/PATH", is_secret=True),
    Setting(
        "distribute", str, None, "what hands compiles to other machines: distcc (the default with hosts), icecc, none"
    ),
    Setting("hosts", str, None, "the machines that compile: HOST[:PORT][/JOBS],...; with icecc its scheduler"),
    Setting("debug-info", bool, False, "keep debug information, in a file beside the binary"),
    Setting("dirty", bool, False, "take uncommitted changes of a checkout along"),
    Setting("build-xen-libs", bool, False, "build the libraries of a Xen source tree first"),
)


@dataclass(frozen=True)
class Resolved:
    """One setting's value and where it comes from, in words for people."""

    setting: Setting
    value: Value
    origin: str


@dataclass(frozen=True)
class Settings:
    """Every setting, resolved."""

    values: Mapping[str, Resolved]

    def text(self, name: str) -> str:
        """Return the value of a setting that is text."""
        return str(self.values[name].value)

    def optional_text(self, name: str) -> str | None:
        """Return the value of a setting that is text or not set."""
        value = self.values[name].value
        return None if value is None else str(value)

    def number(self, name: str) -> int | None:
        """Return the value of a setting that is a number or not set."""
        value = self.values[name].value
        return value if isinstance(value, int) else None

    def flag(self, name: str) -> bool:
        """Return the value of a setting that is on or off."""
        return bool(self.values[name].value)

    @property
    def state_dir(self) -> Path:
        """The state directory: the one that was set, or the platform's place for it."""
        chosen = self.optional_text("state-dir")
        if chosen is not None:
            return Path(chosen).expanduser().absolute()
        from platformdirs import user_state_path

        return user_state_path("xenqemu")


def resolve(
    options: Mapping[str, Value],
    *,
    environment: Mapping[str, str] | None = None,
    project: Path | None = None,
    user: Path | None = None,
) -> Settings:
    """Return every setting with the value that wins.

    `options` are those of the command line; None, or empty as an unset shell variable leaves it, is not given.
    `environment`, `project` and `user` (the folders where `xenqemu.toml` may be) default to the process's environment,
    the current folder and the platform's configuration folder. Raises `UsageError` for a file that cannot be read, an
    unknown name or a value of the wrong type.
    """
    environment = os.environ if environment is None else environment
    if user is None:
        from platformdirs import user_config_path

        user = user_config_path("xenqemu")
    found = {setting.name: Resolved(setting, setting.default, "default") for setting in SETTINGS}
    for folder in (user, project or _current_folder()):
        found.update(_from_file(folder / FILE_NAME))
    for setting in SETTINGS:
        text = environment.get(setting.variable)
        if text:
            found[setting.name] = Resolved(setting, _parse(setting, text, setting.variable), setting.variable)
        option = options.get(setting.name)
        if option is not None and option != "":
            found[setting.name] = Resolved(setting, option, f"--{setting.name}")
    return Settings(found)


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the current folder was removed", "go to one that exists") from error


def _from_file(path: Path) -> dict[str, Resolved]:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "it is TOML: one `name = value` a line") from error
    known = {setting.name: setting for setting in SETTINGS}
    found = {}
    for name, value in data.items():
        setting = known.get(name)
        if setting is None:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there is: {', '.join(known)}"
            raise UsageError(f"{path}: unknown setting '{name}'", hint)
        if type(value) is not setting.kind:
            raise UsageError(f"{path}: {name} must be {_noun(setting)}, not {value!r}")
        _check_minimum(setting, value, f"{path}: {name}")
        if setting.is_path:
            value = str(path.parent / Path(str(value)).expanduser())
        found[name] = Resolved(setting, value, str(path))
    return found


def _noun(setting: Setting) -> str:
    return {str: "a text", int: "a number", bool: "true or false"}[setting.kind]


def _parse(setting: Setting, text: str, where: str) -> Value:
    if setting.kind is bool:
        lowered = text.lower()
        if lowered in ("1", "true", "yes", "on"):
            return True
        if lowered in ("0", "false", "no", "off"):
            return False
        raise UsageError(f"{where} must be true or false, not '{text}'")
    if setting.kind is int:
        try:
            number = int(text)
        except ValueError:
            raise UsageError(f"{where} must be a number, not '{text}'") from None
        _check_minimum(setting, number, where)
        return number
    return text


def _check_minimum(setting: Setting, value: object, where: str) -> None:
    if setting.minimum is not None and isinstance(value, int) and value < setting.minimum:
        raise UsageError(f"{where} must be at least {setting.minimum}, not {value}")
