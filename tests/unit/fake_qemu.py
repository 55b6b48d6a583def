"""A tree that looks like QEMU to everything that only looks: a few files, milliseconds."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

KEYMAP_GEN = "tools/keymap-gen"
ROM = "roms/seabios"
WRAP_URL = "https://keycodemapdb.invalid/keycodemapdb.git"
# For git in tests: nobody's configuration, fixed names and dates.
GIT_ENV = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@invalid",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@invalid",
    "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
}


def git(*words: str | Path, cwd: Path, stdin: str = "") -> str:
    """Run git in `cwd` and return what it printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | GIT_ENV
    done = subprocess.run(["git", *words], cwd=cwd, env=env, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def is_old(version: str) -> bool:
    """Whether keycodemapdb is a submodule below `ui/` in a QEMU of this version, as it was up to 8.0."""
    return int(version.split(".")[0]) < 8 or version.startswith("8.0")


def write_fake_qemu(path: Path, version: str = "10.2.2") -> None:
    """Write the tree that an extracted release tarball of this version has, firmware and subprojects included."""
    files = {
        "VERSION": f"{version}\n",
        "configure": "#!/bin/sh\nexit 0\n",
        "meson.build": "project('qemu', ['c'])\n",
        "Kconfig.host": "config XEN\n    bool\n",
        "hw/xen/meson.build": "system_ss.add(when: ['CONFIG_XEN'])\n",
        "hw/i386/Kconfig": "config XEN_EMU\n    bool\n",
        "include/hw/xen/xen.h": "/* \u00e9 */\n",
        "roms/Makefile": "all:\n",
        f"{ROM}/Makefile": "firmware:\n",
        f"{ROM}-hppa.txt": "its name only begins like the submodule's\n",
        "subprojects/libvhost-user/meson.build": "project('libvhost-user')\n",
        "subprojects/libvhost-user/linux.h": "/* no wrap, so it belongs to QEMU */\n",
    }
    modules = {ROM: "https://seabios.invalid/seabios.git"}
    if is_old(version):
        modules["ui/keycodemapdb"] = WRAP_URL
        files |= keycodemapdb("ui/keycodemapdb/")
    else:
        files |= keycodemapdb("subprojects/keycodemapdb/")
        files |= {
            "subprojects/keycodemapdb/.meson-subproject-wrap-hash.txt": "0" * 64 + "\n",
            "subprojects/keycodemapdb.wrap": wrap("0" * 40),
            "subprojects/dtc.wrap": "[wrap-git]\nurl = https://dtc.invalid/dtc.git\nrevision = main\n",
            "subprojects/dtc/Makefile": "all:\n",
            "subprojects/anyhow-1-rs.wrap": "[wrap-file]\ndirectory = anyhow-1.0.98\n",
            "subprojects/anyhow-1.0.98/lib.rs": "//\n",
            "subprojects/packagecache/anyhow-1.0.98.tar.gz": "not really\n",
        }
    files[".gitmodules"] = "".join(
        f'[submodule "{name}"]\n\tpath = {name}\n\turl = {url}\n' for name, url in modules.items()
    )
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    for name in files:
        if name == "configure" or name.endswith(KEYMAP_GEN):
            (path / name).chmod(0o755)
    # Two of QEMU's own symlinks end in a slash.
    (path / "subprojects/libvhost-user/include").symlink_to("../../include/")
    (path / "python" / "wheels").mkdir(parents=True)


def keycodemapdb(prefix: str = "") -> dict[str, str]:
    """Return the files of a keycodemapdb."""
    return {
        f"{prefix}{KEYMAP_GEN}": "#!/usr/bin/env python3\n",
        f"{prefix}data/keymaps.csv": "Linux,Linux Keycode\n",
        f"{prefix}.gitattributes": "*.csv export-ignore\n",
    }


def wrap(revision: str, url: str = WRAP_URL) -> str:
    """Return the wrap file that pins keycodemapdb at `revision`."""
    return f"[wrap-git]\nurl = {url}\nrevision = {revision}\ndepth = 1\n"


def write_keycodemapdb_repository(path: Path) -> str:
    """Make a repository of keycodemapdb at `path` and return the id of its commit."""
    for name, content in keycodemapdb().items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    (path / KEYMAP_GEN).chmod(0o755)
    git("init", "--quiet", "--initial-branch=main", cwd=path)
    git("add", "-A", cwd=path)
    git("commit", "--quiet", "-m", "keycodemapdb", cwd=path)
    return git("rev-parse", "HEAD", cwd=path)


def write_checkout(path: Path, version: str = "10.2.2", *, populated: bool = True) -> Path:
    """Make a checkout of the fake QEMU at `path` and the keycodemapdb that it pins at `PATH-keycodemapdb`.

    `populated`: with keycodemapdb in place, as `git submodule update` or meson leaves it. Returns the latter's path.
    """
    inner = path.with_name(f"{path.name}-keycodemapdb")
    revision = write_keycodemapdb_repository(inner)
    write_fake_qemu(path, version)
    place = path / ("ui" if is_old(version) else "subprojects") / "keycodemapdb"
    shutil.rmtree(place)
    shutil.rmtree(path / ROM)
    for name in ("dtc", "anyhow-1.0.98", "packagecache"):
        shutil.rmtree(path / "subprojects" / name, ignore_errors=True)
    git("init", "--quiet", "--initial-branch=main", cwd=path)
    if is_old(version):
        git("update-index", "--add", "--cacheinfo", f"160000,{revision},ui/keycodemapdb", cwd=path)
    else:
        (path / "subprojects/keycodemapdb.wrap").write_text(wrap(revision))
        (path / "subprojects/.gitignore").write_text("/keycodemapdb\n/packagecache\n")
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{ROM}", cwd=path)
    (path / ROM).mkdir()
    (path / ".gitattributes").write_text("Kconfig.host export-ignore\nVERSION export-subst text eol=crlf\n")
    place.mkdir(exist_ok=True)
    git("add", "-A", cwd=path)
    git("commit", "--quiet", "-m", f"QEMU {version}", cwd=path)
    git("tag", f"v{version}", cwd=path)
    if populated:
        place.rmdir()
        git("clone", "--quiet", inner, place, cwd=path)
    return inner
