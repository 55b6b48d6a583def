"""scripts/xl-keys: what xl reads, from its sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "xl-keys"
SOURCE = """\
    xlu_cfg_get_long (config, "memory", &l, 0);
    if (!xlu_cfg_get_long(config, "tsc_mode", &l, 1)) {} else xlu_cfg_get_string(config, "tsc_mode", &buf, 0);
    switch (xlu_cfg_get_list_as_string_list(config, "serial",
                                            &list, 1))
        xlu_cfg_replace_string(config, "serial", &text, 0);
    e = xlu_cfg_get_bounded_long (config, "max_grant_frames", 0, INT_MAX, &l, 1);
    e = xlu_cfg_get_list_as_string_list(config, "device_model_args"#type, &list, 0);
"""


def tree(folder: Path, version: str, more: str = "") -> Path:
    major, minor = version.split(".")
    (folder / "xen").mkdir(parents=True)
    (folder / "xen" / "Makefile").write_text(
        f"export XEN_VERSION       = {major}\nexport XEN_SUBVERSION    = {minor}\n"
    )
    (folder / "tools" / "xl").mkdir(parents=True)
    (folder / "tools" / "xl" / "xl_parse.c").write_text(SOURCE + more)
    return folder


def test_settings_are_found_with_their_kinds(tmp_path: Path) -> None:
    old = tree(tmp_path / "old", "4.17")
    new = tree(tmp_path / "new", "4.20", 'xlu_cfg_get_defbool(config, "hvm_pirq", &b, 0);\n')
    said = subprocess.run([sys.executable, SCRIPT, old, new], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[1:] == [
        'versions = ["4.17", "4.20"]',
        "",
        "[all]",
        'device_model_args = "list"',
        'device_model_args_hvm = "list"',
        'device_model_args_pv = "list"',
        'max_grant_frames = "number"',
        'memory = "number"',
        'serial = "list text"',
        'tsc_mode = "number text"',
        "",
        '["4.17"]',
        "",
        '["4.20"]',
        'hvm_pirq = "flag"',
    ]


@pytest.mark.parametrize(("arguments", "code"), [(("--check",), 1), ((), 2)])
def test_a_difference_and_wrong_usage_are_told(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    trees = [tree(tmp_path / "old", "4.17")] if arguments else []
    assert (
        subprocess.run([sys.executable, SCRIPT, *arguments, *trees], capture_output=True, check=False).returncode
        == code
    )
