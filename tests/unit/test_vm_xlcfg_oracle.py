"""xl.cfg files as Xen's own parser sees them: the same are accepted, with the same values, before and after edits."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.xlcfgs import PYTHON, REAL, batch, check, configs
from tests.unit.xlu import Libxlutil
from xenqemu.vm.xlcfg import XlSyntaxError, parse

ACCEPTED = (
    *(b"", b"\n", b" \t", b";;;", b"#\n", b"a=1", b"a=1;", b"a = 1 ; b\t=\t'2'", b"a=1#\r\n", b"#\0\xff\na=1"),
    *(b"a=[]", b"a=[\n]", b"a=[1,]", b"a=[ # c\n1\n,\n2, ]", b"a=[[],[[]],'x']", b"a=['x'\n\n,[1,2],3]"),
    *(b"a='\r\t\x01'", b"a='\"'", b'a="\'"', b"a='\\a\\b\\f\\n\\r\\t\\v\\\\\\'\\\"'", b"a='gr\xfc\xc3\xbc'"),
    *(b"a='x\\012y'", b"a='x\\0 1y'", b"a='x\\0 1234'", b"a='\\7+12'", b"a='\\3\t\x0b5'", b"a='\\099'"),
    *(b"a='1';a+='2'", b"a+=1", b"a=1;a+=2;a=3", b"a=[1];a+=[2];a+=[]", b"a=1;a=[1];a+=[2]", b"a='\xc3';a+='\xa9'"),
    *(b"a=0x10", b"a=010", b"a=08", b"a=0x", b"a='-7'", b"a=' +7'", b"a='7 '", b"a='\\n7'", b"a=''", b"a='0xFf'"),
    *(b"a=9223372036854775807", b"a=9223372036854775808", b"a='-9223372036854775808'", b"a='-9223372036854775809'"),
    *(
        b"a=0;b='-0'",
        b"a=" + b"9" * 5000,
        b"a=0x" + b"f" * 5000,
        b"a.b_c.9=1",
        b"a.=1",
        b"a=12fx",
        b"a=1\n#",
        b"a=1\n\t@",
        b"a=[1]'",
        b"#",
        b"'",
        b"a=1\xff",
        b"a=1\0",
    ),
)
REFUSED = (
    *(b"a", b"a=", b"=1", b"a==1", b"a\n=1", b"a=\n1", b"a=1 b=2", b"a=1 2", b"a='x' 'y'", b"A=1", b"a-b=1", b"1=a"),
    *(
        b"a=1\r\n",
        b"\r\n",
        b"\xef\xbb\xbfa=1",
        b"a=1\n# end",
        b"a=1\n# ",
        b"a=1@ ",
        b"a=1@\n",
        b"a=1..",
        b"a=b",
        b"a= +1",
    ),
    *(
        b"a=[,]",
        b"a=[1,,2]",
        b"a=[1 2]",
        b"a=[1;2]",
        b"a=[1",
        b"a=[1,",
        b"a=[[1]",
        b"a=[1]]",
        b"a=[b=1]",
        b"a=1,",
        b"a=[[1][2]]",
    ),
    *(
        b"a='x",
        b"a='\\'",
        b"a='x\ny'",
        b"a='\\\n'",
        b"a='\\x41'",
        b"a='\\1'",
        b"a='\\01'",
        b"a='\\0 x'",
        b"a='\\q'",
        b"a='\\\r'",
    ),
    *(
        b"a=1;a+=[1]",
        b"a=[1];a+=1",
        b"a=1;b=[1];a+='2';a+=[3]",
        b"a=\0 1",
        b"a='x\0'",
        b"a='\0x'",
        b"a='\\'\0'",
        b"a='\\q\0'",
    ),
    PYTHON,
)


@pytest.fixture(scope="module")
def libxlutil() -> Libxlutil:
    try:
        return Libxlutil()
    except OSError as error:
        pytest.skip(str(error))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs, seed=st.integers(0, 2**32))
def test_xenqemu_and_libxlutil_agree(libxlutil: Libxlutil, config: bytes, seed: int) -> None:
    for data, chance in batch(config, seed):
        check(libxlutil, data, chance)


@pytest.mark.parametrize("data", [*REAL, *ACCEPTED])
def test_they_agree_on_what_is_good(libxlutil: Libxlutil, data: bytes) -> None:
    for seed in range(6):
        assert check(libxlutil, data, random.Random(seed))


@pytest.mark.parametrize("data", REFUSED)
def test_they_agree_on_what_is_bad(libxlutil: Libxlutil, data: bytes) -> None:
    assert not check(libxlutil, data, random.Random(0))


@pytest.mark.parametrize(
    "template", [b"a='%c'", b"a='\\%c'", b"a='\\0%c1'", b"a=1%c", b"a=1 %c\n", b"%c=1", b"%c", b"a=1%cb=2"]
)
def test_they_agree_on_every_byte(libxlutil: Libxlutil, template: bytes) -> None:
    valid = sum(check(libxlutil, template % byte, random.Random(byte)) for byte in range(256))
    assert 0 < valid < 256


@pytest.mark.parametrize(
    ("opening", "innermost", "closing", "levels"),
    [
        (b"[", b"", b"]", 4996),
        (b"[\n", b"1\n", b"]\n", 4996),
        (b"[", b"1", b",]", 4996),
        (b"[1,", b"1", b"]", 1998),
        (b"[1,", b"[]", b"]", 1998),
        (b"[1,2,", b"[\n]", b"\n]", 1998),
    ],
)
def test_they_agree_on_how_deep_lists_go(
    libxlutil: Libxlutil, opening: bytes, innermost: bytes, closing: bytes, levels: int
) -> None:
    accepted = []
    for depth in range(levels - 4, levels + 5):
        data = b"a=" + opening * depth + innermost + closing * depth
        theirs = not isinstance(libxlutil.read(data, ()), str)
        try:
            parse(data, "deep")
            accepted.append(depth)
        except XlSyntaxError:
            assert not theirs, depth
        else:
            assert theirs, depth
    assert accepted
    assert accepted[-1] < levels + 4
