from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

from xenqemu.contract.model import Probe, xen_name, xen_version
from xenqemu.contract.table import cases, entries_of, load, load_contract, xen_named
from xenqemu.errors import UsageError
from xenqemu.resources import data_dir
from xenqemu.vm.xlcfg import parse

ABOUT = 'xens = ["4.17.5", "4.20.4"]\ngroups = ["one"]\nsource = "here"\n[samples]\n'
ENTRY = '[[entry]]\nid = "a"\nkind = "option"\ncase = "base"\nargv = ["-a"]\n'


def written(folder: Path, entries: str, about: str = ABOUT) -> Path:
    (folder / "contract.toml").write_text(about)
    (folder / "one.toml").write_text(entries)
    return folder


def test_every_file_is_listed() -> None:
    about = tomllib.loads((data_dir("contract") / "contract.toml").read_text())
    assert {path.stem for path in data_dir("contract").glob("*.toml")} == {*about["groups"], "contract"}


def test_every_entry_says_what_it_has_to() -> None:
    for entry in load_contract():
        assert entry.source
        assert entry.case
        assert parse(entry.xl.encode(), entry.id).statements or not entry.xl
        assert all(change.what for change in entry.changes), entry.id
        assert all(gap.reason and gap.reference for gap in entry.gaps), entry.id
        if entry.probe is Probe.SCHEMA:
            assert entry.execute or len(entry.check) > 1, entry.id
        if entry.probe is Probe.OPTIONS:
            assert len(entry.argv) == 2, entry.id
        if entry.execute:
            assert entry.probe in {Probe.SCHEMA, Probe.EXECUTE, Probe.PROPERTIES}, entry.id


def test_what_varies_has_a_sample_wherever_it_is_tried() -> None:
    contract = load()
    given = {*contract.samples, "scratch", "disk", "cpu_type", "socket", "pipe", "port"}
    for entry in contract.entries:
        if entry.probe in {Probe.START, Probe.XEN, Probe.EXECUTE, Probe.NAME}:
            words = [*entry.setup, *(entry.check or entry.argv), *entry.samples.values()]
            words += [value for value in entry.arguments.values() if isinstance(value, str)]
            names = {name for word in words for name in _names(word)}
            assert names <= given | set(entry.samples), entry.id


def _names(word: str) -> list[str]:
    return [part.partition("}")[0] for part in word.split("{")[1:]]


def test_the_rows_of_the_table_of_refusals_are_there() -> None:
    changed = {entry.id: [str(change.qemu) for change in entry.changes] for entry in load_contract() if entry.changes}
    assert changed["acpi-off"] == ["9.0"]
    assert changed["chroot"] == ["9.0"]
    assert changed["runas"] == ["10.0"]
    assert changed["sound-ac97"] == ["8.2"]
    assert changed["usbctrl-xhci-text"] == ["9.2"]


def test_cases_have_what_their_entries_ask_for() -> None:
    found = {case.id: case for case in cases(load_contract())}
    assert found["vcpu-hotplug"].config == ("vcpus = 1; maxvcpus = 2",)
    assert found["vcpu-hotplug"].commands == ("xl vcpu-set --ignore-host {guest} 2",)
    assert {entry.id for entry in found["dm-restrict"].entries} >= {"chroot", "runas", "domid-restrict"}
    assert sum(len(case.entries) for case in found.values()) == len(load_contract())


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (ENTRY + ENTRY, "twice: a"),
        (ENTRY + 'unless = "b"\n', "there is no entry b"),
        (ENTRY + 'execute = "stop"\n', "one of argv, execute and environment"),
        (ENTRY + 'colour = "red"\n', "colour"),
        (ENTRY + 'probe = "guess"\n', "guess"),
        (ENTRY + 'xen = "4.x"\n', "4.x"),
        ("[[entry]\n", "one.toml"),
    ],
)
def test_malformed_data_names_the_file(tmp_path: Path, entries: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        load(written(tmp_path, entries))
    assert says in error.value.message


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="malformed"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "version", "name"),
    [
        ("4.17", "4.17.99", "4.17"),
        ("4.20.1", "4.20.1", "4.20.1"),
        (None, "4.20.4", "4.20.4"),
        ("4.23", "4.23.99", "4.23"),
    ],
)
def test_a_series_is_its_newest_release(text: str | None, version: str, name: str) -> None:
    named = xen_named(load(), text)
    assert (named, xen_name(named)) == (Version(version), name)


@pytest.mark.parametrize("text", ["new", "4.16", ""])
def test_a_xen_that_is_not_known(text: str) -> None:
    with pytest.raises(UsageError):
        xen_named(load(), text)


def test_entries_of_a_xen() -> None:
    old, new = ({entry.id for entry in entries_of(load(), xen)} for xen in ("4.20.1", "4.20"))
    assert old - new == {"usbctrl-xhci-text", "usbdev-text"}
    assert new - old == {"run-with-chroot", "run-with-user", "usbctrl-xhci", "usbdev", "probe"} | {
        "qmp-probe-options",
        "qmp-probe-quit",
    }
    assert len(entries_of(load(), None)) == len(load_contract())


def test_what_libxl_sends_to_which_qemu() -> None:
    by_id = {entry.id: entry for entry in load_contract()}
    assert not by_id["qmp-insert-old"].sent_to(Version("7.2"))
    assert by_id["qmp-insert"].sent_to(Version("7.2"))
    assert by_id["vga-qxl"].gap(xen_version("4.17"), Version("10.2"))
