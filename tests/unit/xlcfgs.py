"""Configs by the thousand, good and bad, and the check that xenqemu and libxlutil agree on one."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from hypothesis import strategies as st

from tests.unit.xlu import Answers, Libxlutil
from xenqemu.vm.xlcfg import XlConfig, XlSyntaxError, edit, is_python, parse

CASES_PER_EXAMPLE = 20

REAL = (
    b"""# An HVM guest with everything
builder = "hvm"   # old toolstacks
type = "hvm"
name = "win10"
uuid = 'c0ffee00-1111-4222-8333-444455556666'
memory = 4096; maxmem = 0x2000
vcpus = 2
vif = [ 'mac=00:16:3e:00:00:01,bridge=xenbr0', "model=e1000" ]
disk = [
    'format=raw, vdev=hda, access=rw, target=/dev/vg/guest',   # system
    'format=qcow2, vdev=hdb, access=ro, target=/srv/a "b".img',

    # an empty drive
    ',empty,hdc,cdrom,',
]
device_model_version = "qemu-xen"
device_model_args_hvm = [ "-device", "virtio-rng-pci" ]
on_crash = 'preserve'
""",
    b"kernel='/boot/vmlinuz'\nextra=\"root=/dev/xvda1 \\\"quoted\\\"\"\nextra+=' quiet'\n"
    b"vfb=['vnc=1']\nvfb+=[ 'sdl=0', ]\n",
    b'vnuma = [ [ "pnode=0","size=500","vcpus=0-1","vdistances=10,20"  ],\n  [ "pnode=1", "size=500"] ]\nacpi=0',
    b'name="gr\xfc\xdfe"\t;;; localtime=1;\n\n\n# no line end follows\nserial=[ \'pty\' , "file:/tmp/\xe2\x82\xac" ]',
    b"# first\r\nname = 'dos' # \r\nmemory = '010' #\r\n",
)
PYTHON = b"import os\nname = \"vm-\" + os.uname()[1]\ndisk = [ 'phy:%s,hda,w' % path ]\n"


_NAMES = ("name", "memory", "vcpus", "disk", "device_model_override", "a", "b", "x.y_0", "on_crash")
_STRAY_NAMES = re.compile(rb"[a-z][._0-9a-z]*")
_BINARY_NUMBER = re.compile(r"\s*[+-]?0[bB][01]+")
_TEXTS = (
    "",
    "hvm",
    "/usr/lib/xen/bin/qemu",
    "1",
    "0x1f",
    "a 'b' \"c\"",
    "\\",
    "#",
    "gr\udcfc\udcdfe",
    "\N{EURO SIGN}",
    "\n\t\r\x01",
    "é",
)
_CHUNKS = (
    *(bytes([byte]) for byte in b" \t\n;,=[]'\"\\#+-.()xA09\r\0\xff"),
    *(b"+=", b"\\n", b"\\x41", b"\\012", b"\\0 1", b"\\1-2", b"\\8", b"''", b'""', b"[]", b"[1,", b"# c\n", b"0b1"),
    *(b"a=1\n", b"a+='b'", b"a+=[2]\n", b"; b=[[],'x']", b"name", b"\r\n", b"'\\''"),
)


def _quoted(mark: bytes) -> st.SearchStrategy[bytes]:
    plain = st.binary(max_size=6).map(lambda raw: re.sub(rb"[\n\\\0" + mark + rb"]", b"-", raw))
    escape = st.sampled_from([b"\\" + mark, b"\\\\", b"\\n", b"\\v", b"\\000", b"\\0 12", b"\\7+1x"])
    return st.lists(st.one_of(plain, plain, escape), max_size=3).map(lambda parts: mark + b"".join(parts) + mark)


_blank = st.sampled_from([b"", b"", b" ", b" ", b"\t", b"   "])
_atom = st.one_of(_quoted(b'"'), _quoted(b"'"), st.sampled_from([b"0", b"1", b"512", b"0x1f", b"08", b"9fx", b"'17'"]))
_newlines = st.sampled_from([b"", b"", b" ", b"\n", b" # item's end\n\t", b"\n\n"])


@st.composite
def _lists(draw: st.DrawFn, depth: int = 0) -> bytes:
    item = _atom if depth > 1 else st.one_of(_atom, _atom, _atom, _lists(depth + 1))
    items = draw(st.lists(item, max_size=3))
    parts = [b"[", draw(_newlines)]
    for index, value in enumerate(items):
        parts += (value, draw(_newlines))
        if index < len(items) - 1 or draw(st.booleans()):
            parts += (b",", draw(_newlines))
    return b"".join((*parts, b"]"))


_statement = st.tuples(
    *(_blank, st.sampled_from([name.encode() for name in _NAMES]), _blank),
    *(st.sampled_from([b"=", b"=", b"=", b"+="]), _blank, st.one_of(_atom, _atom, _lists()), _blank),
).map(b"".join)
_endings = st.sampled_from([b"\n", b"\n", b"\n", b";", b"; ", b"# comment\n", b"\n\n", b" #; 'x\r\n", b";;\n"])
_tails = st.sampled_from([b"", b"", b"", b"#", b" ", b"@", b"# end\n", b"'", b"\n", b";"])

configs = st.tuples(
    st.lists(st.tuples(_statement, _endings).map(b"".join), max_size=6).map(b"".join),
    st.one_of(st.just(b""), _statement),
    _tails,
).map(b"".join)


def mutant(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with a few bytes put in, taken out, flipped or moved."""
    raw = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(raw) + 1)
        until = min(len(raw), at + chance.choice((1, 1, 2, 8)))
        match chance.randrange(5):
            case 0 | 1:
                raw[at:at] = chance.choice(_CHUNKS)
            case 2:
                del raw[at:until]
            case 3 if at < len(raw):
                raw[at] ^= 1 << chance.randrange(8)
            case _:
                piece = raw[at:until]
                del raw[at:until]
                to = chance.randrange(len(raw) + 1)
                raw[to:to] = piece
    return bytes(raw)


def batch(config: bytes, seed: int) -> Iterator[tuple[bytes, random.Random]]:
    """Yield `CASES_PER_EXAMPLE` configs, made of `config`, of real ones and of scraps, each with a source of chance."""
    chance = random.Random(seed)
    yield config, chance
    for number in range(1, CASES_PER_EXAMPLE):
        match number % 4:
            case 0:
                yield b"".join(chance.choices(_CHUNKS, k=chance.randrange(1, 8))), chance
            case 1:
                yield mutant(chance.choice(REAL), chance), chance
            case _:
                yield mutant(config, chance), chance


def check(libxlutil: Libxlutil, data: bytes, chance: random.Random) -> bool:
    """Fail unless xenqemu and libxlutil agree on `data`, and on it after a few edits; return whether it is valid."""
    names = {*_NAMES, "absent", *(name.decode() for name in _STRAY_NAMES.findall(data))}
    before = libxlutil.read(data, names)
    config = _parsed(data)
    if isinstance(config, XlSyntaxError):
        assert isinstance(before, str), f"libxlutil accepts {data!r}, we say {config}"
        is_python(data)
        return False
    assert not isinstance(before, str), f"we accept {data!r}, libxlutil says {before}"
    assert is_python(data) is None
    _same(config, before)
    changes = {
        name: chance.choice((None, *_TEXTS)) for name in chance.sample((*before, "new", "new2"), chance.randrange(1, 4))
    }
    edited = edit(config, changes)
    after = libxlutil.read(edited, (*names, "new", "new2"))
    assert not isinstance(after, str), f"edit {data!r} with {changes}: {edited!r}: {after}"
    for name, answers in after.items():
        if name not in changes:
            assert answers == before.get(name, answers), f"{name} after {data!r} with {changes}: {edited!r}"
        else:
            assert answers.value == changes[name], f"{name} after {data!r} with {changes}: {edited!r}"
    again = parse(edited, "config")
    _same(again, after)
    assert edit(again, changes) == edited, f"twice: {data!r} with {changes}"
    _untouched(config, again, changes)
    return True


def _parsed(data: bytes) -> XlConfig | XlSyntaxError:
    try:
        return parse(data, "config")
    except XlSyntaxError as error:
        return error


def _same(config: XlConfig, theirs: dict[str, Answers]) -> None:
    assert set(config.effective()) <= set(theirs)
    for name, answers in theirs.items():
        items = config.items(name) if isinstance(config.get(name), tuple) else None
        ours = Answers(config.get(name), config.text(name), config.number(name), config.flag(name), items)
        if _BINARY_NUMBER.fullmatch(answers.text or ""):  # as the C library pleases
            ours, answers = (Answers(each.value, each.text, None, None, each.items) for each in (ours, answers))
        assert ours == answers, f"{name} in {config.data!r}"


def _untouched(before: XlConfig, after: XlConfig, changes: dict[str, str | None]) -> None:
    """Fail unless every statement that was not to be changed, and every byte between statements, is as it was."""

    def others(config: XlConfig) -> list[bytes]:
        return [config.data[each.start : each.end] for each in config.statements if each.name not in changes]

    def between(config: XlConfig) -> list[bytes]:
        ends = (0, *(each.end for each in config.statements))
        starts = (*(each.start for each in config.statements), len(config.data))
        return [config.data[end:start] for end, start in zip(ends, starts, strict=True)]

    assert others(before) == others(after), f"{before.data!r} with {changes}: {after.data!r}"
    if None not in changes.values() and all(before.statements_of(name) for name in changes):
        assert between(before) == between(after), f"{before.data!r} with {changes}: {after.data!r}"
