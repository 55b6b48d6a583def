"""Reading the command line that Xen's build gives to QEMU's configure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xenqemu.errors import UsageError
from xenqemu.subproject.model import Asked

# Where Xen's configure, and QEMU's, put things that nobody said anything about.
_PREFIX = "/usr/local"
_FEATURE = re.compile(r"--(enable|disable)-([a-z0-9][a-z0-9-]*)")
_SOURCE_OF_FLAGS = "CONFIG_QEMUU_EXTRA_ARGS of Xen's build has flags of yours"


@dataclass(frozen=True)
class Flag:
    """An entry of flags.toml, where the fields are explained."""

    name: str
    use: str
    of: str = ""
    values: tuple[str, ...] = ()
    because: str = ""
    remark: str = ""


@cache
def known_flags() -> Mapping[str, Flag]:
    """Return the entries of flags.toml by the name of the flag."""
    data = tomllib.loads((Path(__file__).parent / "flags.toml").read_text(encoding="utf-8"))
    entries = (Flag(**{**entry, "values": tuple(entry.get("values", ()))}) for entry in data["flag"])
    return {entry.name: entry for entry in entries}


def read_flags(words: Sequence[str]) -> Asked:
    """Return what the command line `words` asks for; of a flag that is there twice the last one counts.

    Raises `UsageError` that names every flag which is unknown, or has a value that cannot be met.
    """
    asked: dict[str, str] = {}
    appended: dict[str, list[str]] = {"CFLAGS": [], "LDFLAGS": []}
    features: dict[str, bool] = {}
    wrong: list[str] = []
    remarks: list[str] = []
    for word in words:
        name, _, value = word.partition("=")
        flag, feature = known_flags().get(name), _FEATURE.fullmatch(word)
        if flag is None and feature is not None:
            features[feature[2]] = feature[1] == "enable"
        elif flag is None:
            wrong.append(f"{word} is unknown")
        elif flag.use == "words":
            # QEMU's configure takes one of these more than once (EXTRA_CFLAGS="$EXTRA_CFLAGS $optarg").
            appended[flag.of].append(value)
        elif flag.values and value not in flag.values:
            wrong.append(f"{word}: {flag.because}")
        else:
            asked[flag.of or flag.use] = value
            if flag.remark:
                remarks.append(f"{word}: {flag.remark}")
    if wrong:
        raise UsageError(f"these flags of configure cannot be met: {'; '.join(wrong)}", _SOURCE_OF_FLAGS)
    return Asked(
        prefix=asked.get("prefix") or _PREFIX,
        bindir=asked.get("bindir") or None,
        datadir=asked.get("datadir") or None,
        cflags=_joined(appended["CFLAGS"]),
        ldflags=_joined(appended["LDFLAGS"]),
        debug_info="debug" in asked,
        trace_backends=asked.get("backends") or None,
        features=features,
        remarks=tuple(remarks),
    )


def _joined(texts: Iterable[str]) -> str:
    return " ".join(" ".join(texts).split())


def check_features(features: Iterable[str], scripts: Iterable[str]) -> None:
    """Raise `UsageError` for those of `features` that no `case` of QEMU's configure `scripts` knows.

    Those are the texts of `configure` and `scripts/meson-buildoptions.sh`; a misspelt feature would otherwise come
    up in the middle of a build.
    """
    known = {name for text in scripts for name in re.findall(r"--(?:enable|disable)-([a-z0-9-]+)\s*[)|=]", text)}
    unknown = sorted(set(features) - known)
    if unknown:
        names = ", ".join(f"--enable-{name}" for name in unknown)
        raise UsageError(f"configure of this QEMU knows no {names}", _SOURCE_OF_FLAGS)
