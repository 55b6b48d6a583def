"""A program that behaves as a device model does on a machine without Xen, as far as a check of the contract can see."""

from __future__ import annotations

import sys
from pathlib import Path

# It knows the options that argv has in OPTIONS, refuses devices called "bad...", wants a ROM for those called "rom...",
# hangs for "hang", writes a file of 300,000 bytes for "large", dies for "crash" and says nothing for "mute".
_PROGRAM = r"""#!PYTHON
import json, os, signal, sys, time
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
NAME, NOISE = "qemu-system-fake", "ROMLESS"
OPTIONS = "-machine -S -m -bios -L -nodefaults -no-user-config -display -qmp -device -name -smp -xen-domid -chardev"
def fail(text):
    sys.stderr.write("warning: noise\n" + NAME + ": " + text + "\n")
    sys.exit(1)
words, folders, commands = sys.argv[1:], [], []
if not words[0].startswith("-"):
    fail("no option")
for index, word in enumerate(words):
    value = words[index + 1] if index + 1 < len(words) else ""
    if word.startswith("-") and word not in OPTIONS.split():
        fail(word + ": invalid option")
    if word == "-L":
        folders.append(value)
    if word == "-device":
        kind = value.split(",")[0]
        if kind.startswith("bad"):
            fail("-device " + value + ": '" + kind + "' is not a valid device model name")
        if kind.startswith("rom") and not any(os.path.exists(folder + "/" + kind + ".rom") for folder in folders):
            fail("-device " + value + ': failed to find romfile "' + kind + '.rom"')
        if kind == "hang":
            time.sleep(60)
        if kind == "large":
            with open("large", "wb") as file:
                file.truncate(300000)
        if kind == "crash":
            os.abort()
        if kind == "mute":
            sys.exit(3)
    if word == "-machine" and "xen" in value and "bad" not in value:
        fail("failed to initialize xen: Operation not permitted")
    if word == "-machine" and "bad" in value:
        fail("unsupported machine type")
SCHEMA = [
    {"name": "eject", "meta-type": "command", "arg-type": "0"},
    {"name": "0", "meta-type": "object", "tag": "type",
     "members": [{"name": "id", "type": "str"}, {"name": "type", "type": "7", "default": None},
                 {"name": "addr", "type": "1", "default": None}, {"name": "list", "type": "3", "default": None}],
     "variants": [{"case": "fd", "type": "2"}]},
    {"name": "1", "meta-type": "object", "members": [{"name": "port", "type": "int", "default": None}]},
    {"name": "2", "meta-type": "object", "members": [{"name": "fd", "type": "str", "default": None}]},
    {"name": "3", "meta-type": "array", "element-type": "1"},
    {"name": "7", "meta-type": "enum", "values": ["fd"]},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
]
ANSWERS = {
    "qmp_capabilities": {}, "quit": {},
    "query-version": {"qemu": {"major": 9, "minor": 1, "micro": 0}, "package": "fake"},
    "query-command-line-options": [{"option": "run-with", "parameters": [{"name": "chroot"}]}],
    "query-qmp-schema": SCHEMA,
    "query-hotpluggable-cpus": [{"type": "fake-cpu"}],
    "device-list-properties": [{"name": "addr"}],
    "device_add": {},
}
sys.stdout.reconfigure(line_buffering=True)
print(json.dumps({"QMP": {}}))
print("not json")
print(json.dumps({"event": "STOP"}))
for line in sys.stdin:
    command = json.loads(line)
    name, arguments = command["execute"], command.get("arguments", {})
    if name == "device_add" and arguments["driver"].startswith("bad"):
        print(json.dumps({"error": {"class": "GenericError", "desc": "no " + arguments["driver"]}}))
    elif name in ANSWERS:
        print(json.dumps({"return": ANSWERS[name]}))
    else:
        print(json.dumps({"error": {"class": "CommandNotFound", "desc": "unknown"}}))
"""


def write(path: Path, *, romless: bool = False) -> Path:
    """Write the program to `path` and return that; `romless`: it says that it does without ROMs under Xen."""
    text = _PROGRAM.replace("PYTHON", f"{sys.executable} -IS")
    path.write_text(text.replace("ROMLESS", "going on without an option ROM" if romless else ""))
    path.chmod(0o755)
    return path
