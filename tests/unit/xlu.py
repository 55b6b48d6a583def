"""Xen's own config parser, libxlutil, called through ctypes: what an xl.cfg really means."""

from __future__ import annotations

import ctypes
import ctypes.util
import faulthandler
import os
import pickle
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xenqemu.vm.xlcfg import Value

_STRING = 0  # enum XLU_ConfigValueType


@dataclass(frozen=True)
class Answers:
    """What every getter says of one name; None where it returns an error."""

    value: Value | None
    text: str | None
    number: int | None
    flag: bool | None
    items: tuple[str, ...] | None


class _Defbool(ctypes.Structure):
    _fields_ = (("val", ctypes.c_int),)


class Libxlutil:
    """The library of one Xen; raises `OSError` when there is none."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("xlutil")
        if name is None:
            raise OSError("libxlutil (Debian: libxen-dev) is not installed")
        self.name = name
        self._xlu = ctypes.CDLL(name)
        self._libc = ctypes.CDLL(None)
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        name_of_setting = (pointer, ctypes.c_char_p)
        for function, result, arguments in (
            (self._libc.open_memstream, pointer, (pointer, pointer)),
            (self._libc.fclose, integer, (pointer,)),
            (self._libc.free, None, (pointer,)),
            (self._xlu.xlu_cfg_init, pointer, (pointer, ctypes.c_char_p)),
            (self._xlu.xlu_cfg_readdata, integer, (pointer, ctypes.c_char_p, integer)),
            (self._xlu.xlu_cfg_destroy, None, (pointer,)),
            (self._xlu.xlu_cfg_get_string, integer, (*name_of_setting, pointer, integer)),
            (self._xlu.xlu_cfg_get_long, integer, (*name_of_setting, pointer, integer)),
            (self._xlu.xlu_cfg_get_defbool, integer, (*name_of_setting, pointer, integer)),
            (self._xlu.xlu_cfg_get_list, integer, (*name_of_setting, pointer, pointer, integer)),
            (self._xlu.xlu_cfg_get_list_as_string_list, integer, (*name_of_setting, pointer, integer)),
            (self._xlu.xlu_cfg_get_listitem2, pointer, (pointer, integer)),
            (self._xlu.xlu_cfg_value_type, integer, (pointer,)),
            (self._xlu.xlu_cfg_value_get_string, integer, (pointer, pointer, pointer, integer)),
            (self._xlu.xlu_cfg_value_get_list, integer, (pointer, pointer, pointer, integer)),
        ):
            function.restype = result
            function.argtypes = arguments

    def read(self, data: bytes, names: Iterable[str]) -> dict[str, Answers] | str:
        """Return what libxlutil makes of `data` for each of `names`, or its report if it refuses it.

        On a NUL in a string it aborts, so that data with a NUL is read by a child of this process.
        """
        return self._read_in_child(data, names) if b"\0" in data else self._read(data, names)

    def _read_in_child(self, data: bytes, names: Iterable[str]) -> dict[str, Answers] | str:
        result, answer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                faulthandler.disable()
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                with os.fdopen(answer, "wb") as sink:
                    pickle.dump(self._read(data, names), sink)
            finally:
                os._exit(0)
        os.close(answer)
        with os.fdopen(result, "rb") as source:
            pickled = source.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return f"killed by signal {os.WTERMSIG(status)}"
        answers: dict[str, Answers] | str = pickle.loads(pickled)
        return answers

    def _read(self, data: bytes, names: Iterable[str]) -> dict[str, Answers] | str:
        text, size = ctypes.c_void_p(), ctypes.c_size_t()
        report = self._libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
        config = self._xlu.xlu_cfg_init(report, b"config")
        try:
            refused = self._xlu.xlu_cfg_readdata(config, data, len(data))
            answers = {} if refused else {name: self._answers(config, name) for name in names}
        finally:
            self._xlu.xlu_cfg_destroy(config)
            self._libc.fclose(report)
            said = ctypes.string_at(text.value or 0, size.value)
            self._libc.free(text)
        return f"error {refused}: {_text(said)}" if refused else answers

    def _answers(self, config: int, setting: str) -> Answers:
        name = setting.encode()
        string, number, flag = ctypes.c_char_p(), ctypes.c_long(), _Defbool()
        strings, entries, count = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
        text = None
        if self._xlu.xlu_cfg_get_string(config, name, ctypes.byref(string), 1) == 0:
            text = _text(string.value)
        bad_number = self._xlu.xlu_cfg_get_long(config, name, ctypes.byref(number), 1)
        bad_flag = self._xlu.xlu_cfg_get_defbool(config, name, ctypes.byref(flag), 1)
        value: Value | None = text
        if self._xlu.xlu_cfg_get_list(config, name, ctypes.byref(entries), ctypes.byref(count), 1) == 0:
            value = self._list(config, entries)
            assert len(value) == count.value
        items = None
        if self._xlu.xlu_cfg_get_list_as_string_list(config, name, ctypes.byref(strings), 1) == 0:
            items = self._take_strings(strings, count.value)
        return Answers(value, text, None if bad_number else number.value, None if bad_flag else flag.val > 0, items)

    def _list(self, config: int, entries: ctypes.c_void_p) -> tuple[Value, ...]:
        items: list[Value] = []
        while item := self._xlu.xlu_cfg_get_listitem2(entries, len(items)):
            string, inner = ctypes.c_char_p(), ctypes.c_void_p()
            if self._xlu.xlu_cfg_value_type(item) == _STRING:
                assert self._xlu.xlu_cfg_value_get_string(config, item, ctypes.byref(string), 1) == 0
                items.append(_text(string.value))
            else:
                assert self._xlu.xlu_cfg_value_get_list(config, item, ctypes.byref(inner), 1) == 0
                items.append(self._list(config, inner))
        return tuple(items)

    def _take_strings(self, strings: ctypes.c_void_p, count: int) -> tuple[str, ...]:
        """Return a libxl_string_list as those who use it see it, up to its first NULL, and free it."""
        array: Any = ctypes.cast(strings, ctypes.POINTER(ctypes.c_void_p))
        found = [array[index] for index in range(count)]
        items = [None if item is None else _text(ctypes.string_at(item)) for item in found]
        for item in (*found, strings):
            self._libc.free(item)
        seen = items[: items.index(None)] if None in items else items
        return tuple(item for item in seen if item is not None)


def _text(raw: bytes | None) -> str:
    assert raw is not None
    return raw.decode("utf-8", "surrogateescape")
