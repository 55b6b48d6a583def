"""A VNC client that stays and counts, and what a card's memory looks like on a screen."""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_host import FakeHost
from tests.unit.fake_rfb import FakeServer, resize, serve, update
from xenqemu.errors import LabError
from xenqemu.lab import viewed, viewer
from xenqemu.lab.model import Completed
from xenqemu.lab.screen import Screen
from xenqemu.lab.steps import read_step, take
from xenqemu.lab.video import FrameSaid, as_exact_as, difference, picture_of, read_frame
from xenqemu.lab.viewed import ViewedStep, table
from xenqemu.lab.viewer import Traffic, view

PICTURE = bytes(range(24))  # 4 by 2
OTHER = bytes(range(3)) + bytes(range(100, 121))
WHOLE = update(PICTURE, 4, (0, 0, 4, 2))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "_TICK", 0.01)
    monkeypatch.setattr(viewed, "_QUIET", 0.05)


# ---- the client ----


def test_a_viewer_asks_for_all_once_and_then_for_changes() -> None:
    server = FakeServer(answers=[WHOLE], changes=[update(OTHER, 4, (1, 0, 3, 1), (0, 1, 4, 1)), b""])
    with serve(server) as stream:
        seen = view(stream)
        traffic = seen.watch(lambda: True, 0.1, 5)
        # Two rectangles of seven pixels, each behind twelve bytes, and four in front.
        assert traffic == Traffic(len(WHOLE), 1, 1) + Traffic(4 + 2 * 12 + 7 * 4, 2, 1)
        assert seen.screen == Screen(4, 2, OTHER)
        assert seen.watch(lambda: True, 0.05, 5) == Traffic()
    assert server.asked == [0, 1, 1]


def test_a_viewer_follows_a_change_of_size() -> None:
    server = FakeServer(width=9, height=7, answers=[resize(4, 2), WHOLE], changes=[b""])
    with serve(server) as stream:
        seen = view(stream)
        seen.watch(lambda: True, 0.05, 5)
        assert seen.screen == Screen(4, 2, PICTURE)
    assert server.asked == [0, 0, 1]


def test_a_viewer_waits_for_what_is_done() -> None:
    server = FakeServer(answers=[WHOLE], changes=[b""])
    looks = iter([False, False, True])
    with serve(server) as stream:
        assert view(stream).watch(lambda: next(looks), 0.02, 5).updates == 1
    assert next(looks, None) is None


def test_a_viewer_passes_over_what_is_no_update() -> None:
    with serve(FakeServer(answers=[b"\x02" + WHOLE], changes=[b""])) as stream:
        assert view(stream).watch(lambda: True, 0.02, 5) == Traffic(len(WHOLE), 1, 1)


def test_a_server_that_never_stops_or_never_begins_is_told() -> None:
    with serve(FakeServer(answers=[WHOLE], changes=[WHOLE])) as stream, pytest.raises(LabError, match="has sent: "):
        view(stream).watch(lambda: True, 0.05, 0.3)
    with serve(FakeServer(answers=[b""])) as stream, pytest.raises(LabError, match="does not stop sending: 0 bytes"):
        view(stream).watch(lambda: True, 0.05, 0.3)


def test_half_an_update_is_told() -> None:
    with serve(FakeServer(answers=[WHOLE[:-1]])) as stream, pytest.raises(LabError, match="half an update"):
        view(stream, timeout=0.3).watch(lambda: True, 0.05, 5)


def test_a_server_that_takes_no_request() -> None:
    class Full:
        def allow(self, seconds: float) -> None:
            pass

        def send(self, data: bytes) -> None:
            raise TimeoutError

    class Connected:
        server = Full()
        size = (4, 2)

    with pytest.raises(LabError, match="takes no request"):
        viewer.Viewer(Connected(), 1)  # type: ignore[arg-type]


# ---- what a card's memory looks like ----


def frame_of(memory: bytes, width: int, height: int, bits: int, pitch: int) -> FrameSaid:
    return FrameSaid(0xF0000000, width, height, bits, pitch, zlib.crc32(memory))


def test_a_frame_is_what_the_guest_said_last() -> None:
    said = "frame= 0 0\nxenqemu-guest: frame= f0000000 00000280 000001e0 00000018 00000780 0000000f\r\nend"
    frame = read_frame(said)
    assert frame == FrameSaid(0xF0000000, 640, 480, 24, 1920, 15)
    assert (frame.name, frame.memory, frame.pages) == ("640x480x24", 921600, 225)
    assert FrameSaid(0, 80, 25, 0, 160, 0).name == "text 80x25"
    with pytest.raises(LabError, match="has not said"):
        read_frame("xenqemu-guest: end 1 0")


@pytest.mark.parametrize(
    ("bits", "memory", "rgb"),
    [
        (8, bytes([0, 1, 255, 0x40]), bytes([0, 0, 255, 4 + 3, 0, 251 - 3, 255, 255, 0, 0, 65, 255])),
        (16, struct.pack("<4H", 0xF800, 0x07E0, 0x001F, 0), bytes([248, 0, 0, 0, 252, 0, 0, 0, 248, 0, 0, 0])),
        (24, bytes(range(12)), bytes([2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9])),
        (32, bytes(range(16)), bytes([2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12])),
    ],
)
def test_pixels_of_each_depth(bits: int, memory: bytes, rgb: bytes) -> None:
    lines = memory[: len(memory) // 2] + b"xxxx" + memory[len(memory) // 2 :] + b"yyyy"
    frame = frame_of(lines, 2, 2, bits, len(memory) // 2 + 4)
    assert _near(picture_of(frame, lines + b"what is not shown"), rgb, bits)


def _near(seen: Screen, rgb: bytes, bits: int) -> bool:
    """Of eight bits the levels are a palette's, of which 64 make 256."""
    assert (seen.width, seen.height) == (2, 2)
    off = max(abs(one - other) for one, other in zip(seen.rgb, rgb, strict=True))
    return off <= (4 if bits == 8 else 0)


def test_memory_that_the_guest_reads_otherwise_is_told() -> None:
    with pytest.raises(LabError, match="reads other bytes"):
        picture_of(frame_of(b"\1" * 16, 2, 2, 32, 8), bytes(16))


def test_text_is_drawn_from_characters_colours_and_font() -> None:
    memory = bytearray(1 << 16)
    # An A, yellow on blue, and a part of a box whose last column is repeated.
    cells = b"A\x1e\xc4\x07"
    memory[0:2], memory[4:6] = cells[:2], cells[2:]
    memory[4 * 65 * 32 + 2] = 0b10000001
    memory[4 * 0xC4 * 32 + 2] = 0b00000001
    seen = picture_of(FrameSaid(0, 2, 1, 0, 4, zlib.crc32(cells)), bytes(memory))
    assert (seen.width, seen.height) == (18, 16)
    blue, yellow, black, grey = b"\0\0\xa8", b"\xff\xff\x57", bytes(3), b"\xa8" * 3
    assert seen.rgb[: 3 * 18] == yellow + 6 * blue + yellow + blue + 7 * black + 2 * grey
    assert seen.rgb[3 * 18 : 6 * 18] == 9 * blue + 9 * black


def test_brown_is_no_dark_yellow() -> None:
    memory = bytearray(1 << 16)
    memory[0:2] = b" \x60"
    seen = picture_of(FrameSaid(0, 1, 1, 0, 2, zlib.crc32(b" \x60")), bytes(memory))
    assert seen.rgb[:3] == b"\xa8\x57\0"


def test_pictures_are_compared_pixel_by_pixel() -> None:
    shown = Screen(2, 1, b"abcdef")
    assert difference(Screen(2, 1, b"abcdef"), shown) == ""
    assert difference(Screen(4, 2, b"abcabcdefdef" * 2), shown) == ""
    wrong = difference(Screen(4, 2, b"abcabcdefdef" + b"abcabcdefdeg"), shown)
    assert wrong.startswith("1 of 8 pixels are other than the video memory has them, the first in column 3, line 1")
    assert "3 by 1 pixels, the frame 2 by 1" in difference(Screen(3, 1, b"abcdefghi"), shown)


def test_bits_that_no_pixel_of_the_frame_decides_on_do_not_count() -> None:
    memory = struct.pack("<H", 0xFFFF)
    frame = frame_of(memory, 1, 1, 16, 2)
    assert difference(as_exact_as(frame, Screen(1, 1, b"\xff\xff\xff")), picture_of(frame, memory)) == ""
    exact = Screen(1, 1, b"\xff\xff\xff")
    assert as_exact_as(frame_of(b"\xff" * 3, 1, 1, 24, 3), exact) is exact


# ---- steps ----


class FakeGuest:
    """A guest of two pixels by one, 32 bits each; a line is answered at once, `heard` tells what it has said."""

    def __init__(self, server: FakeServer, memory: bytes) -> None:
        self.domid = "5"
        self.figures: list[Mapping[str, Any]] = []
        self.connections = 0
        self.text = ""
        self.code = 0
        self._server = server
        self._crc = zlib.crc32(memory)

    def words(self) -> Mapping[str, str]:
        return {"name": "guest", "domid": self.domid, "pid": "735"}

    def heard(self) -> str:
        return self.text

    def say(self, line: str) -> None:
        number, _, command = line.partition(" ")
        if command == "frame":
            self.text += f"xenqemu-guest: frame= f0000000 00000002 00000001 00000020 00000008 {self._crc:08x}\n"
        self.text += f"xenqemu-guest: end {number} {self.code}\n"

    @contextmanager
    def viewer(self) -> Iterator[viewer.Viewer]:
        self.connections += 1
        with serve(self._server) as stream:
            yield view(stream)

    def note(self, figure: Mapping[str, Any]) -> None:
        self.figures.append(figure)


MEMORY = bytes(range(8))
SHOWN = bytes([2, 1, 0, 6, 5, 4])


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path)
    host.files |= {
        "/root/video-memory": MEMORY,
        "/run/xenqemu-tracking.seen": b"  7  3  900\n",
        "/proc/735/schedstat": b"2500000000 1 1\n",
    }
    return host


def shown(rgb: bytes = SHOWN, *later: bytes) -> FakeServer:
    return FakeServer(width=2, height=1, answers=[update(rgb, 2, (0, 0, 2, 1))], changes=[*later, b""])


def test_a_step_that_views_is_read_from_its_table() -> None:
    assert read_step({"viewed": "idle", "most": 0}) == ViewedStep("idle", most=0)
    step = read_step({"viewed": "x", "guest": "char 1 2 3", "tracking": "off", "agrees": False})
    assert step == ViewedStep("x", "char 1 2 3", "off", agrees=False)
    assert str(step) == "x (tracking off)"
    with pytest.raises(ValueError, match="on, off, blind"):
        read_step({"viewed": "x", "tracking": "maybe"})


def test_what_was_sent_is_noted_and_the_client_stays(host: FakeHost) -> None:
    guest = FakeGuest(shown(), MEMORY)
    steps = (ViewedStep("idle", seconds=0.05, most=0), ViewedStep("one", "fill 1", tracking="off"))
    take(host, guest, steps)  # type: ignore[arg-type]
    assert [(one["situation"], one["bytes"], one["tracking"]) for one in guest.figures] == [
        ("idle", 0, "on"),
        ("one", 0, "off"),
    ]
    assert guest.connections == 1
    assert host.files["/run/xenqemu-tracking"] == b"off"
    assert [command[3] for command in host.commands if command[0] == "xl"] == [
        'pmemsave 0xf0000000 8 "/root/video-memory"'
    ] * 2


def test_a_guest_that_is_another_domain_gets_another_client(host: FakeHost) -> None:
    guest = FakeGuest(shown(), MEMORY)
    original = guest.note

    def note(figure: Mapping[str, Any]) -> None:
        original(figure)
        guest.domid = "6"

    guest.note = note  # type: ignore[method-assign]
    take(host, guest, (ViewedStep("a", seconds=0), ViewedStep("b", seconds=0)))  # type: ignore[arg-type]
    assert guest.connections == 2


def test_a_client_goes_away_where_the_step_says_so(host: FakeHost) -> None:
    guest = FakeGuest(shown(), MEMORY)
    take(host, guest, (ViewedStep("a", seconds=0, stays=False), ViewedStep("b", seconds=0)))  # type: ignore[arg-type]
    assert guest.connections == 2


def test_what_comes_at_once_counts_where_nothing_settles(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    watch = viewer.Viewer.watch

    def counted(self: viewer.Viewer, done: Callable[[], bool], quiet: float, within: float) -> Traffic:
        waits.append(quiet)
        return watch(self, done, quiet, within)

    monkeypatch.setattr(viewer.Viewer, "watch", counted)
    steps = (ViewedStep("a", seconds=0), ViewedStep("b", seconds=0), ViewedStep("c", seconds=0, tracking="off"))
    take(host, FakeGuest(shown(), MEMORY), steps)  # type: ignore[arg-type]
    # One when it connects, and one that counts; for the next only that; and one more with another tracking.
    assert len(waits) == 2 + 1 + 2
    waits.clear()
    take(host, FakeGuest(shown(), MEMORY), (steps[0], ViewedStep("d", seconds=0, tracking="off", settles=False)))  # type: ignore[arg-type]
    assert len(waits) == 2 + 1


def fails(host: FakeHost, guest: FakeGuest, step: ViewedStep) -> str:
    with pytest.raises(LabError) as caught:
        take(host, guest, (step,))  # type: ignore[arg-type]
    return caught.value.message


def test_a_screen_that_is_not_as_the_memory_fails(host: FakeHost) -> None:
    guest = FakeGuest(shown(b"abcdef"), MEMORY)
    assert "2 of 2 pixels are other than the video memory" in fails(host, guest, ViewedStep("x", seconds=0))
    take(host, FakeGuest(shown(b"abcdef"), MEMORY), (ViewedStep("x", seconds=0, agrees=False),))  # type: ignore[arg-type]


def test_too_little_and_too_much_fail(host: FakeHost) -> None:
    least = ViewedStep("x", seconds=0, least=0.5)
    assert "0.00% of a frame, less than 50.00%" in fails(host, FakeGuest(shown(), MEMORY), least)
    with pytest.raises(LabError, match=r"150\.00% of a frame, more than 2\.00%"):
        viewed._judge(ViewedStep("x", most=0.02), 1.5)


def test_a_command_that_the_guest_refuses_and_one_that_it_does_not_answer(host: FakeHost) -> None:
    guest = FakeGuest(shown(), MEMORY)
    guest.code = 2
    assert "the guest's `bogus` ended with 2" in fails(host, guest, ViewedStep("x", "bogus"))
    silent = FakeGuest(shown(), MEMORY)
    silent.say = lambda line: None  # type: ignore[method-assign]
    assert "has not answered to `frame`" in fails(host, silent, ViewedStep("x", seconds=0, within=0.3))


def test_a_device_model_that_does_not_save_memory(host: FakeHost) -> None:
    host.answers["xl"] = Completed(b"", b"no such command\n", 1)
    assert "does not save the video memory: no such command" in fails(
        host, FakeGuest(shown(), MEMORY), ViewedStep("x", seconds=0)
    )


def test_without_the_library_there_are_no_numbers(host: FakeHost) -> None:
    for path in ("/run/xenqemu-tracking.seen", "/proc/735/schedstat"):
        del host.files[path]
    guest = FakeGuest(shown(), MEMORY)
    take(host, guest, (ViewedStep("x", seconds=0),))  # type: ignore[arg-type]
    assert (guest.figures[0]["asked"], guest.figures[0]["pages"], guest.figures[0]["cpu"]) == (0, 0, 0)


def test_figures_as_a_table() -> None:
    figure = {
        "situation": "idle",
        "screen": "640x480x32",
        "tracking": "off",
        "bytes": 1040,
        "rectangles": 1,
        "updates": 1,
        "frame": 1228800,
        "asked": 3,
        "pages": 900,
        "of": 300,
        "cpu": 0.012,
    }
    columns, rows = table([figure])
    assert len(columns) == len(rows[0])
    assert rows[0] == ("idle", "640x480x32", "off", "1,040", "1", "0.08% of 1,228,800", "900 of 3 x 300", "12 ms")


def test_a_connection_that_breaks_is_told() -> None:
    def greet(stream: socket.socket) -> None:
        FakeServer(answers=[b""], dies_after=0)._talk(stream)

    talk: Callable[[socket.socket], None] = greet
    with serve(FakeServer(), talk) as stream, pytest.raises(LabError, match=r"closed the connection|broke"):
        view(stream).watch(lambda: True, 0.05, 5)
