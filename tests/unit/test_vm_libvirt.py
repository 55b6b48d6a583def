"""libvirt domain XML: what is read from it, and that an edit changes the emulator and nothing else."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import VmConfigError
from xenqemu.vm.libvirt import is_xml, parse_domain, set_emulator

_DM = "/opt/xenqemu/bin/qemu-system-xen"
_DOMAIN = b"""<?xml version='1.0' encoding='UTF-8'?>
<!-- a > b -->
<domain type='xen' id="3">
  <name>one</name>
  <os>
    <type arch='x86_64' machine='xenfv'>hvm</type>
  </os>
  <devices>
    <emulator>/usr/lib/xen/bin/qemu-system-i386</emulator>
    <disk type='file'/>
  </devices>
</domain>
"""
_WITHOUT = _DOMAIN.replace(b"    <emulator>/usr/lib/xen/bin/qemu-system-i386</emulator>\n", b"")


def _edited(data: bytes, path: str = _DM) -> bytes:
    edited = set_emulator(parse_domain(data, "test.xml"), path)
    again = parse_domain(edited, "test.xml")
    assert again.emulator == path
    assert set_emulator(again, path) == edited
    return edited


def _element(path: str = _DM) -> bytes:
    return b"<emulator>" + path.encode() + b"</emulator>"


def test_what_is_read() -> None:
    domain = parse_domain(_DOMAIN, "test.xml")
    assert (domain.kind, domain.os_type, domain.name) == ("xen", "hvm", "one")
    assert domain.emulator == "/usr/lib/xen/bin/qemu-system-i386"
    assert parse_domain(_WITHOUT, "test.xml").emulator is None


def test_a_boot_loader_makes_a_pv_guest() -> None:
    data = b"<domain type='xen'><bootloader>pygrub</bootloader></domain>"
    assert parse_domain(data, "test.xml").os_type == "linux"


def test_the_emulator_is_replaced_and_nothing_else() -> None:
    assert _edited(_DOMAIN) == _DOMAIN.replace(b"/usr/lib/xen/bin/qemu-system-i386", _DM.encode())


def test_the_same_emulator_changes_nothing() -> None:
    assert _edited(_DOMAIN, "/usr/lib/xen/bin/qemu-system-i386") == _DOMAIN


def test_a_missing_emulator_comes_first_among_the_devices() -> None:
    assert _edited(_WITHOUT) == _DOMAIN.replace(b"/usr/lib/xen/bin/qemu-system-i386", _DM.encode())


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (b"  <devices/>\n", b"  <devices>\n    %s\n  </devices>\n"),
        (b"  <devices  />\n", b"  <devices>\n    %s\n  </devices>\n"),
        (b"  <devices>\n  </devices>\n", b"  <devices>\n    %s\n  </devices>\n"),
        (b"  <devices></devices>\n", b"  <devices>\n    %s\n  </devices>\n"),
        (b"\t<devices/>\r\n", b"\t<devices>\n\t\t%s\n\t</devices>\r\n"),
        (b"\r\n\t<devices/>\r\n", b"\r\n\t<devices>\r\n\t\t%s\r\n\t</devices>\r\n"),
        (b"  <name/><devices/>\n", b"  <name/><devices>%s</devices>\n"),
        (b"  <devices><disk/></devices>\n", b"  <devices>%s<disk/></devices>\n"),
        (b"  <devices>text<disk/></devices>\n", b"  <devices>%stext<disk/></devices>\n"),
        (b"  <devices a='/>' b=\"'\"/>\n", b"  <devices a='/>' b=\"'\">\n    %s\n  </devices>\n"),
        (b"  <devices><emulator/></devices>\n", b"  <devices>%s</devices>\n"),
        (b"  <name/>\n", b"  <name/>\n  <devices>\n    %s\n  </devices>\n"),
        (b"<name/>", b"<name/>\n<devices>\n  %s\n</devices>"),
        (b"  <!-- <devices/> -->\n", b"  <!-- <devices/> -->\n  <devices>\n    %s\n  </devices>\n"),
    ],
)
def test_where_there_is_no_emulator(devices: bytes, expected: bytes) -> None:
    data = b"<domain type='xen'>\n" + devices + b"</domain>\n"
    assert _edited(data) == b"<domain type='xen'>\n" + expected.replace(b"%s", _element()) + b"</domain>\n"


def test_comments_and_cdata() -> None:
    inner = b"<emulator a='1'><!-- old --><![CDATA[/<!-- no -->]]>x<?keep me?></emulator>"
    data = b"<domain><devices>" + inner + b"</devices></domain>"
    assert parse_domain(data, "x").emulator == "/<!-- no -->x"
    edited = _edited(data)
    assert edited == b"<domain><devices><emulator a='1'>%s<!-- old --><?keep me?></emulator></devices></domain>" % (
        _DM.encode()
    )


def test_only_the_devices_of_the_domain_count() -> None:
    data = b"<domain><metadata><devices><emulator>/a</emulator></devices></metadata>\n<devices/></domain>"
    assert parse_domain(data, "x").emulator is None
    assert b"<metadata><devices><emulator>/a</emulator></devices></metadata>" in _edited(data)


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/a b/&<>\"'", b"/a b/&amp;&lt;&gt;\"'"),
        ("/opt/gerät/qemu", "/opt/gerät/qemu".encode()),
    ],
)
def test_paths_are_escaped(path: str, written: bytes) -> None:
    assert b"<emulator>" + written + b"</emulator>" in _edited(_WITHOUT, path)


def test_another_encoding_gets_character_references() -> None:
    data = "<?xml version='1.0' encoding='iso-8859-15'?><domain><name>é€</name><devices/></domain>".encode("iso8859-15")
    edited = _edited(data, "/gerät/€")
    assert b"<emulator>/ger&#228;t/&#8364;</emulator>" in edited
    assert "<name>é€</name>".encode("iso8859-15") in edited


@pytest.mark.parametrize("path", ["/a\x01b", "/a\nb", "/a\udce9b"])
def test_a_path_that_xml_cannot_hold(path: str) -> None:
    with pytest.raises(VmConfigError, match="cannot be written in XML"):
        set_emulator(parse_domain(_DOMAIN, "x"), path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<domain>", r"test\.xml:1: .*no well-formed XML"),
        (b"<domain/><domain/>", "no well-formed XML"),
        (b"<network/>", "the XML of a <network>"),
        (b"<!DOCTYPE d [<!ENTITY a 'b'>]><domain>&a;</domain>", "declares the entity 'a'"),
        (b"<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain>&a;</domain>", "declares the entity"),
        ("<?xml version='1.0'?><domain/>".encode("utf-16"), "UTF-16"),
        (b"<domain>" + b"<a>" * 300 + b"</a>" * 300 + b"</domain>", "nested more than"),
        (b"<domain><devices><emulator><path/></emulator></devices></domain>", "has the element <path>"),
        (b"<?xml version='1.0' encoding='klingon'?><domain/>", "encoding"),
        (b"<?xml version='1.0' encoding='shift_jis'?><domain/>", "encoding"),
        (b"<domain>\xff</domain>", "no well-formed XML"),
    ],
)
def test_what_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(VmConfigError, match=reason):
        parse_domain(data, "test.xml")


def test_what_is_xml() -> None:
    assert is_xml(b"\xef\xbb\xbf\n <domain/>")
    assert is_xml("<domain/>".encode("utf-16"))
    assert not is_xml(b'name = "<domain/>"')


def test_what_is_on_one_line_stays_on_one_line() -> None:
    assert _edited(b"<domain><name/></domain>") == b"<domain><name/><devices>" + _element() + b"</devices></domain>"


def test_a_document_type_stays() -> None:
    data = b"<!DOCTYPE domain SYSTEM 'd.dtd' [<!-- > --><!ELEMENT a ANY>]>\n" + _DOMAIN.partition(b"?>\n")[2]
    assert _edited(data) == data.replace(b"/usr/lib/xen/bin/qemu-system-i386", _DM.encode())


def _tree(data: bytes) -> list[tuple[object, ...]]:
    """Return a document as another parser sees it, comments and instructions too, without the emulator's text."""
    builder = ElementTree.TreeBuilder(insert_comments=True, insert_pis=True)
    parser = ElementTree.XMLParser(target=builder)
    parser.feed(data)
    root = parser.close()
    emulator = root.find("./devices/emulator")
    assert emulator is not None
    emulator.text = ""
    for child in emulator:
        child.tail = ""
    return [
        (element.tag, sorted(element.attrib.items()), element.text, element.tail if element is not emulator else "")
        for element in root.iter()
    ]


_texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="<>&￾￿"), max_size=8)
_quoted = st.builds(lambda text: '"' + text.replace('"', "") + '"', _texts) | st.builds(
    lambda text: "'" + text.replace("'", "") + ">'", _texts
)
_comments = st.builds(lambda text: f"<!-- {text.replace('-', '>')} -->", _texts)
_cdata = st.builds(lambda text: f"<![CDATA[<{text}>]]>", _texts)
_blanks = st.text("\n\t ", max_size=4)
_leaves = st.one_of(_texts, _comments, _cdata, _blanks, st.just("<?target data?>"), st.just("&amp;&#65;"))
_nodes = st.recursive(
    _leaves,
    lambda inner: st.builds(
        lambda name, value, content: f"<{name} a={value} >{''.join(content)}</{name}>",
        st.sampled_from(["disk", "emulator2", "devices", "x:y", "é"]),
        _quoted,
        st.lists(inner, max_size=4),
    ),
    max_leaves=8,
)
_content = st.lists(_nodes, max_size=4).map("".join)
_emulators = st.one_of(
    st.builds(lambda parts: f"<emulator>{''.join(parts)}</emulator>", st.lists(_leaves, max_size=4)),
    st.builds(lambda value: f"<emulator b={value}/>", _quoted),
)
_prologs = st.sampled_from(["", "\ufeff", "<?xml version='1.0' encoding='utf-8'?>\n", "<!DOCTYPE domain>\n<!-- > -->"])


@given(_prologs, _content, _content, _emulators, _content, _content, _texts)
def test_another_parser_sees_the_same_tree(
    prolog: str, before: str, first: str, emulator: str, last: str, after: str, path: str
) -> None:
    before = before.replace("<devices", "<interfaces").replace("</devices", "</interfaces")
    data = (
        f"{prolog}<domain xmlns:x='y' type='xen'>{before}<devices>{first}{emulator}{last}</devices>{after}</domain>\n"
    ).encode()
    wanted = f"/{path}"
    edited = _edited(data, wanted)
    assert _tree(edited) == _tree(data)
    # And as bytes: all before the emulator and after it.
    start = data.index(emulator.encode(), data.index(b"<devices>"))
    assert edited.startswith(data[:start])
    assert edited.endswith(data[start + len(emulator.encode()) :])


@given(_prologs, _content, st.sampled_from(["<devices/>", "<devices >{}</devices>", ""]), _content, _content)
def test_an_insertion_leaves_all_bytes(prolog: str, before: str, devices: str, inner: str, after: str) -> None:
    before, after = (
        text.replace("<devices", "<interfaces").replace("</devices", "</interfaces") for text in (before, after)
    )
    data = (f"{prolog}<domain xmlns:x='y'>{before}{devices.format(inner)}{after}</domain>").encode()
    edited = _edited(data)
    if devices.startswith("<devices >"):
        place = edited.index(_element())
        rest = edited[place + len(_element()) :]
        assert data.endswith(rest)
        assert data.startswith(edited[:place].rstrip())
    elif not devices:
        start = edited.rindex(b"<devices>")
        assert data.startswith(edited[:start].rstrip())
        assert data.endswith(edited[edited.rindex(b"</devices>") + len(b"</devices>") :])
