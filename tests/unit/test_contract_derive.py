from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.contract import ctokens
from xenqemu.contract.coverage import atoms, compare
from xenqemu.contract.derive import Sent, derive
from xenqemu.contract.model import Contract, Entry, Probe, xen_version
from xenqemu.errors import UsageError

DM = r"""
/* "-not-this" */
static const char *script(libxl__gc *gc) { return "no"; }   // "-nor-this"
static char *elsewhere(libxl__gc *gc) { return "-unreached"; }
#define SERVER(id) ({ \
    flexarray_append(dm_args, GCSPRINTF("socket,id=%s", id)); \
})
static int libxl__build_device_model_args_new(libxl__gc *gc, const char *dm)
{
    if (strcmp(dm, "compared")) LOGD(ERROR, domid, "said %d", f(1));
    flexarray_vappend(dm_args, dm, "-domid", GCSPRINTF("%d", domid), NULL);
#define PAIR(x) flexarray_append_pair(dm_args, "-inside", x)
    flexarray_append_pair(dm_args, "-m", GCSPRINTF("size=%"PRIu64",slots=%#x", a, b));
    flexarray_append(dm_args, '"' ? "-quote\"d" : script(gc));
    return 0;
}
int libxl__spawn_local_dm(void) {
    spawn->what = GCSPRINTF("domain %d", domid);
    flexarray_append(dm_args, "-probe");
    rc = libxl__ev_qmp_send(egc, &dmss->qmp, "query-status", NULL);
}
"""
DISK = r"""
static void insert(libxl__egc *egc) {
    if (old) QMP_PARAMETERS_SPRINTF(&args, "device", "ide-%i", devid);
    libxl__qmp_param_add_string(gc, &args, "driver", "usb-ehci");
    libxl__qmp_param_add_integer(gc, &args, "p2", ports);
    libxl__qmp_param_add_bool(gc, &args, "live", true);
    qmp_parameters_common_add(gc, &args, "addr", addr);
    libxl__qmp_param_add_string(gc, &args, name, value);
    rc = old ? libxl__ev_qmp_send(egc, qmp, "change", args) : libxl__ev_qmp_send(egc, qmp, "insert", args);
}
static void colo(libxl__gc *gc) {
    cmd = GCSPRINTF("drive_add -n %s", id);
    node = GCSPRINTF("node%d", n);
    libxl__qmp_hmp(gc, domid, cmd, NULL);
}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A Xen source tree with as much as is read of one."""
    light = tmp_path / "tools/libs/light"
    light.mkdir(parents=True)
    (light / "libxl_dm.c").write_text(DM)
    (light / "libxl_disk.c").write_text(DISK)
    (light / "libxl_device.c").write_text('const char *libxl__qemu_disk_format_string(int f) { return "qcow2"; }')
    (light / "libxl_types_internal.idl").write_text('libxl__qemu_soundhw = Enumeration("q", [\n (1, "ac97"),\n ])\n')
    (tmp_path / "xen").mkdir()
    (tmp_path / "xen/Makefile").write_text(
        "export XEN_VERSION       = 4\nexport XEN_SUBVERSION    = 20\nexport XEN_EXTRAVERSION ?= .4-pre$(V)\n"
    )
    return tmp_path


def test_words_of_the_builder_and_what_it_calls(tree: Path) -> None:
    passed = derive(tree)
    assert passed.version == "4.20.4-pre"
    assert passed.words == tuple(
        sorted(
            (
                *("-domid", "-m", "-inside", '-quote"d', "{}", "no", "-probe"),
                *("size={},slots={}", "qcow2", "ac97"),
            )
        )
    )


def test_qmp_commands_with_the_types_of_their_arguments(tree: Path) -> None:
    assert derive(tree).qmp == (
        Sent(
            "libxl_disk.c",
            "insert",
            ("change", "insert"),
            (
                *("addr:object", "device:string", "device=ide-{}", "driver:string", "driver=usb-ehci"),
                *("live:bool", "p2:integer"),
            ),
        ),
        Sent("libxl_disk.c", "colo", ("human-monitor-command",), ("command-line=drive_add -n {}",)),
        Sent("libxl_dm.c", "libxl__spawn_local_dm", ("query-status",), ()),
    )


@pytest.mark.parametrize(
    ("file", "says"),
    [("libxl_dm.c", "no function libxl__build"), ("libxl_types_internal.idl", "no enumeration libxl__qemu_soundhw")],
)
def test_a_libxl_that_is_built_otherwise_is_not_read_in_silence(tree: Path, file: str, says: str) -> None:
    path = tree / "tools/libs/light" / file
    path.write_text(path.read_text().replace("_new(", "_newer(").replace("soundhw", "sound"))
    with pytest.raises(UsageError, match=says):
        derive(tree)


def test_another_folder_is_no_xen(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Xen source tree"):
        derive(tmp_path)


def entry(name: str, **fields: object) -> Entry:
    return Entry(id=name, group="g", kind="option", source="", case="base", probe=Probe.NONE, **fields)  # type: ignore[arg-type]


COMPLETE = (
    entry("words", argv=("-domid", "{d}", "-m", "size={a},slots={b}", "-inside", '-quote"d', "-probe")),
    entry("values", argv=("-m",), values=("no", "qcow2", "ac97")),
    entry("change", execute="change", arguments={"device": "ide-{n}", "p2": 1, "addr": {}}),
    entry("insert", execute="insert", arguments={"driver": "usb-ehci", "live": True}),
    entry("add", execute="human-monitor-command", arguments={"command-line": "drive_add -n {id}"}),
    entry("status", execute="query-status"),
)


def contract(*entries: Entry) -> Contract:
    return Contract((xen_version("4.20"),), {}, entries)


def test_a_table_that_has_everything(tree: Path) -> None:
    # The command line of the monitor is put together elsewhere, so that its type is not seen with it.
    coverage = compare(tree, contract(*COMPLETE))
    assert (coverage.version, coverage.lacking) == ("4.20.4-pre", ())
    assert coverage.unfounded == ("QMP argument 'command-line:string' in g.toml, entry add",)
    path = tree / "tools/libs/light/libxl_qmp.c"
    path.write_text(
        'int libxl__qmp_hmp(int d) { libxl__qmp_param_add_string(gc, &a, "command-line", l);'
        ' return qmp_run_command(gc, d, "human-monitor-command", a); }'
    )
    assert compare(tree, contract(*COMPLETE)).complete


@pytest.mark.parametrize(
    ("without", "line"),
    [
        ("words", "'size={},slots={}' on the command line"),
        ("values", "'ac97' on the command line"),
        ("change", "QMP argument 'p2:integer' of change or insert (libxl_disk.c: insert)"),
        ("status", "QMP command 'query-status' (libxl_dm.c: libxl__spawn_local_dm)"),
    ],
)
def test_what_a_table_lacks(tree: Path, without: str, line: str) -> None:
    kept = [item for item in COMPLETE if item.id != without]
    assert line in compare(tree, contract(*kept)).lacking


def test_properties_count_with_their_own_device_only(tree: Path) -> None:
    kept = [item for item in COMPLETE if item.id != "words"]
    split = (
        entry("one", argv=("-domid", "-m", "size={a}", "-inside", '-quote"d', "-probe")),
        entry("two", argv=("slots={}",)),
    )
    assert compare(tree, contract(*kept, *split)).lacking == ("'size={},slots={}' on the command line",)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"argv": ("-gone",)}, "'-gone' in g.toml, entry more"),
        ({"environment": ("DISPLAY={x}",)}, "'DISPLAY' in g.toml, entry more"),
        ({"execute": "gone"}, "QMP command 'gone' in g.toml, entry more"),
        ({"execute": "change", "arguments": {"p2": "1"}}, "QMP argument 'p2:string' in g.toml, entry more"),
    ],
)
def test_what_no_libxl_passes(tree: Path, more: dict[str, object], line: str) -> None:
    assert line in compare(tree, contract(*COMPLETE, entry("more", **more))).unfounded


C_STRING = st.text(st.characters(codec="ascii", exclude_characters='\n\r"\\'), max_size=12)


@given(
    st.lists(C_STRING, min_size=1), st.lists(st.sampled_from((" ", "\n", '/* , " { */', "// (\n", "\t")), min_size=1)
)
def test_any_string_is_read_as_it_is_whatever_comments_say(texts: list[str], gaps: list[str]) -> None:
    gap = "".join(gaps)
    arguments = f"{gap},{gap}".join(f'"{text}"' for text in texts)
    body = ctokens.functions(ctokens.tokens(f"int f(void){gap}{{{gap} g{gap}({arguments}{gap}); }}"))["f"]
    (call,) = ctokens.calls(body)
    assert [call.literal(index) for index in range(len(texts))] == texts
    assert call.literal(len(texts)) is None


@given(st.text(st.sampled_from("ab(){}[],\"'\\/*#%\n "), max_size=60))
def test_no_text_at_all_makes_it_fail(text: str) -> None:
    tokens = ctokens.tokens(text)
    for body in (tokens, *ctokens.functions(tokens).values()):
        assert all(call.name for call in ctokens.calls(body))


@given(st.lists(st.text(st.sampled_from("ab=:{}x"), max_size=6)))
def test_parts_do_not_depend_on_how_words_are_cut(words: list[str]) -> None:
    assert atoms(words) == atoms([",".join(words)])
