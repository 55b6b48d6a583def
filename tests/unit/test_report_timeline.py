"""Where the time went: lanes, kinds, areas, and the picture of it."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.build.ninja_log import Step
from xenqemu.report.model import Timeline
from xenqemu.report.timeline import area_of, build_timeline, in_lanes, kind_of

STEPS = st.lists(
    st.builds(
        lambda start, took, name: Step(start, start + took, name),
        st.integers(0, 1000),
        st.integers(0, 300),
        st.text(max_size=5),
    ),
    max_size=40,
)


@given(STEPS)
def test_nothing_overlaps_in_a_lane_and_there_are_no_more_lanes_than_ran_at_once(steps: list[Step]) -> None:
    placed = in_lanes(steps)
    assert sorted((step for _, step in placed), key=repr) == sorted(steps, key=repr)
    lanes: dict[int, list[Step]] = {}
    for lane, step in placed:
        lanes.setdefault(lane, []).append(step)
    for lane_steps in lanes.values():
        assert all(one.end <= other.start for one, other in itertools.pairwise(lane_steps))
    at_once = max((sum(s.start <= t.start < max(s.end, s.start + 1) for s in steps) for t in steps), default=0)
    assert len(lanes) <= at_once
    assert sorted(lanes) == list(range(len(lanes)))


@given(STEPS)
def test_every_command_is_drawn_once(steps: list[Step]) -> None:
    timeline = build_timeline({}, steps, ())
    assert sum(kind.path.count("M") for kind in timeline.drawn) == len(steps)
    for kind in timeline.drawn:
        assert re.fullmatch(r"(M\d+\.\d \d+h\d+\.\dv\d+h-\d+\.\dz)+", kind.path)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("libsystem.a.p/hw_net_e1000.c.o", "compile"),
        ("libqemuutil.a", "archive"),
        ("qapi/qapi-types.h", "generate"),
        ("qemu-system-xen", "link"),
        ("", "link"),
    ],
)
def test_what_a_command_does_is_told_by_its_output(output: str, kind: str) -> None:
    assert kind_of(output).name == kind


@pytest.mark.parametrize(
    ("output", "area"),
    [
        ("libsystem.a.p/hw_net_e1000.c.o", "hw/net"),
        ("libsystem.a.p/hw_net_rocker_rocker.c.o", "hw/net"),
        ("libsystem.a.p/hw_audio_ac97.c.o", "others"),
        ("libqemuutil.a.p/meson-generated_.._qapi_qapi-types.c.o", "generated code"),
        ("qapi/qapi-types.c", ""),
        ("qemu-system-xen", ""),
    ],
)
def test_where_an_object_came_from(output: str, area: str) -> None:
    assert area_of(output, ("hw", "hw/net", "net")) == (area if area != "others" else "hw")
    assert area_of(output, ("hw/net",)) == area


def test_phases_share_the_whole() -> None:
    timings = {"configure": {"wall": 6.0, "cpu": 5.0}, "compile": {"wall": 3.0}, "install": {"wall": 0}, "odd": 1}
    timeline = build_timeline(timings, (), ())
    assert [(phase.name, phase.x, phase.width) for phase in timeline.phases] == [
        ("configure", 0.0, 666.7),
        ("compile", 666.7, 333.3),
    ]
    assert timeline.phases[0].text == "6.00 s, processor 5.00 s"
    assert timeline.phases[1].text == "3.00 s"


def test_a_build_whose_times_are_not_kept() -> None:
    assert build_timeline({}, (), ()) == Timeline()
    assert build_timeline({"configure": "soon"}, (), ()) == Timeline()


def test_a_timeline() -> None:
    steps = (Step(0, 1000, "a.c"), Step(500, 2000, "p/hw_net_x.c.o"), Step(2000, 61_000, "qemu-system-xen"))
    timeline = build_timeline({}, steps, ("hw/net",))
    assert timeline.sentence == "3 commands in 1 min 01 s, 1.0 at once on average"
    assert timeline.lanes == 2
    assert timeline.marks == ("0", "15.25 s", "30.50 s", "45.75 s", "1 min 01 s")
    assert [kind.text for kind in timeline.drawn] == ["1 command, 1.50 s", "1 command, 1.00 s", "1 command, 59.00 s"]
    slowest, areas = timeline.tables
    assert [row[0].text for row in slowest.rows] == ["qemu-system-xen", "p/hw_net_x.c.o", "a.c"]
    assert [[cell.text for cell in row] for row in areas.rows] == [["hw/net", "1", "1.50 s"]]
    assert [table.name for table in build_timeline({}, steps, ()).tables] == ["slowest"]


def test_commands_that_take_no_time_are_there() -> None:
    timeline = build_timeline({}, (Step(0, 0, "a.o"),), ())
    assert timeline.sentence == "1 command in 0 ms"
    assert timeline.drawn[0].path == "M0.0 1h0.6v18h-0.6z"
