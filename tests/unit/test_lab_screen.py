"""Pictures of a guest's screen, from a VNC server that is told what to say."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.unit.fake_rfb import FakeServer, Rectangle, resize, serve, update
from xenqemu.errors import LabError
from xenqemu.lab import screen
from xenqemu.lab.screen import Screen, capture, connect, write_png

PICTURE = bytes(range(24))  # 4 by 2
WHOLE = update(PICTURE, 4, (0, 0, 4, 2))
# A challenge of QEMU 7.2 with the password `secret`, and what it took for an answer.
CHALLENGE = bytes.fromhex("151e8ac6ea40110dc304fe648dfbd98f")
ANSWER = bytes.fromhex("b79ee7357e1b2e081c4e457901802051")
DARK = update(bytes(24), 4, (0, 0, 4, 2))


def shot(server: FakeServer, *, password: str | None = None, timeout: float = 5.0) -> Screen:
    with serve(server) as stream:
        return capture(stream, password=password, timeout=timeout)


def test_a_picture_comes_as_it_was_drawn() -> None:
    server = FakeServer(answers=[WHOLE])
    assert shot(server) == Screen(4, 2, PICTURE)
    assert server.requests == [(0, 0, 4, 2)]
    assert server.heard == [b"\x01"]


def test_what_else_a_server_says_meanwhile_is_passed_over() -> None:
    colours = struct.pack(">BxHH", 1, 0, 2) + bytes(12)
    clipboard = struct.pack(">B3xI", 3, 5) + b"hello"
    assert shot(FakeServer(answers=[b"\x02" + colours + clipboard + WHOLE])).rgb == PICTURE


def test_a_screen_that_changes_its_size_is_asked_for_anew() -> None:
    small = FakeServer(width=9, height=7, answers=[resize(4, 2), WHOLE])
    assert shot(small) == Screen(4, 2, PICTURE)
    assert small.requests == [(0, 0, 9, 7), (0, 0, 4, 2)]


def test_what_is_drawn_behind_a_change_of_size_belongs_to_the_screen_to_come() -> None:
    both = struct.pack(">BxH", 0, 2) + resize(4, 2)[4:] + WHOLE[4:]
    assert shot(FakeServer(width=1, height=1, answers=[both, WHOLE])).rgb == PICTURE


def test_a_dark_screen_is_asked_for_until_it_shows_something() -> None:
    server = FakeServer(answers=[DARK, DARK, WHOLE])
    assert shot(server).rgb == PICTURE
    assert len(server.requests) == 3


def test_a_screen_that_stays_dark_is_told_within_the_time() -> None:
    started = time.monotonic()
    with pytest.raises(LabError, match="dark after 1 s") as caught:
        shot(FakeServer(answers=[DARK]), timeout=1)
    assert "vgabios" in caught.value.hint
    assert time.monotonic() - started < 3


def test_a_server_that_says_nothing_is_told_within_the_time() -> None:
    with pytest.raises(LabError, match="no picture came"):
        shot(FakeServer(answers=[b""]), timeout=0.3)


def test_a_server_that_goes_away() -> None:
    with pytest.raises(LabError, match="closed the connection"):
        shot(FakeServer(dies_after=0))


def test_sending_on_a_connection_that_is_gone_is_no_traceback() -> None:
    def greet(stream: socket.socket) -> None:
        stream.sendall(b"RFB 003.008\n")

    with serve(FakeServer(), greet) as stream:
        stream.shutdown(socket.SHUT_WR)
        with pytest.raises(LabError, match="broke"):
            capture(stream, timeout=2)


def test_a_server_that_does_not_answer_is_told_within_the_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(LabError, match="has not answered after 0 s"):
        connect(ours, timeout=0.1)


def test_keys_are_pressed_and_released_with_shift_where_a_keyboard_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_KEY_SECONDS", 0)
    server = FakeServer(answers=[WHOLE])
    with serve(server) as stream:
        client = connect(stream)
        client.type("y?\n")
        assert client.picture().rgb == PICTURE  # the server has read what came before
    shift, shifted = 0xFFE1, ord("?")
    assert server.keys == [
        *((ord("y"), down) for down in (True, False)),
        *((shift, True), (shifted, True), (shifted, False), (shift, False)),
        *((0xFF0D, down) for down in (True, False)),
    ]


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF), min_size=1, max_size=5))
def test_what_is_pressed_is_released(text: str) -> None:
    server = FakeServer(answers=[WHOLE])
    printable = "".join(character for character in text if character.isprintable())
    with pytest.MonkeyPatch.context() as patch, serve(server) as stream:
        patch.setattr(screen, "_KEY_SECONDS", 0)
        client = connect(stream)
        client.type(printable)
        client.picture()
    pressed = [keysym for keysym, down in server.keys if down]
    assert sorted(pressed) == sorted(keysym for keysym, down in server.keys if not down)
    assert [keysym for keysym in pressed if keysym != 0xFFE1] == [ord(character) for character in printable]


@pytest.mark.parametrize("text", ["\0", "\x7f", "a\x85", "\u20ac"])
def test_nothing_is_typed_of_a_text_with_a_character_that_has_no_key(text: str) -> None:
    server = FakeServer()
    with serve(server) as stream, pytest.raises(ValueError, match="there is no key for"):
        connect(stream).type(text)
    assert not server.keys


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400", b"SSH-2.0-abcd", b"RFB 004.000\n"])
def test_what_is_no_vnc_server(greeting: bytes) -> None:
    with pytest.raises(LabError, match="no VNC server"):
        shot(FakeServer(greeting=greeting))


def test_a_server_that_refuses_says_why() -> None:
    with pytest.raises(LabError, match="refuses: too many"):
        shot(FakeServer(security=b"\0" + struct.pack(">I", 8) + b"too many"))


def test_authentication_that_is_not_known() -> None:
    with pytest.raises(LabError, match="not known here: 13 10"):
        shot(FakeServer(security=b"\x02\x13\x10"))


def test_a_password_is_answered_as_vnc_does() -> None:
    server = FakeServer(security=b"\x01\x02", challenge=CHALLENGE, answers=[WHOLE])
    assert shot(server, password="secret").rgb == PICTURE
    assert server.heard == [b"\x02", ANSWER]


def test_no_password_where_one_is_wanted() -> None:
    with pytest.raises(LabError, match="wants a password"):
        shot(FakeServer(security=b"\x01\x02"))


def test_a_wrong_password_is_told() -> None:
    refused = struct.pack(">II", 1, 6) + b"wrong\0"
    server = FakeServer(security=b"\x01\x02", challenge=bytes(16), result=refused)
    with pytest.raises(LabError, match=r"refuses the password: wrong$"):
        shot(server, password="other")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"\x63", "a message of kind 99"),
        (struct.pack(">BxHHHHHi", 0, 1, 0, 0, 4, 2, 16), "encoding 16"),
        (update(PICTURE * 2, 4, (1, 0, 4, 2)), "outside the screen"),
        (update(PICTURE * 2, 4, (0, 1, 4, 2)), "outside the screen"),
        (resize(0, 4), "a screen of 0 by 4"),
        (resize(4, 20000), "a screen of 4 by 20000"),
    ],
)
def test_nonsense_is_told(said: bytes, message: str) -> None:
    with pytest.raises(LabError, match=message):
        shot(FakeServer(answers=[said]))


@st.composite
def tiled(draw: st.DrawFn) -> tuple[int, int, bytes, list[list[Rectangle]]]:
    """A picture, and a way in which a server may send it: rectangles, in one update or several."""
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    rgb = draw(st.binary(min_size=3 * width * height, max_size=3 * width * height).filter(lambda b: len(set(b)) > 3))
    columns = sorted({0, width, *draw(st.lists(st.integers(0, width), max_size=3))})
    rows = sorted({0, height, *draw(st.lists(st.integers(0, height), max_size=3))})
    parts = [
        (left, top, right - left, bottom - top)
        for left, right in itertools.pairwise(columns)
        for top, bottom in itertools.pairwise(rows)
    ]
    parts = draw(st.permutations(parts))
    cut = draw(st.integers(0, len(parts)))
    return width, height, rgb, [group for group in (parts[:cut], parts[cut:]) if group]


@settings(max_examples=60, deadline=None)
@given(picture=tiled(), chunk=st.integers(1, 64))
def test_however_it_is_cut_into_pieces_it_is_the_same_picture(
    picture: tuple[int, int, bytes, list[list[Rectangle]]], chunk: int
) -> None:
    width, height, rgb, groups = picture
    answer = b"".join(update(rgb, width, *group) for group in groups)
    server = FakeServer(width=width, height=height, answers=[answer], chunk=chunk)
    if Screen(width, height, rgb).dark:
        return
    assert shot(server) == Screen(width, height, rgb)


def test_png_holds_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "screen.png"
    write_png(Screen(4, 2, PICTURE), path)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (4, 2))
        assert image.tobytes() == PICTURE


def test_png_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_png(Screen(1, 1, b"abc"), tmp_path / "no" / "screen.png")
