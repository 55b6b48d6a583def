"""The remote storage of a compiler cache: its URL, what may be shown of that, and a server that is not there."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.build.model import Compiler, Offload
from xenqemu.build.remote import parse_remote, public_url, remote_environment
from xenqemu.errors import MissingError, UsageError
from xenqemu.ui import PlainUi

# No letter of these is in the rest of a URL below.
SECRET = st.text("JQXZ0123456789", min_size=4)


@given(SECRET, SECRET, SECRET, st.sampled_from(["redis", "http"]))
def test_what_may_be_secret_is_never_shown(user: str, password: str, attribute: str, scheme: str) -> None:
    for url in (
        f"{scheme}://{user}:{password}@host/path|bearer-token={attribute}",
        f"{scheme}://{password}@host/path?{attribute}#{attribute}",
        f"{scheme}://:{password}@host/path {attribute}",
    ):
        remote = parse_remote(url)
        assert public_url(url) == remote.server == f"{scheme}://host/path"
        assert not any(secret in repr(remote) for secret in (user, password, attribute))
    offload = Offload(remote_cache=f"redis://:{password}@host")
    assert password not in repr(offload)


@given(st.text())
def test_what_is_no_url_is_an_error_that_shows_no_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_remote(f"hunter2{text}")
    assert caught.value.message.startswith("(no URL) is no server")


@pytest.mark.parametrize("url", ["", "redis:", "redis://", "redis://host:none", "rediss://host", "http://[::1", "x"])
def test_what_is_no_server(url: str) -> None:
    with pytest.raises(UsageError, match="is no server of a remote cache"):
        parse_remote(url)


def test_the_parts_of_a_url() -> None:
    for text in ("redis://:pw@host|shards=a,b", "redis://pw@host|shards=a,b"):
        remote = parse_remote(text)
        assert (remote.url, remote.user, remote.password) == ("redis://pw@host|shards=a,b", "", "pw")
    remote = parse_remote("redis://me:p%40ss@[::1]/2")
    assert (remote.host, remote.port, remote.user, remote.password) == ("::1", 6379, "me", "p@ss")
    assert remote.server == "redis://[::1]/2"
    assert parse_remote("http://cache.example:8080/qemu").port == 8080


def fake(folder: Path, name: str, version: str, about: str) -> dict[str, str]:
    program = folder / name
    program.write_text(f"#!/bin/sh\ncase $1 in --version) echo '{version}' ;; esac\necho '{about}'\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("name", "version", "about", "scheme", "expected"),
    [
        ("ccache", "4.7", "http-storage redis-storage", "redis", {"CCACHE_REMOTE_STORAGE": "redis://me:pw@HOST"}),
        ("ccache", "4.11.2", "http-storage", "http", {"CCACHE_REMOTE_STORAGE": "http://me:pw@HOST"}),
        ("ccache", "4.11.2", "http-storage", "redis", None),
        ("ccache", "4.6.3", "http-storage redis-storage", "redis", None),
        ("sccache", "0.4.0-pre.6", "Redis: false", "redis", None),
        ("sccache", "0.7.7", "Redis: true", "redis", None),
        (
            "sccache",
            "0.10.0",
            "    WebDAV:    true",
            "http",
            {
                "SCCACHE_WEBDAV_ENDPOINT": "http://HOST",
                "SCCACHE_WEBDAV_USERNAME": "me",
                "SCCACHE_WEBDAV_PASSWORD": "pw",
            },
        ),
    ],
)
def test_what_a_cache_is_told_of_its_server(
    name: str, version: str, about: str, scheme: str, expected: Mapping[str, str] | None, tmp_path: Path
) -> None:
    environment = fake(tmp_path, name, f"{name} version {version}", about)
    compiler, output = Compiler((name, "gcc"), {}), io.StringIO()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        offload = Offload(remote_cache=f"{scheme}://me:pw@{host}")
        if expected is None:
            with pytest.raises(MissingError, match=f"{name} {version.partition('-')[0]} has no {scheme} storage"):
                remote_environment(compiler, offload, environment, PlainUi(output))
            return
        found = remote_environment(compiler, offload, environment, PlainUi(output))
    assert found == {variable: value.replace("HOST", host) for variable, value in expected.items()}
    assert output.getvalue() == f"remote compiler cache: {scheme}://{host}\n"


def test_a_server_without_a_password_gets_none(tmp_path: Path) -> None:
    environment = fake(tmp_path, "sccache", "sccache 0.10.0", "Redis:     true")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        offload = Offload(remote_cache=url)
        found = remote_environment(Compiler(("sccache", "gcc"), {}), offload, environment, PlainUi(io.StringIO()))
    assert found == {"SCCACHE_REDIS_ENDPOINT": url}


def test_a_server_that_is_not_there_is_told_and_left_out(tmp_path: Path) -> None:
    environment = fake(tmp_path, "ccache", "ccache version 4.7.5", "redis-storage")
    compiler, output = Compiler(("ccache", "gcc"), {}), io.StringIO()
    offload = Offload(remote_cache="redis://me:pw@127.0.0.1:1")
    assert remote_environment(compiler, offload, environment, PlainUi(output)) == {}
    assert "warning: the remote cache redis://127.0.0.1:1 does not answer (Connection refused)" in output.getvalue()
    assert remote_environment(compiler, Offload(), environment, PlainUi(output)) == {}


def test_a_cache_that_was_named_by_its_path_is_not_asked(tmp_path: Path) -> None:
    compiler = Compiler(("/opt/ccache", "gcc"), {})
    offload = Offload(remote_cache="redis://127.0.0.1:1")
    assert remote_environment(compiler, offload, {"PATH": str(tmp_path)}, PlainUi(io.StringIO())) == {}
