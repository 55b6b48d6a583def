"""Where settings come from and which one wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenqemu.errors import UsageError
from xenqemu.settings import SETTINGS, Settings, Value, resolve


def resolved(
    tmp_path: Path,
    user: str = "",
    project: str = "",
    environment: dict[str, str] | None = None,
    options: dict[str, Value] | None = None,
) -> Settings:
    for name, text in (("user", user), ("project", project)):
        (tmp_path / name).mkdir(exist_ok=True)
        if text:
            (tmp_path / name / "xenqemu.toml").write_text(text)
    return resolve(options or {}, environment=environment or {}, project=tmp_path / "project", user=tmp_path / "user")


def test_later_ones_win(tmp_path: Path) -> None:
    steps: list[tuple[dict[str, object], str, int | None]] = [
        ({}, "default", None),
        ({"user": "jobs = 1"}, f"{tmp_path}/user/xenqemu.toml", 1),
        ({"project": "jobs = 2"}, f"{tmp_path}/project/xenqemu.toml", 2),
        ({"environment": {"XENQEMU_JOBS": "3"}}, "XENQEMU_JOBS", 3),
        ({"options": {"jobs": 4}}, "--jobs", 4),
    ]
    given: dict[str, object] = {}
    for step, origin, value in steps:
        given |= step
        settings = resolved(tmp_path, **given)  # type: ignore[arg-type]
        assert settings.values["jobs"].origin == origin
        assert settings.number("jobs") == value


def test_options_that_were_not_given_and_empty_variables_count_for_nothing(tmp_path: Path) -> None:
    settings = resolved(tmp_path, environment={"XENQEMU_XEN": ""}, options={"xen": None})
    assert settings.values["xen"].origin == "default"
    assert settings.text("xen") == "system"
    assert settings.optional_text("cc") is None
    assert not settings.flag("dirty")


def test_paths_in_a_file_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = resolved(tmp_path, user='state-dir = "state"\nout = "/abs"')
    assert settings.state_dir == tmp_path / "user" / "state"
    assert settings.text("out") == "/abs"


def test_the_state_directory_has_a_place_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert resolve({}, environment={}, project=tmp_path).state_dir == tmp_path / "xenqemu"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("jbos = 1", "unknown setting 'jbos'", "did you mean jobs"),
        ("zzz = 1", "unknown setting 'zzz'", "there is: qemu"),
        ("jobs = '1'", "jobs must be a number, not '1'", ""),
        ("jobs = true", "jobs must be a number", ""),
        ("jobs = 0", "jobs must be at least 1, not 0", ""),
        ("xen = 1", "xen must be a text", ""),
        ("dirty = 1", "dirty must be true or false", ""),
        ("jobs = ", "cannot be read", "TOML"),
    ],
)
def test_a_wrong_file_says_which_and_why(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolved(tmp_path, project=text)
    assert str(tmp_path / "project" / "xenqemu.toml") in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("off", False), ("false", False)])
def test_switches_in_the_environment(tmp_path: Path, text: str, value: bool) -> None:
    assert resolved(tmp_path, environment={"XENQEMU_DEBUG_INFO": text}).flag("debug-info") is value


@pytest.mark.parametrize(
    ("name", "text"), [("XENQEMU_DIRTY", "maybe"), ("XENQEMU_JOBS", "many"), ("XENQEMU_JOBS", "-3")]
)
def test_wrong_variables_are_named(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name):
        resolved(tmp_path, environment={name: text})


def test_names_are_unique_and_explained() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    assert all(setting.help for setting in SETTINGS)
