"""Profiles: what is read, how they extend one another, and what is said about a malformed one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from xenqemu.errors import UsageError
from xenqemu.target.profile import State, list_profiles, load_profile, suggestion

V72, V100, V102 = Version("7.2.0"), Version("10.0.13"), Version("10.2.2")
HEAD = 'name = "mine"\ndescription = "A test"\n'


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_own_profiles_without_what_they_build_on() -> None:
    assert list_profiles() == ("backend", "full", "hvm", "stubdom")


def test_hvm_extends_base() -> None:
    hvm = load_profile("hvm")
    assert hvm.name == "hvm"
    assert "I440FX" in {symbol for device in hvm.devices for symbol in device.kconfig}
    assert hvm.features_for(V102)["tcg"] is State.DISABLE
    assert hvm.features_for(V102)["xen"] is State.ENABLE


def test_every_device_of_our_profiles_says_who_asks_for_it() -> None:
    for name in list_profiles():
        for device in load_profile(name).devices:
            assert device.xl.strip()


def test_full_has_all_devices_of_hvm_and_makes_spice_optional() -> None:
    hvm, full = load_profile("hvm"), load_profile("full")
    assert set(hvm.devices) < set(full.devices)
    assert hvm.features_for(V102)["spice"] is State.DISABLE
    assert full.features_for(V102)["spice"] is State.OPTIONAL
    assert "--enable-trace-backends=nop" in hvm.options_for(V102)
    assert [flag for flag in full.options_for(V102) if "trace" in flag] == ["--enable-trace-backends=log"]


def test_features_that_a_release_does_not_have_are_not_named() -> None:
    hvm = load_profile("hvm")
    assert "virtiofsd" in hvm.features_for(V72)
    assert "virtiofsd" not in hvm.features_for(V100)
    assert "rust" not in hvm.features_for(V72)
    assert "igvm" not in hvm.features_for(V100)
    assert "igvm" in hvm.features_for(V102)


def test_a_narrower_entry_wins_only_within_its_range() -> None:
    hvm = load_profile("hvm")
    assert hvm.features_for(V72)["cap-ng"] is State.OPTIONAL
    assert hvm.features_for(V102)["cap-ng"] is State.DISABLE


def test_release_candidates_have_what_their_series_has() -> None:
    assert "igvm" in load_profile("hvm").features_for(Version("10.2.0rc1"))


def test_own_file_extends_ours(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        HEAD + 'extends = "hvm"\n[configure]\nenable = ["seccomp"]\n'
        '[[device]]\nkconfig = ["TPM_CRB"]\ntypes = ["tpm-crb"]\nxl = "none"\n',
    )
    profile = load_profile(path)
    assert profile.name == "mine"
    assert profile.features_for(V102)["seccomp"] is State.ENABLE
    assert profile.devices[-1].types == ("tpm-crb",)
    assert len(profile.devices) == len(load_profile("hvm").devices) + 1


def test_a_profile_takes_back_what_its_base_left_out(tmp_path: Path) -> None:
    assert "qemu-xhci" in load_profile("hvm").left_out_for(V102)
    path = write(
        tmp_path,
        HEAD + 'extends = "hvm"\n[[device]]\ntypes = ["qemu-xhci"]\nxl = "mine"\nversions = ">=10"\n'
        '[[left-out]]\ntypes = ["adlib", "gus", "xen-unknown"]\nbecause = "a test"\n',
    )
    mine = load_profile(path)
    assert "qemu-xhci" not in mine.left_out_for(V102)
    assert "qemu-xhci" in mine.left_out_for(V72)
    # what a device of the base names stays; a type that there is not does no harm
    assert "adlib" not in mine.left_out_for(V102)
    assert mine.left_out_for(V102)["xen-unknown"] == "a test"


@pytest.mark.parametrize("version", [V72, V100, V102], ids=str)
def test_what_is_for_guests_without_a_machine_has_none(version: Version) -> None:
    backend = load_profile("backend")
    symbols = {symbol for device in backend.devices_for(version) for symbol in device.kconfig}
    assert symbols == {"USB"}
    assert {"xen-disk", "xen-backend"} <= set(backend.types_for(version))
    assert backend.features_for(version)["xen-pci-passthrough"] is State.DISABLE
    assert backend.features_for(version)["virtfs"] is State.OPTIONAL


@pytest.mark.parametrize("version", [V72, V100, V102], ids=str)
def test_a_stub_domain_has_the_devices_of_hvm_and_none_of_dom0s_work(version: Version) -> None:
    hvm, stubdom = load_profile("hvm"), load_profile("stubdom")
    assert set(hvm.types_for(version)) - set(stubdom.types_for(version)) == {"usb-host"}
    assert hvm.left_out_for(version) == stubdom.left_out_for(version)
    features = stubdom.features_for(version)
    assert {features[name] for name in ("qcow1", "qed", "gcrypt", "linux-aio", "virtfs", "libusb")} == {State.DISABLE}
    assert features["xen-pci-passthrough"] is State.ENABLE
    assert State.OPTIONAL not in features.values()


def test_own_file_extends_a_file_beside_it(tmp_path: Path) -> None:
    write(tmp_path, HEAD.replace("mine", "other") + '[configure]\noptions = ["--enable-lto"]\n', "other.toml")
    profile = load_profile(write(tmp_path, HEAD + 'extends = "other.toml"\n'))
    assert profile.options_for(V102) == ("--enable-lto",)


def test_unknown_profile_names_the_closest() -> None:
    with pytest.raises(UsageError) as caught:
        load_profile("hwm")
    assert caught.value.exit_code == 2
    assert "hwm" in caught.value.message
    assert "Did you mean hvm?" in caught.value.hint


def test_base_cannot_be_built() -> None:
    with pytest.raises(UsageError, match="only a base") as caught:
        load_profile("base")
    assert "backend, full, hvm, stubdom" in caught.value.hint
    assert load_profile("base", allow_abstract=True).abstract


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no profile file"):
        load_profile(str(tmp_path / "absent.toml"))


def test_extending_oneself(tmp_path: Path) -> None:
    write(tmp_path, HEAD + 'extends = "mine.toml"\n', "other.toml")
    with pytest.raises(UsageError, match="extends itself"):
        load_profile(write(tmp_path, HEAD + 'extends = "other.toml"\n'))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = ", "is not TOML"),
        ('description = "x"\n', "'name' must be a text"),
        ('name = "x"\ndescription = 3\n', "'description' must be a text"),
        ('name = "x"\ndescription = "a\\nb"\n', "single line"),
        (HEAD + "devise = []\n", "unknown key 'devise'"),
        (HEAD + 'abstract = "yes"\n', "must be true or false"),
        (HEAD + "configure = 1\n", "configure: must be a table"),
        (HEAD + "[configure]\nenabel = []\n", "unknown key 'enabel'"),
        (HEAD + "[configure]\nenable = 1\n", "must be a list"),
        (HEAD + "[configure]\nenable = [1]\n", "a text or a table"),
        (HEAD + '[configure]\nenable = ["--enable-vnc"]\n', "is no feature"),
        (HEAD + '[configure]\nenable = ["vnc"]\ndisable = ["vnc"]\n', "there twice"),
        (HEAD + '[configure]\nenable = [{ name = "vnc", versions = "new" }]\n', "is no version range"),
        (HEAD + '[configure]\nenable = [{ name = "vnc", since = "8" }]\n', "unknown key 'since'"),
        (HEAD + '[configure]\noptions = ["lto"]\n', "is no option"),
        (HEAD + "device = 1\n", "must be a list of tables"),
        (HEAD + '[[device]]\nxl = "x"\n', "needs 'kconfig' or 'types'"),
        (HEAD + '[[device]]\ntypes = ["VGA"]\n', "'xl' must be a text"),
        (HEAD + '[[device]]\ntypes = "VGA"\nxl = "x"\n', "must be a list of texts"),
        (HEAD + '[[device]]\ntypes = ["a\\"b"]\nxl = "x"\n', "is no name for 'types'"),
        (HEAD + "left-out = 1\n", "left-out: must be a list of tables"),
        (HEAD + '[[left-out]]\ntypes = ["VGA"]\n', "left-out 1: 'because' must be a text"),
        (HEAD + '[[left-out]]\ntypes = ["a b"]\nbecause = "x"\n', "is no name for 'types'"),
        (HEAD + '[[left-out]]\nbecause = "x"\n', "left-out 1: needs 'types'"),
        (HEAD + '[[left-out]]\ntypes = ["VGA"]\nxl = "x"\n', "unknown key 'xl'"),
        (HEAD + '[[device]]\nkconfig = ["CONFIG-VGA"]\nxl = "x"\n', "is no name for 'kconfig'"),
    ],
)
def test_malformed_profiles(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_profile(write(tmp_path, text))
    assert problem in caught.value.message
    assert "mine.toml" in caught.value.message
    assert caught.value.hint


def test_not_text_at_all(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not TOML"):
        load_profile(str(path))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_profile_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError):  # no random bytes have name and description
        load_profile(str(path))


@given(st.lists(st.sampled_from(["lto", "vnc", "tcg", "spice"]), unique=True), st.sampled_from(list(State)))
def test_features_survive_reading(tmp_path_factory: pytest.TempPathFactory, names: list[str], state: State) -> None:
    entries = ", ".join(f'"{name}"' for name in names)
    path = write(tmp_path_factory.mktemp("some"), f"{HEAD}[configure]\n{state.value} = [{entries}]\n")
    assert load_profile(path).features_for(V102) == dict.fromkeys(names, state)


def test_suggestion() -> None:
    assert suggestion("VGA_CIRUS", ["VGA_CIRRUS", "VGA_PCI"]).startswith("Did you mean VGA_CIRRUS")
    assert suggestion("zzz", ["VGA_CIRRUS"]) == ""
