"""Git URLs: fetched without history, in pieces that survive an interruption."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fake_qemu import WRAP_URL, git, write_checkout, write_fake_qemu
from tests.unit.test_source_forms import obtained
from xenqemu.errors import MissingError, SourceError
from xenqemu.proc import Completed
from xenqemu.source import giturl
from xenqemu.source.urls import public_url, without_credentials
from xenqemu.state import StateDir

VERSIONS = pytest.mark.parametrize("version", ["7.2.0", "10.2.2"])


def serve(path: Path) -> None:
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git("config", key, "true", cwd=path)


@pytest.fixture
def insteadof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's git configuration sends the pinned URL of keycodemapdb to a local repository."""
    config = tmp_path / "gitconfig"
    config.write_text(
        f'[url "file://{tmp_path}/q-keycodemapdb"]\n\tinsteadOf = {WRAP_URL}\n[protocol "file"]\n\tallow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    return config


@pytest.fixture
def remote(tmp_path: Path, insteadof: Path) -> Path:
    inner = write_checkout(tmp_path / "q")
    serve(tmp_path / "q")
    serve(inner)
    (tmp_path / "q/later").write_text("x")
    git("add", "-A", cwd=tmp_path / "q")
    git("commit", "--quiet", "-m", "later", cwd=tmp_path / "q")
    git("tag", "-a", "-m", "annotated", "later", cwd=tmp_path / "q")
    return tmp_path / "q"


@VERSIONS
def test_a_url_gives_the_tree_of_the_checkout(version: str, tmp_path: Path, state: StateDir, insteadof: Path) -> None:
    inner = write_checkout(tmp_path / "q", version)
    serve(tmp_path / "q")
    serve(inner)
    tree = obtained(f"file://{tmp_path}/q@v{version}", state)
    assert tree.tree == obtained(tmp_path / "q", state).tree
    assert tree.origin["commit"] == git("rev-parse", "HEAD", cwd=tmp_path / "q")
    assert tree.origin["keycodemapdb"]


def test_refs_of_all_kinds(remote: Path, state: StateDir) -> None:
    head = git("rev-parse", "HEAD", cwd=remote)
    for ref in ("@main", "@later", "@refs/heads/main", f"@{head}", ""):
        assert obtained(f"file://{remote}{ref}", state).origin["commit"] == head
    first = obtained(f"file://{remote}@v10.2.2", state)
    assert first.origin["commit"] == git("rev-parse", "HEAD~1", cwd=remote)
    assert obtained(f"file://{remote}@{first.origin['commit']}", state).tree == first.tree


def test_no_history_is_fetched(remote: Path, state: StateDir) -> None:
    obtained(f"file://{remote}@main", state)
    clones = [path for path in state.clones.iterdir() if git("rev-list", "--all", "--count", cwd=path) == "1"]
    assert len(clones) == 2


def test_a_branch_that_moved_is_followed_and_a_full_id_needs_no_network(
    remote: Path, state: StateDir, tmp_path: Path
) -> None:
    first = obtained(f"file://{remote}@main", state)
    (remote / "later").write_text("y")
    git("commit", "--quiet", "-am", "moved", cwd=remote)
    assert obtained(f"file://{remote}@main", state).tree != first.tree
    remote.rename(tmp_path / "away")
    assert obtained(f"file://{remote}@{first.origin['commit']}", state).tree == first.tree
    with pytest.raises(SourceError, match="could not be fetched: fatal"):
        obtained(f"file://{remote}@main", state)


def test_a_server_without_filters(remote: Path, state: StateDir) -> None:
    git("config", "uploadpack.allowFilter", "false", cwd=remote)
    assert obtained(f"file://{remote}@main", state).tree


def test_a_ref_that_does_not_exist(remote: Path, state: StateDir) -> None:
    with pytest.raises(SourceError, match="no branch, tag or commit 'mian'") as caught:
        obtained(f"file://{remote}@mian", state)
    assert "main" in caught.value.hint
    with pytest.raises(SourceError, match="could not be fetched"):
        obtained(f"file://{remote}@{'1' * 40}", state)


def test_a_tag_of_something_else(remote: Path, state: StateDir) -> None:
    git("tag", "blob", "HEAD:VERSION", cwd=remote)
    with pytest.raises(SourceError, match="'blob' is not a commit"):
        obtained(f"file://{remote}@blob", state)


def test_keycodemapdb_out_of_reach(remote: Path, state: StateDir, insteadof: Path) -> None:
    insteadof.write_text("")
    with pytest.raises(SourceError, match=r"keycodemapdb\.git could not be fetched"):
        obtained(f"file://{remote}@main", state)


def test_an_interrupted_download_keeps_its_batches(
    remote: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giturl, "BATCH", 3)
    fetch = giturl._Clone._fetch
    batches: list[int] = []

    def failing(self: giturl._Clone, *words: str, stdin: str = "") -> None:
        if stdin:
            batches.append(stdin.count("\n"))
            if len(batches) == 3:
                raise KeyboardInterrupt
        fetch(self, *words, stdin=stdin)

    monkeypatch.setattr(giturl._Clone, "_fetch", failing)
    with pytest.raises(KeyboardInterrupt):
        obtained(f"file://{remote}@main", state)
    assert batches == [3, 3, 3]
    batches[:] = [0, 0, 0]
    tree = obtained(f"file://{remote}@main", state)
    files = git("ls-tree", "-r", "HEAD", cwd=remote).splitlines()
    distinct = {line.split()[2] for line in files if line.startswith("1") and not line.startswith("160000")}
    inner = {line.split()[2] for line in git("ls-tree", "-r", "HEAD", cwd=Path(f"{remote}-keycodemapdb")).splitlines()}
    assert sum(batches) == len(distinct) - 6 + len(inner)
    assert tree.tree == obtained(remote, state).tree


@pytest.fixture
def daemon(remote: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            "git",
            "daemon",
            "--export-all",
            f"--base-path={tmp_path}",
            "--listen=127.0.0.1",
            f"--port={port}",
            "--reuseaddr",
        ],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"git://127.0.0.1:{port}"
    os.killpg(process.pid, 15)
    process.wait()


def test_a_git_server_and_a_kill_in_the_middle(daemon: str, remote: Path, state: StateDir) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from xenqemu.source import giturl, obtain, parse_source\n"
        "from xenqemu.state import StateDir; from xenqemu.ui import QuietUi\n"
        "giturl.BATCH = 4; fetch = giturl._Clone._fetch; count = [0]\n"
        "def killed(self, *words, stdin=''):\n"
        "    fetch(self, *words, stdin=stdin); count[0] += 1\n"
        "    if count[0] == int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "giturl._Clone._fetch = killed\n"
        "obtain(parse_source(sys.argv[1]), StateDir(Path(sys.argv[2])).create(), QuietUi())\n"
    )
    url = f"{daemon}/q@main"
    for victim in ("1", "2", "2"):
        done = subprocess.run([sys.executable, "-c", script, url, state.root, victim], check=False)
        assert done.returncode == -9
    assert obtained(url, state).tree == obtained(remote, state).tree


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@git.invalid/q.git", "https://git.invalid/q.git"),
        ("https://token@git.invalid/q.git", "https://git.invalid/q.git"),
        ("ssh://git@git.invalid/q.git", "ssh://git@git.invalid/q.git"),
        ("https://git.invalid/a@b", "https://git.invalid/a@b"),
        ("HTTPS://me:p@ss@git.invalid/q.git", "HTTPS://git.invalid/q.git"),
        ("git+https://me:secret@git.invalid/q", "git+https://git.invalid/q"),
        ("ssh://me:secret@git.invalid:22/q", "ssh://me@git.invalid:22/q"),
        ("https://x.invalid/q.tar.xz?token=secret#f", "https://x.invalid/q.tar.xz"),
        ("git@git.invalid:q.git", "git@git.invalid:q.git"),
    ],
)
def test_credentials_are_not_shown(url: str, shown: str) -> None:
    assert public_url(url) == shown
    assert without_credentials(f"fatal: unable to access '{url}': no") == f"fatal: unable to access '{shown}': no"


def test_a_token_is_kept_from_others_and_told_nobody(
    remote: Path, state: StateDir, insteadof: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://me:secret@git.invalid/q.git"
    with insteadof.open("a") as config:
        config.write(f'[url "file://{remote}"]\n\tinsteadOf = {url}\n')
    state.clones.mkdir(mode=0o755)  # of a version that did not know better
    tree = obtained(f"{url}@main", state)
    assert state.clones.stat().st_mode & 0o777 == 0o700
    assert tree.origin["location"] == "https://git.invalid/q.git"
    assert "secret" not in str(tree)
    holding = [path for path in state.root.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert holding
    assert all(path.is_relative_to(state.clones) for path in holding)
    for text in (f"{url}@", f"{url}@none", url.replace("q.git", "gone.git")):
        with pytest.raises(SourceError) as caught:
            obtained(text, state)
        assert "secret" not in caught.value.message + caught.value.hint
    for options in ({"sha256": "0" * 64}, {"dirty": True}):
        with pytest.raises(SourceError, match=r"git\.invalid/q\.git' is not one") as caught:
            obtained(url, state, **options)
        assert "secret" not in caught.value.message


def test_clones_are_made_for_the_user_alone(remote: Path, state: StateDir) -> None:
    obtained(f"file://{remote}@main", state)
    assert state.clones.stat().st_mode & 0o777 == 0o700


def test_a_full_disk_is_said_so(remote: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Completed(("git",), 128, "", "error: write: No space left on device\n")
    monkeypatch.setattr("xenqemu.source.giturl.run", lambda argv, **_: said if "fetch" in argv else _run(argv, **_))
    from xenqemu.proc import run as _run

    with pytest.raises(MissingError, match=r"no space left in .*clones"):
        obtained(f"file://{remote}@main", state)


def test_a_repository_that_has_the_files_itself(tmp_path: Path, state: StateDir) -> None:
    write_fake_qemu(tmp_path / "vendored")
    git("init", "--quiet", "--initial-branch=main", cwd=tmp_path / "vendored")
    git("add", "-A", cwd=tmp_path / "vendored")
    git("commit", "--quiet", "-m", "with everything", cwd=tmp_path / "vendored")
    tree = obtained(f"file://{tmp_path}/vendored@main", state)
    assert "keycodemapdb" not in tree.origin
    assert tree.tree == obtained(tmp_path / "vendored", state).tree


def test_a_relative_submodule_url(tmp_path: Path, state: StateDir, insteadof: Path) -> None:
    inner = write_checkout(tmp_path / "q", "7.2.0")
    serve(inner)
    modules = (tmp_path / "q/.gitmodules").read_text().replace(WRAP_URL, "../q-keycodemapdb")
    (tmp_path / "q/.gitmodules").write_text(modules)
    git("commit", "--quiet", "-am", "relative", cwd=tmp_path / "q")
    insteadof.write_text('[protocol "file"]\n\tallow = always\n')
    assert obtained(f"file://{tmp_path}/q@main", state).tree


def test_a_wrap_that_pins_nothing(tmp_path: Path, state: StateDir, insteadof: Path) -> None:
    write_checkout(tmp_path / "q")
    (tmp_path / "q/subprojects/keycodemapdb.wrap").write_text("[wrap-file]\nsource_url = x\n")
    git("commit", "--quiet", "-am", "no pin", cwd=tmp_path / "q")
    with pytest.raises(MissingError, match="lacks keycodemapdb"):
        obtained(f"file://{tmp_path}/q@main", state)
