"""xl.cfg files: what the parser makes of them, and what an edit changes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.xlcfgs import PYTHON, REAL, configs
from xenqemu.errors import EXIT_VM_CONFIG, VmConfigError
from xenqemu.vm.xlcfg import Statement, XlSyntaxError, edit, is_python, parse

EXAMPLE = b"""# An HVM guest
name = "guest"
memory = 512 ; vcpus=2
disk = [ 'phy:/dev/a,hda,w',
         'phy:/dev/b,hdb,w', # data
       ]
"""


def test_a_statement_knows_where_it_is() -> None:
    config = parse(EXAMPLE, "guest.cfg")
    name, memory, vcpus, disk = config.statements
    assert name == Statement("name", "guest", "=", 15, 29, 22, 29, 2)
    assert EXAMPLE[memory.start : memory.end] == b"memory = 512"
    assert EXAMPLE[vcpus.start : vcpus.end] == b"vcpus=2"
    assert EXAMPLE[disk.value_start :].startswith(b"[ 'phy")
    assert EXAMPLE[: disk.value_end].endswith(b"]")
    assert [statement.line for statement in config.statements] == [2, 3, 3, 4]


def test_effective_values() -> None:
    config = parse(EXAMPLE + b"a='1'; a += '2'; b=[[1,'x'],2]; c=1; c=3; d='\xff'; memory=1024\n", "guest.cfg")
    assert config.effective() == {
        "name": "guest",
        "memory": "1024",
        "vcpus": "2",
        "disk": ("phy:/dev/a,hda,w", "phy:/dev/b,hdb,w"),
        "a": "12",
        "b": (("1", "x"), "2"),
        "c": "3",
        "d": "\udcff",
    }
    assert [statement.value for statement in config.statements_of("c")] == ["1", "3"]
    assert (config.get("absent"), config.text("absent"), config.number("absent"), config.items("absent")) == (
        None,
        None,
        None,
        (),
    )


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1", 1),
        ("0x1f", 31),
        ("010", 8),
        ("'-5'", -5),
        ("' \\t+5'", 5),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("'-9223372036854775808'", -(2**63)),
        ("9" * 5000, None),
        ("0" * 5000 + "7", 7),
        ("08", None),
        ("0x", None),
        ("'5 '", None),
        ("''", None),
        ("'5k'", None),
        ("[5]", None),
    ],
)
def test_a_number_is_what_strtol_reads(value: str, number: int | None) -> None:
    config = parse(f"a = {value}\n".encode(), "guest.cfg")
    assert config.number("a") == number
    assert config.flag("a") == (None if number is None else True)


def test_zero_is_false_and_a_sum_is_no_number() -> None:
    config = parse(b"a=0; b='-0'; c += 1", "guest.cfg")
    assert (config.flag("a"), config.flag("b"), config.flag("c")) == (False, False, None)
    assert (config.number("c"), config.text("c")) == (None, "1")


def test_items_end_where_libxlutil_puts_a_null() -> None:
    config = parse(b"a=['x', 1, ['y'], 'z']; b='x'", "guest.cfg")
    assert config.items("a") == ("x", "1")
    assert config.items("b") == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a=1\r\n", "guest.cfg:1: the line ends in CR LF, which xl refuses"),
        (b"\na=1\n# end", "guest.cfg:3: a comment at the end of the file without a line end, which xl refuses"),
        (b"\xef\xbb\xbfa=1", "guest.cfg:1: a byte order mark, which xl refuses"),
        (b"a=1\nMemory=2", "guest.cfg:2: an upper-case letter outside a string"),
        (b"a=1\n\nb='x\n'", "guest.cfg:3: a string that does not end on its line"),
        (b"a='x\0'", "guest.cfg:1: a NUL byte in a string, on which xl aborts"),
        (b"a=\0\n", "guest.cfg:1: a NUL byte"),
        (b"a='\\xff'", "guest.cfg:1: the escape \\x in a string, which xl does not know"),
        (b"a=[\n'\\\xff']", "guest.cfg:2: the escape \\\\xff in a string, which xl does not know"),
        (b"a", "guest.cfg:1: the file ends where '=' or '+=' after 'a' should be"),
        (b"a b", "guest.cfg:1: 'b' where '=' or '+=' after 'a' should be"),
        (b"a=\n1", "guest.cfg:1: the line ends where a value for 'a' on the same line should be"),
        (b"a=1 b=2", "guest.cfg:1: 'b' where the end of the line or ';' after a value should be"),
        (b"a=[\n1\n2]", "guest.cfg:3: '2' where ',' or ']' in a list should be"),
        (b"a=[,]", "guest.cfg:1: ',' where a value in a list should be"),
        (b"a=[1,\n;]", "guest.cfg:2: ';' where a value or ']' in a list should be"),
        (b"= 1", "guest.cfg:1: '=' where the name of a setting should be"),
        (b"a=1\na+=[2]", "guest.cfg:2: 'a' += adds a list to a string, or a string to a list"),
        (b"a=" + b"[" * 5000 + b"]" * 5000, "guest.cfg:1: lists are nested too deeply"),
    ],
)
def test_a_refusal_names_the_line_and_says_what_to_do(data: bytes, message: str) -> None:
    with pytest.raises(XlSyntaxError) as caught:
        parse(data, "guest.cfg")
    assert caught.value.message == message
    assert caught.value.hint
    assert "\n" not in caught.value.hint
    assert caught.value.exit_code == EXIT_VM_CONFIG


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        # only the value, in its own kind of quotes
        (b"a = 'x'  # c\n", {"a": "y"}, b"a = 'y'  # c\n"),
        (b'a="x";b=1', {"a": "it's", "b": "2"}, b'a="it\'s";b=2'),
        (b"a='x'", {"a": 'it\'s "\\"'}, b"a='it\\'s \"\\\\\"'"),
        (b"a=1\n", {"a": "x"}, b'a="x"\n'),
        (b"a=[ 'x',\n'y' ] # c\n", {"a": "x"}, b'a="x" # c\n'),
        (b"a='x'\n", {"a": "\n\t\r\x07"}, b"a='\\n\\t\\r\\a'\n"),
        (b"a='x'", {"a": "gr\udcfc\N{EURO SIGN}"}, b"a='gr\xfc\xe2\x82\xac'"),
        # nothing where it is so already
        (b"a='x'; b=0x10\n", {"a": "x", "b": "0x10"}, b"a='x'; b=0x10\n"),
        # the last of several, and no sum
        (b"a=1\na=2\n", {"a": "3"}, b"a=1\na=3\n"),
        (b"a='x'\na  += 'y'\n", {"a": "z"}, b"a='x'\na  = 'z'\n"),
        (b"a += 'y'\n", {"a": "y"}, b"a = 'y'\n"),
        (b"a = ['x']\na += ['y']\n", {"a": "z"}, b"a = ['x']\na = \"z\"\n"),
        # a new name below the last statement
        (b"", {"n": "v"}, b'n = "v"\n'),
        (b"a=1\n", {"n": "v", "m": "2"}, b'a=1\nn = "v"\nm = 2\n'),
        (b"a=1", {"n": "v"}, b'a=1\nn = "v"\n'),
        (b"a=1;", {"n": "v"}, b'a=1;\nn = "v"\n'),
        (b"a=1 # c\n\n# end\n", {"n": "v"}, b'a=1 # c\nn = "v"\n\n# end\n'),
        (b"# first\r\na=1 #\r\n", {"n": "v"}, b'# first\r\na=1 #\r\nn = "v"\n'),
        (b"# only\n", {"n": "v"}, b'# only\nn = "v"\n'),
        (b"a=1\n  ", {"n": "v"}, b'a=1\nn = "v"\n  '),
        (b"a=1 @", {"n": "v"}, b'a=1 \nn = "v"\n@'),
        (b"#", {"n": "v"}, b'n = "v"\n#'),
        # removing
        (b"a=1\nb=2\nc=3", {"b": None}, b"a=1\nc=3"),
        (b"a=1\nb=2\nc=3", {"c": None}, b"a=1\nb=2\n"),
        (b"a=1\n  b=[\n2\n]\t\nc=3\n", {"b": None}, b"a=1\nc=3\n"),
        (b"a=1 # c\n", {"a": None}, b"# c\n"),
        (b"a=1; b=2; c=3 # c\n", {"a": None}, b"b=2; c=3 # c\n"),
        (b"a=1; b=2; c=3 # c\n", {"b": None}, b"a=1; c=3 # c\n"),
        (b"a=1; b=2; c=3 # c\n", {"c": None}, b"a=1; b=2 # c\n"),
        (b"a=1 ;\t;b=2\n", {"b": None}, b"a=1 ;\n"),
        (b"a=1; b=2; c=3\n", {"b": None, "c": None}, b"a=1; \n"),
        (b"x=1\na=1; b=2;\ny=1\n", {"b": None, "a": None}, b"x=1\ny=1\n"),
        (b"x=1\na=1; b=2\ny=1\n", {"b": None, "a": None}, b"x=1\ny=1\n"),
        (b"a=1\na+=2;b=1\n", {"a": None}, b"b=1\n"),
        (b"a=1\nb=2\n", {"absent": None}, b"a=1\nb=2\n"),
        (b"a=1\nb=2", {"b": None, "n": "v"}, b'a=1\nn = "v"\n'),
        (b"a=1", {"a": None, "n": "v"}, b'n = "v"\n'),
    ],
)
def test_an_edit_changes_no_other_byte(before: bytes, changes: dict[str, str | None], after: bytes) -> None:
    edited = edit(parse(before, "guest.cfg"), changes)
    assert edited == after
    again = parse(edited, "guest.cfg")
    assert edit(again, changes) == edited
    assert {name: again.get(name) for name in changes} == changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": "x\0"}, "'x\\x00' cannot be written to an xl.cfg: it has a NUL byte"),
        ({"n": "\ud800"}, "'\\ud800' cannot be written to an xl.cfg: it is not text"),
        ({"Name": "x"}, "'Name' cannot be the name of a setting in an xl.cfg"),
        ({"a b": None}, "'a b' cannot be the name of a setting in an xl.cfg"),
        ({"\ud800": "x"}, "'\\ud800' cannot be the name of a setting in an xl.cfg"),
    ],
)
def test_what_cannot_be_written_is_refused(changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(VmConfigError) as caught:
        edit(parse(b"a=1\n", "guest.cfg"), changes)
    assert caught.value.message == message
    assert caught.value.hint


@given(configs, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_can_be_set_and_read_back(data: bytes, text: str) -> None:
    try:
        config = parse(data, "guest.cfg")
    except XlSyntaxError:
        config = parse(EXAMPLE, "guest.cfg")
    after = parse(edit(config, {"memory": text, "new": text}), "guest.cfg")
    assert after.effective() == {**config.effective(), "memory": text, "new": text}


@pytest.mark.parametrize(
    ("data", "sign"),
    [
        (PYTHON, "line 1: an import (`import os`)"),
        (b"a='#import x'\n\nfrom os import path\n", "line 3: an import (`from os import path`)"),
        (b"def f():\n  return 1\n", "line 1: a definition (`def f():`)"),
        (b"a=1\r\nif a == 1:\r\n", "line 2: a compound statement (`if a == 1:`)"),
        (b"a='''x\ny'''\n", "line 1: a string in triple quotes (`a='''x`)"),
        (b"a=1\nprint a\n", "line 2: a Python statement (`print a`)"),
        (b"a = 'x%d' % 1", "line 1: `%` formatting (`a = 'x%d' % 1`)"),
        (b"a = os.path.join('a', 'b')", "line 1: a method call (`a = os.path.join('a', 'b')`)"),
        (b"a = int(b)", "line 1: a function call (`a = int(b)`)"),
        (b"a = { 'x': 1 }", "line 1: a dictionary (`a = { 'x': 1 }`)"),
        (b"a = b['x']", "line 1: an item of a list or dictionary (`a = b['x']`)"),
        (b"a['x'] = 1", "line 1: an item of a list or dictionary (`a['x'] = 1`)"),
        (b"a = ('x', 1)", "line 1: an expression in parentheses (`a = ('x', 1)`)"),
        (b"a = [ x for x in b ]", "line 1: a Python expression (`a = [ x for x in b ]`)"),
        (b"a = 2 * 1024", "line 1: an expression (`a = 2 * 1024`)"),
        (b"a = 'x' + b", "line 1: an expression (`a = 'x' + b`)"),
        (b"a = True", "line 1: a Python constant (`a = True`)"),
        (b"b = 'x'\na = b\n", "line 2: the value of a variable (`a = b`)"),
        (b"a = f(" + b"1" * 99 + b")", f"line 1: a function call (`a = f({'1' * 51}...`)"),
        (b"a = f('\xff')", "line 1: a function call (`a = f('\\xff')`)"),
        # slips of the pen
        (b"name = guest", None),
        (b"kernel = /boot/vmlinuz-6.1", None),
        (b"uuid = c0ffee00-1111-4222-8333-444455556666", None),
        (b"a=1\r\nb='x'\r\n", None),
        (b"Memory = 5 # import os\n", None),
        (b"disk [ 'x' ]", None),
        (b"a = 'import os", None),
        # no text at all
        (b"\x7fELF\x02\x01\x01\0\0\0\nf(1)\n", None),
        (b"a = f(1)\x1b[2J\n", None),
        # good ones
        *((data, None) for data in REAL),
        (b"a = 'import os; os.path.join(1) % 2'\n# def f():\n", None),
    ],
)
def test_python_is_told_from_a_slip(data: bytes, sign: str | None) -> None:
    assert is_python(data) == sign


def test_importing_it_is_cheap() -> None:
    code = "import sys; import xenqemu.vm.xlcfg; print(*sorted(sys.modules))"
    loaded = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True).stdout.split()
    assert "xenqemu.vm.xlcfg" in loaded
    assert not {"lxml", "click", "git", "hypothesis"} & set(loaded)
