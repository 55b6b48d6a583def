"""The QMP schema as text: what the generator in a QEMU tree writes, and what a reader makes of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from xenqemu.target.profile import load_profile
from xenqemu.target.render import render_target

FILES = {file.path: file.content.decode() for file in render_target(load_profile("hvm"), Version("10.2.2"))}


@dataclass(frozen=True)
class Condition:
    """A condition of the schema, as scripts/qapi/schema.py has them: none, or the name of a macro."""

    macro: str

    def is_present(self) -> bool:
        return bool(self.macro)

    def gen_if(self) -> str:
        return f"#if defined({self.macro})\n"

    def gen_endif(self) -> str:
        return f"#endif /* {self.macro} */\n"


def annotated(value: object, macro: str = "") -> SimpleNamespace:
    return SimpleNamespace(value=value, ifcond=Condition(macro))


class Output:
    def __init__(self) -> None:
        self.text = ""

    def add(self, text: str) -> None:
        self.text += text


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    """The rendered module, in a package with the two functions of scripts/qapi/common.py that it uses."""
    common = ModuleType("fake_qapi.common")
    common.__dict__.update(
        c_name=lambda name, protect=True: name.replace("-", "_"), mcgen=lambda code, **values: code % values
    )
    package = ModuleType("fake_qapi")
    module = ModuleType("fake_qapi.xen_dm_schema")
    module.__package__ = "fake_qapi"
    sys.modules |= {"fake_qapi": package, "fake_qapi.common": common}
    exec(compile(FILES["scripts/qapi/xen_dm_schema.py"], "xen_dm_schema.py", "exec"), module.__dict__)
    yield module
    del sys.modules["fake_qapi"], sys.modules["fake_qapi.common"]


def generate(generator: ModuleType, trees: list[Any]) -> str:
    header, source = Output(), Output()
    generator.add_to(header, source, "", trees)
    assert "extern const char qmp_schema_text[];" in header.text
    assert "extern const char *const qmp_schema_words[];" in header.text
    return source.text


def compiled(source: str, defined: Callable[[str], bool]) -> str:
    """Return the string that a compiler makes of the text's definition."""
    result = []
    kept = [True]
    for line in source.partition("qmp_schema_text[] =\n")[2].splitlines():
        if line.startswith("#if"):
            kept.append(kept[-1] and defined(line[len("#if defined(") : -1]))
        elif line.startswith("#endif"):
            kept.pop()
        elif kept[-1]:
            for literal in re.findall(r'"([^"]*)"', line):
                result.append(re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), literal))
    return "".join(result)


def read(text: str, words: tuple[str, ...]) -> Any:
    """Do what include/qapi/xen-dm-schema.h does."""
    flat = "".join(words[ord(c) - 1] if c < " " else c for c in text)
    return json.loads(re.sub(r",(?=[\]}])", "", flat).replace("'", '"'))


def plain(value: Any, defined: Callable[[str], bool]) -> Any:
    """Return the tree without its conditions."""
    if isinstance(value, SimpleNamespace):
        return plain(value.value, defined)
    if isinstance(value, dict):
        return {key: plain(item, defined) for key, item in value.items()}
    if isinstance(value, list):
        holds = (
            item
            for item in value
            if not isinstance(item, SimpleNamespace) or not item.ifcond.macro or defined(item.ifcond.macro)
        )
        return [plain(item, defined) for item in holds]
    return value


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_[]", min_size=1, max_size=12)
KEYS = st.sampled_from(["name", "type", "members", "meta-type", "case", "default", "arg-type", "ret-type", "features"])
MACROS = st.sampled_from(["", "", "CONFIG_LINUX", "TARGET_I386"])
TREES = st.lists(
    st.builds(
        annotated,
        st.dictionaries(
            KEYS,
            st.recursive(
                st.one_of(NAMES, st.booleans(), st.none()),
                lambda inner: st.one_of(
                    st.lists(st.builds(annotated, inner, MACROS), max_size=3), st.dictionaries(KEYS, inner, max_size=3)
                ),
                max_leaves=8,
            ),
            max_size=4,
        ),
        MACROS,
    ),
    max_size=4,
)


@given(trees=TREES, linux=st.booleans(), i386=st.booleans())
def test_the_text_says_what_the_tree_says(generator: ModuleType, trees: list[Any], linux: bool, i386: bool) -> None:
    def defined(macro: str) -> bool:
        return {"CONFIG_LINUX": linux, "TARGET_I386": i386}[macro]

    text = compiled(generate(generator, trees), defined)
    assert read(text, generator.WORDS) == plain(trees, defined)


def test_what_is_said_often_is_said_shortly(generator: ModuleType) -> None:
    members = [annotated({"name": f"option-{number}", "type": "str", "default": None}) for number in range(50)]
    trees = [annotated({"name": "7", "meta-type": "object", "members": members})]
    text = compiled(generate(generator, trees), bool)
    assert read(text, generator.WORDS) == plain(trees, bool)
    assert len(text) < 0.4 * len(json.dumps(plain(trees, bool)))


def test_words_are_fewer_than_there_are_bytes_for(generator: ModuleType) -> None:
    assert 0 < len(generator.WORDS) < ord(" ")
    assert "(*text > 0 && *text < ' ')" in FILES["include/qapi/xen-dm-schema.h"]


@pytest.mark.parametrize(("version", "header"), [("7.2.0", "qapi/qmp/qjson.h"), ("10.0.13", "qobject/qjson.h")])
def test_the_parser_is_where_that_qemu_has_it(version: str, header: str) -> None:
    files = {file.path: file.content.decode() for file in render_target(load_profile("hvm"), Version(version))}
    assert f'#include "{header}"' in files["include/qapi/xen-dm-schema.h"]
