"""Compiles on other machines: the list of hosts, which of them serve, how many jobs, and which one is lost."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fakeqemu import OPTIONS, fake_input, make_tree
from xenqemu.build import build
from xenqemu.build.distribute import (
    Distribution,
    Host,
    LostHosts,
    check_hosts,
    distribute,
    local_environment,
    parse_hosts,
)
from xenqemu.build.model import Compiler, Offload
from xenqemu.build.recipe import load_recipe
from xenqemu.errors import UsageError
from xenqemu.state import StateDir
from xenqemu.ui import PlainUi, QuietUi

HERE = len(os.sched_getaffinity(0))

# A distcc whose hosts are in its own settings (-j), or which compiles here what is said to be compiled elsewhere:
# `dead` does not answer, `other` has another compiler, `dying` has served the first look and then no more.
DISTCC = r"""
if [ "$1" = -j ]; then echo "${SLOTS-}"; exit; fi
case "$DISTCC_HOSTS $*" in
    dead*) echo 'distcc[7] ERROR: nonblocking connect to dead:3632 failed: No route to host' > "$DISTCC_LOG"; exit 116 ;;
    silent*) exit 1 ;;
    other*) "$@"; printf 'GCC: (Other 1) 9.9\0' > "${@##*-o }"; for last; do :; done; printf 'GCC: (Other 1) 9.9\0x' > "$last"; exit ;;
    *dying*main.c*)
        echo "distcc[8] Warning: failed to distribute main.c to dying:3633/4, running locally instead" >> "$DISTCC_LOG" ;;
    *dying*first.c*)
        echo "distcc[9] ERROR: compile first.c on dying:3633/4 failed" >> "$DISTCC_LOG" ;;
esac
echo "$DISTCC_HOSTS" >> "$SEEN"
exec "$@"
"""  # noqa: E501


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH that has the imitation; what it is called for is in the file `seen`."""
    (tmp_path / "distcc").write_text(f"#!/bin/sh\nSEEN={tmp_path}/seen\n{DISTCC}")
    (tmp_path / "distcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["red", "10.0.0.1", "[fd00::1]", "a-b.c_d"]), st.sampled_from(["", ":1", ":3632"])
        ),
        min_size=1,
        unique=True,
    ),
    st.integers(1, 999),
)  # fmt: skip
def test_a_list_of_hosts_is_what_distcc_gets(names: list[tuple[str, str]], jobs: int) -> None:
    text = ",".join(f"{name}{port}/{jobs}" for name, port in names)
    hosts = parse_hosts(text)
    assert [str(host) for host in hosts] == text.split(",")
    assert {host.slots for host in hosts} == {jobs}


def test_a_host_without_a_number_has_distccs_own() -> None:
    assert parse_hosts(" red, green/2 ") == (Host("red", 4), Host("green", 2))


@pytest.mark.parametrize(
    "text", ["", ",", "red,", "red/0", "red/00", "red/x", "@red", "red,red/2", "red:x", "-red green"]
)
def test_what_is_no_list_of_hosts(text: str) -> None:
    with pytest.raises(UsageError, match=r"is none|is named twice") as caught:
        parse_hosts(text)
    assert "HOST" in caught.value.hint


@given(st.text())
def test_any_text_is_hosts_or_an_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_hosts(text)


def test_hosts_are_looked_at_before_anything_is_done() -> None:
    check_hosts(Offload())
    check_hosts(Offload(engine="icecc", hosts="scheduler"))
    with pytest.raises(UsageError, match="is none"):
        check_hosts(Offload(hosts="@"))
    with pytest.raises(UsageError, match="one scheduler"):
        check_hosts(Offload(engine="icecc", hosts="one,two"))


def test_configure_stays_here() -> None:
    assert local_environment(Offload()) == {}
    assert local_environment(Offload(hosts="red")) == {"DISTCC_HOSTS": "localhost"}
    assert local_environment(Offload(engine="icecc")) == {"ICECC": "disable"}


Try = Callable[..., tuple[Distribution, str]]


@pytest.fixture
def tried(path: Path, state: StateDir, tmp_path: Path) -> Try:
    """Return how a compile would run, and what was said about it."""

    def run(*argv: str, environment: dict[str, str] | None = None, **offload: str) -> tuple[Distribution, str]:
        output = io.StringIO()
        given = {"PATH": os.environ["PATH"], **(environment or {})}
        compiler = Compiler(argv or ("distcc", "gcc"), {})
        return distribute(compiler, Offload(**offload), tmp_path, given, state, PlainUi(output)), output.getvalue()

    return run


def test_hosts_that_do_not_compile_as_this_machine_are_left_out(tried: Try, tmp_path: Path) -> None:
    work, said = tried(hosts="good/3,dead,silent,other,fine:3633/2")
    assert work.jobs == 5 + HERE
    assert work.engine == "distcc"
    assert work.environment["DISTCC_HOSTS"] == f"--localslots={HERE} --localslots_cpp={HERE} good/3 fine:3633/2"
    assert work.environment["DISTCC_IO_TIMEOUT"] == "60"
    assert work.environment["DISTCC_LOG"] == str(tmp_path / "distcc.log")
    assert "CCACHE_PREFIX" not in work.environment
    warnings = [line for line in said.splitlines() if line.startswith("warning")]
    assert len(warnings) == 3
    assert "the host dead does not compile (nonblocking connect to dead:3632 failed: No route to host)" in warnings[0]
    assert "the host silent does not compile (it said nothing)" in warnings[1]
    assert "the host other has another compiler (GCC: (Other 1) 9.9; here: " in warnings[2]
    assert said.endswith("compiling on good, fine:3633, 5 at once\n")


def test_with_no_host_left_everything_is_compiled_here(tried: Try) -> None:
    work, said = tried("ccache", "gcc", hosts="dead", environment={"DISTCC_IO_TIMEOUT": "5"})
    assert work == Distribution({"PATH": os.environ["PATH"], "DISTCC_IO_TIMEOUT": "5", "DISTCC_HOSTS": "localhost"})
    assert said.endswith("warning: none of the hosts is left; compiling here\n")


def test_behind_a_cache_it_is_the_cache_that_hands_on(tried: Try) -> None:
    work, _ = tried("ccache", "gcc", hosts="good", environment={"DISTCC_IO_TIMEOUT": "5", "DISTCC_LOG": "/own"})
    assert work.environment["CCACHE_PREFIX"] == "distcc"
    assert work.environment["DISTCC_IO_TIMEOUT"] == "5"
    assert work.environment["DISTCC_LOG"] == "/own"


def test_the_hosts_of_distccs_own_settings(tried: Try) -> None:
    work, said = tried(engine="distcc", environment={"SLOTS": "12", "DISTCC_HOSTS": "a/6 b/6"})
    assert work.jobs == 12 + HERE
    assert work.environment["DISTCC_HOSTS"] == "a/6 b/6"
    assert said == "compiling on distcc's hosts, 12 at once\n"
    work, said = tried(engine="distcc")
    assert work.engine is None
    assert "distcc knows no hosts" in said


def test_nothing_is_handed_on_where_nobody_asked(tried: Try) -> None:
    assert tried("gcc") == (Distribution({"PATH": os.environ["PATH"]}), "")


NODES = """200-ICECC 1.4.0: 21s uptime, 3 hosts, 0 jobs in queue (0 total).
200 Use 'help' for help and 'quit' to quit.
 client (10.0.0.1:0) [x86_64] speed=0.00 jobs=0/1 load=1000
 red (10.0.0.2:10245) [x86_64] speed=0.00 jobs=0/8 load=7
 green (10.0.0.3:10245) [x86_64] speed=91.40 jobs=3/4 load=7
   17 COMP sub:client on:red /src/x.c
200 done
200 Good Bye!
"""


def test_icecreams_scheduler_is_asked_what_there_is(tried: Try, tmp_path: Path) -> None:
    asked = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(100))
            connection.sendall(NODES.encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        scheduler = f"127.0.0.1:{listener.getsockname()[1] - 1}"
        work, said = tried("ccache", "gcc", engine="icecc", hosts=scheduler)
        thread.join()
    assert asked == [b"listcs\nquit\n"]
    assert said == "compiling on red, green, 12 at once\n"
    assert work.jobs == 12 + HERE
    assert work.environment["CCACHE_PREFIX"] == "icecc"
    assert work.environment["ICECC_REMOTE_CPP"] == "0"
    assert work.environment["ICECC_LOGFILE"] == str(tmp_path / "icecc.log")


def test_icecream_knows_its_hosts_itself(tried: Try) -> None:
    work, said = tried("icecc", "gcc", engine="icecc")
    assert (work.jobs, said) == (3 * HERE, "")
    work, said = tried("icecc", "gcc", engine="icecc", hosts="127.0.0.1:1")
    assert work.jobs == 3 * HERE
    assert "icecream's scheduler 127.0.0.1:1 does not answer" in said


def test_a_lost_host_is_told_once_by_its_name(tmp_path: Path) -> None:
    output = io.StringIO()
    log = tmp_path / "log"
    log.write_text("distcc[1] Warning: failed to distribute x.c to before/2, running locally instead\n")
    lost = LostHosts(Distribution({"DISTCC_LOG": str(log)}, 1, "distcc"), PlainUi(output))
    lost.look()
    assert output.getvalue() == ""
    with log.open("a") as file:
        for _ in range(2):
            file.write("distcc[1] Warning: failed to distribute x.c to red:3633/2,lzo, running locally instead\n")
        file.write("distcc[1] ERROR: compile y.c on [fd00::1]:3632/2 failed\ndistcc[2] Warning: failed to dis")
        file.flush()
        lost.look()
        told = output.getvalue().splitlines()
        assert told == [
            "warning: the host red:3633 fails; what it was to compile is compiled on another, or here",
            "warning: the host [fd00::1]:3632 fails; what it was to compile is compiled on another, or here",
        ]
        file.write("tribute z.c to green/2, running locally instead\n")
    lost.look()
    assert "the host green fails" in output.getvalue()
    lost.look()
    assert len(output.getvalue().splitlines()) == 3


def test_a_host_that_is_not_reached_any_more_is_told_by_the_name_that_the_user_gave(tmp_path: Path) -> None:
    output = io.StringIO()
    log = tmp_path / "log"
    names = {"192.0.2.1:3632": "red", "fd00::1:3633": "[fd00::1]:3633"}
    lost = LostHosts(Distribution({"DISTCC_LOG": str(log)}, 1, "distcc", names), PlainUi(output))
    log.write_text(
        "distcc[1] ERROR: nonblocking connect to 192.0.2.1:3632 failed: Connection refused\n"
        "distcc[2] Warning: failed to distribute x.c to red/2, running locally instead\n"
        "distcc[3] ERROR: timeout while connecting to [fd00::1]:3633\n"
        "distcc[4] ERROR: failed to connect to 192.0.2.9:3632: No route to host\n"
        "distcc[5] (dcc_build_somewhere) Warning: failed to distribute, running locally instead\n"
    )
    lost.look()
    told = [line.partition(";")[0] for line in output.getvalue().splitlines()]
    assert told == [
        "warning: the host red fails",
        "warning: the host [fd00::1]:3633 fails",
        "warning: the host 192.0.2.9:3632 fails",
    ]


def test_the_addresses_of_the_hosts_that_serve_have_names(tried: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if name == "good":
            raise socket.gaierror
        return [
            (socket.AF_INET6, None, None, "", ("fd00::1", port, 0, 0)),
            (socket.AF_INET, None, None, "", (name, port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    work, _ = tried(hosts="good/3,dead,fine:3633/2")
    assert work.names == {"fd00::1:3633": "fine:3633", "fine:3633": "fine:3633"}


def test_a_lost_host_of_icecreams_and_no_engine_at_all(tmp_path: Path) -> None:
    output = io.StringIO()
    log = tmp_path / "log"
    lost = LostHosts(Distribution({"ICECC_LOGFILE": str(log)}, 1, "icecc"), PlainUi(output))
    lost.look()
    log.write_text("ICECC[1] 12:00:00: local build forced by remote exception: Error 102 - no connection\n" * 2)
    lost.look()
    assert output.getvalue().count("a host of icecream's fails (Error 102 - no connection)") == 1
    LostHosts(Distribution({}), PlainUi(output)).look()


def test_every_engine_says_where_its_log_is_and_what_it_says_there() -> None:
    for launcher in load_recipe().launchers.values():
        assert bool(launcher.log and launcher.lost and launcher.local) is launcher.engine


@pytest.mark.parametrize("argv", [{}, {"launcher": "ccache"}])
def test_a_build_on_hosts_of_which_one_is_lost_has_the_same_bytes(
    argv: dict[str, str], path: Path, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "cache"))
    make_tree(state)
    plain = build(fake_input(state), OPTIONS, state, QuietUi())
    other, output = StateDir(tmp_path / "other").create(), io.StringIO()
    make_tree(other)
    options = replace(OPTIONS, offload=Offload(hosts="good/3,dying:3633", **argv))
    made = build(fake_input(other), options, other, PlainUi(output))
    assert made.key == plain.key
    assert made.binary.read_bytes() == plain.binary.read_bytes()
    assert (
        output.getvalue().count("the host dying:3633 fails; what it was to compile is compiled on another, or here")
        == 1
    )
    seen = (tmp_path / "seen").read_text().splitlines()
    assert sum(line.endswith("good/3 dying:3633/4") for line in seen) >= 3  # the three compiles
