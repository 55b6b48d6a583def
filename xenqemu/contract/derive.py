"""What the libxl of a Xen source tree can pass to a qemu-xen device model, read off its C source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from xenqemu.contract.ctokens import Call, Token, calls, functions, placeholders, tokens, without_calls
from xenqemu.errors import UsageError

LIBXL = Path("tools/libs/light")
# Where libxl builds an argument vector. What the function in the second column calls in its own file counts too,
# where it builds arguments for qemu-xen and for nothing else.
_BUILDERS = (
    ("libxl_dm.c", "libxl__build_device_model_args_new"),
    ("libxl_device.c", "libxl__qemu_disk_format_string"),
)
# A function that does much else: of it only what goes straight into an argument vector (the probe since 4.20.3).
_LAUNCHER = ("libxl_dm.c", "libxl__spawn_local_dm")
_ENUMS = (("libxl_types_internal.idl", "libxl__qemu_soundhw"),)
# Calls whose literals never reach the device model.
_ELSEWHERE = re.compile(r"LOG\w*|assert|str\w*cmp|strchr|getenv|libxl__xs_\w+|abort")
_APPENDING = re.compile(r"flexarray_(append|append_pair|vappend)")
_PARAMETER = re.compile(r"libxl__qmp_param_add_(?P<type>string|bool|integer)|QMP_PARAMETERS_SPRINTF")
_COMMON = "qmp_parameters_common_add"
_MONITOR = "libxl__qmp_hmp"
_SENDERS = {"libxl__ev_qmp_send": 2, "qmp_run_command": 2, "qmp_send": 1}


@dataclass(frozen=True)
class Sent:
    """QMP commands that one function of libxl sends, and what it puts into their arguments.

    `arguments` has `NAME:TYPE` for each (TYPE string, bool, integer or object) and `NAME=VALUE` for literal values;
    libxl does not say which goes to which command when a function sends several.
    """

    file: str
    function: str
    commands: tuple[str, ...]
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Passed:
    """What a libxl can pass: `words` of argument vectors and of environments (conversions as `{}`), and `qmp`."""

    version: str
    words: tuple[str, ...]
    qmp: tuple[Sent, ...]


def derive(tree: Path) -> Passed:
    """Return what the libxl of the Xen source tree at `tree` can pass to a device model.

    Raises `UsageError` when `tree` is no Xen source tree, or one whose libxl is not built as those known are: then
    this module has to learn how, as it would miss things in silence.
    """
    folder = tree / LIBXL
    if not (folder / "libxl_dm.c").is_file():
        raise UsageError(f"{tree} is no Xen source tree: it has no {LIBXL / 'libxl_dm.c'}", "name its top folder")
    words = {word for file, name in _BUILDERS for word in _built(folder / file, name)}
    words |= set(_appended(_body(folder / _LAUNCHER[0], _LAUNCHER[1])))
    words |= {word for file, name in _ENUMS for word in _enum(folder / file, name)}
    sent = tuple(entry for file in sorted(folder.glob("libxl*.c")) for entry in _sent(file))
    return Passed(_version(tree), tuple(sorted(words - {""})), sent)


def _version(tree: Path) -> str:
    text = (tree / "xen/Makefile").read_text(encoding="utf-8", errors="replace")
    numbers: list[str] = re.findall(r"^export XEN_(?:SUB|EXTRA)?VERSION\s*\??=\s*([^\s$]+)", text, re.MULTILINE)
    return numbers[0] + "." + "".join(numbers[1:])


def _tokens(file: Path) -> tuple[Token, ...]:
    return tokens(file.read_text(encoding="utf-8", errors="replace"))


def _body(file: Path, name: str) -> tuple[Token, ...]:
    body = functions(_tokens(file)).get(name)
    if body is None:
        raise UsageError(
            f"{file} has no function {name}()",
            "this Xen builds arguments in another place: see xenqemu/contract/derive.py",
        )
    return body


def _built(file: Path, root: str) -> set[str]:
    known = functions(_tokens(file))
    _body(file, root)
    waiting, seen, words = [root], set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        body = without_calls(known[name], _ELSEWHERE)
        words |= {placeholders(token.text) for token in body if token.kind == "string"}
        waiting += {token.text for token in body if token.kind == "name" and token.text in known} - seen
    return words


def _appended(body: tuple[Token, ...]) -> set[str]:
    return {
        placeholders(token.text)
        for call in calls(body)
        if _APPENDING.fullmatch(call.name)
        for argument in call.arguments
        for token in argument
        if token.kind == "string"
    }


def _enum(file: Path, name: str) -> set[str]:
    text = file.read_text(encoding="utf-8", errors="replace")
    match = re.search(rf"^{name} = Enumeration\(.*?\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise UsageError(f"{file} has no enumeration {name}", "see xenqemu/contract/derive.py")
    return set(re.findall(r'\(\s*\d+\s*,\s*"([^"]+)"', match[1]))


def _sent(file: Path) -> list[Sent]:
    entries = []
    for name, body in functions(_tokens(file)).items():
        found = tuple(calls(body))
        commands = {text for call in found if (text := _command(call))}
        arguments = {word for call in found for word in _arguments(call)}
        if any(call.name == _MONITOR for call in found):
            commands.add("human-monitor-command")
            arguments |= {f"command-line={word}" for word in _monitor_lines(found)}
        if commands:
            entries.append(Sent(file.name, name, tuple(sorted(commands)), tuple(sorted(arguments))))
    return entries


def _monitor_lines(found: tuple[Call, ...]) -> list[str]:
    # The line is put together in the same function; it is the one that has words.
    formats = [call.literal(0) for call in found if call.name == "GCSPRINTF"]
    return [placeholders(text) for text in formats if text is not None and " " in text]


def _command(call: Call) -> str | None:
    index = _SENDERS.get(call.name)
    return None if index is None else call.literal(index)


def _arguments(call: Call) -> list[str]:
    match = _PARAMETER.fullmatch(call.name)
    shift = 0 if match else 1
    if match is None and call.name != _COMMON:
        return []
    # libxl__qmp_param_add_*(gc, &args, name, value), QMP_PARAMETERS_SPRINTF(&args, name, format, ...)
    shift = 1 if call.name == "QMP_PARAMETERS_SPRINTF" else 2
    name = call.literal(shift)
    if name is None:
        return []
    kind = "object" if match is None else (match["type"] or "string")
    value = call.literal(shift + 1)
    return [f"{name}:{kind}", *([f"{name}={placeholders(value)}"] if value is not None else [])]
