"""libvirt domain XML: its `<emulator>` read and replaced as bytes, everything else left as it is.

expat says where in the bytes each tag begins; the edit then cuts there, so that declarations, comments, attribute
order and whitespace cannot change. Where libvirt reads the element: `virDomainDefParseXML` in src/conf/domain_conf.c
takes the text of the first `./devices/emulator`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from xenqemu.errors import VmConfigError

# The attributes of a tag may hold '>' in quotes.
_TAG = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")
_EMPTY_TAG_END = re.compile(rb"\s*/>\Z")
_COMMENT_OR_PI = re.compile(rb"<!--.*?-->|<\?.*?\?>", re.DOTALL)
_LINE_INDENT = re.compile(rb"(?:\A|(\r\n|\r|\n))([ \t]*)\Z")
_FIRST_INDENT = re.compile(rb"(?:\r\n|\r|\n)[ \t]*(?=<(?!/))")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00<", b"<\x00")
_EMULATOR = "domain/devices/emulator"
_TEXTS = ("domain/name", "domain/os/type", _EMULATOR)
# libxml2, and so libvirt, stops here as well (xmlParserMaxDepth).
_MAX_DEPTH = 256


@dataclass(frozen=True)
class _Element:
    """An element: `start` to `end` is its first tag, at `close` its end tag begins (`end` for `<name/>`)."""

    start: int
    end: int
    close: int
    empty: bool


@dataclass(frozen=True)
class Domain:
    """A libvirt domain: `kind` as in `<domain type=...>`, `os_type` as in `<os><type>`, its `emulator` or None."""

    kind: str
    os_type: str
    name: str
    emulator: str | None
    data: bytes
    encoding: str
    root: _Element
    devices: _Element | None
    emulators: tuple[_Element, ...]


def is_xml(data: bytes) -> bool:
    """Whether `data` is meant as XML; nothing that starts so is an xl.cfg (tools/libs/util/libxlu_cfg_l.l)."""
    return data.startswith(_WIDE_BOMS) or data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def parse_domain(data: bytes, name: str) -> Domain:
    """Return what the domain XML `data` says; `name` is for messages.

    Entity declarations are refused: libvirt writes none, and they are how a small file grows to fill the memory.
    Raises `VmConfigError` for what is no well-formed XML, no `<domain>`, or in an encoding of wide characters.
    """
    if data.startswith(_WIDE_BOMS):
        raise VmConfigError(f"{name}: XML in UTF-16 or UTF-32", "convert it to UTF-8; libvirt itself writes UTF-8")
    reader = _Reader(data, name)
    reader.run()
    return reader.domain()


def set_emulator(domain: Domain, path: str) -> bytes:
    """Return the bytes of `domain` with `path` as its emulator; the same bytes where it is that already.

    An `<emulator>` that is missing comes first in `<devices>`, where `virDomainDefFormatInternalSetRootName` of libvirt
    writes it. Raises `VmConfigError` for a path that XML cannot express.
    """
    if domain.emulator == path:
        return domain.data
    text = _escape(path, domain.encoding)
    if domain.emulators:
        return _replace_text(domain.data, domain.emulators[0], text)
    element = b"<emulator>" + text + b"</emulator>"
    if domain.devices is None:
        return _append_devices(domain.data, domain.root, element)
    return _insert_first(domain.data, domain.devices, element)


def _escape(path: str, encoding: str) -> bytes:
    if _CONTROL.search(path):
        raise VmConfigError(
            f"the path of the device model cannot be written in XML: {path!a}", "give it a path without such characters"
        )
    text = path.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.encode("utf-8" if encoding == "utf-8" else "ascii", "xmlcharrefreplace")


def _replace_text(data: bytes, element: _Element, text: bytes) -> bytes:
    if element.empty:
        return _opened(data, element, text)
    kept = b"".join(_COMMENT_OR_PI.findall(_without_cdata(data[element.end : element.close])))
    return data[: element.end] + text + kept + data[element.close :]


def _without_cdata(content: bytes) -> bytes:
    return re.sub(rb"<!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>", _unless_cdata, content, flags=re.DOTALL)


def _unless_cdata(match: re.Match[bytes]) -> bytes:
    return b"" if match[0].startswith(b"<![") else match[0]


def _opened(data: bytes, element: _Element, content: bytes) -> bytes:
    """Return `data` with the empty `element` (`<name/>`) opened around `content`."""
    tag = _EMPTY_TAG_END.sub(b">", data[element.start : element.end])
    name = re.split(rb"[\s/>]", tag[1:], maxsplit=1)[0]
    return data[: element.start] + tag + content + b"</" + name + b">" + data[element.end :]


def _line_start(data: bytes, offset: int) -> bytes | None:
    """Return the line end and the indentation before `offset`, None if anything else is before it on its line."""
    found = _LINE_INDENT.search(data[max(0, offset - 200) : offset])
    return found[0] if found and found[1] else None


def _unit(data: bytes, root: _Element) -> bytes:
    """Return one step of indentation, as the first child of the root shows it; libvirt's two spaces if none does."""
    found = _FIRST_INDENT.match(data, root.end)
    return (found[0].lstrip(b"\r\n") if found else b"") or b"  "


def _insert_first(data: bytes, devices: _Element, element: bytes) -> bytes:
    own = _line_start(data, devices.start)
    deeper = b"" if own is None else own + (own.lstrip(b"\r\n") or b"  ")
    if devices.empty:
        return _opened(data, devices, deeper + element + (own or b""))
    child = _FIRST_INDENT.match(data, devices.end)
    if child:
        return data[: devices.end] + child[0] + element + data[devices.end :]
    blank = not data[devices.end : devices.close].strip()
    if blank and own is not None:
        return data[: devices.end] + deeper + element + own + data[devices.close :]
    return data[: devices.end] + element + data[devices.end :]


def _append_devices(data: bytes, root: _Element, element: bytes) -> bytes:
    end = len(data[: root.close].rstrip())
    child = _FIRST_INDENT.match(data, root.end)
    if child is None:
        return data[:end] + b"<devices>" + element + b"</devices>" + data[end:]
    inner = child[0] + _unit(data, root)
    return data[:end] + child[0] + b"<devices>" + inner + element + child[0] + b"</devices>" + data[end:]


class _Reader:
    """One walk over a document: the tags that matter, with their places in the bytes."""

    def __init__(self, data: bytes, name: str) -> None:
        from xml.parsers import expat  # a parser that reports where it is, and fetches nothing

        self._data, self._name = data, name
        self._error = expat.ExpatError
        self._messages = expat.errors.messages
        self._parser: Any = expat.ParserCreate()
        self._parser.specified_attributes = True
        self._parser.buffer_text = True
        self._parser.XmlDeclHandler = self._declaration
        self._parser.EntityDeclHandler = self._entity
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._path: list[str] = []
        self._open: list[tuple[int, int, bool]] = []
        self._found: dict[str, list[_Element]] = {}
        self._texts: dict[str, list[str]] = {}
        self._kind = ""
        self._encoding = "utf-8"

    def run(self) -> None:
        try:
            self._parser.Parse(self._data, True)
        except self._error as error:
            reason = self._messages[error.code]
            raise VmConfigError(
                f"{self._name}:{error.lineno}: this is no well-formed XML: {reason}",
                "`xmllint` shows such places; a domain's XML is best edited with `virsh edit`",
            ) from error
        except (LookupError, ValueError) as error:
            raise VmConfigError(f"{self._name}: {error}", "convert it to UTF-8, as libvirt writes it") from error

    def domain(self) -> Domain:
        emulators = self._found.get(_EMULATOR, [])
        texts = self._texts.get(_EMULATOR, [])
        os_type = next(iter(self._texts.get("domain/os/type", [])), "").strip()
        if not os_type and self._found.get("domain/bootloader"):
            os_type = "linux"  # a boot loader in dom0 makes a PV guest: virDomainDefParseBootOptions
        return Domain(
            kind=self._kind,
            os_type=os_type,
            name=next(iter(self._texts.get("domain/name", [])), ""),
            emulator=texts[0] if texts else None,
            data=self._data,
            encoding=self._encoding,
            root=self._found["domain"][0],
            devices=next(iter(self._found.get("domain/devices", [])), None),
            emulators=tuple(emulators),
        )

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        self._encoding = (encoding or "utf-8").lower()

    def _entity(self, entity: str, *others: object) -> None:
        raise VmConfigError(
            f"{self._name}:{self._parser.CurrentLineNumber}: it declares the entity '{entity}'",
            "write its text where it is used; libvirt's own files have no entities",
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        start = self._parser.CurrentByteIndex
        if not self._path:
            if tag != "domain":
                raise VmConfigError(
                    f"{self._name}: the XML of a <{tag}>, not of a <domain>", "`virsh dumpxml` prints a domain's"
                )
            self._kind = attributes.get("type", "")
        self._path.append(tag)
        if len(self._path) > _MAX_DEPTH:
            raise VmConfigError(
                f"{self._name}:{self._parser.CurrentLineNumber}: elements nested more than {_MAX_DEPTH} deep",
                "libvirt refuses that as well; is it a domain's XML?",
            )
        path = "/".join(self._path)
        if path.startswith(f"{_EMULATOR}/"):
            raise VmConfigError(
                f"{self._name}:{self._parser.CurrentLineNumber}: <emulator> has the element <{tag}> in it",
                "it takes the path of a program",
            )
        match = _TAG.match(self._data, start)
        if match is None:
            raise VmConfigError(f"{self._name}: the tag at byte {start} is not where the parser says", "use UTF-8")
        self._open.append((start, match.end(), match[0].endswith(b"/>")))
        if path in _TEXTS:
            self._texts.setdefault(path, []).append("")

    def _text(self, text: str) -> None:
        path = "/".join(self._path)
        if path in self._texts:
            self._texts[path][-1] += text

    def _end(self, tag: str) -> None:
        start, end, empty = self._open.pop()
        close = end if empty else self._parser.CurrentByteIndex
        # In the order of start tags, which is the order of end tags among the siblings that matter.
        self._found.setdefault("/".join(self._path), []).append(_Element(start, end, close, empty))
        self._path.pop()
