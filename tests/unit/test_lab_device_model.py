"""A device model with all that it needs, for a dom0 that is another system."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xenqemu.errors import LabError
from xenqemu.lab.device_model import DeviceModel, inspect_device_model, overlay_of
from xenqemu.lab.model import DOM0_FIRMWARE, OverlayFile
from xenqemu.proc import run


def compiled(folder: Path, *, link: tuple[str, ...] = (), code: str = "int main(void){return 0;}") -> Path:
    """Return a program at bin/qemu-system-xen below `folder`."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "qemu-system-xen"
    run(("cc", "-x", "c", "-", "-x", "none", "-o", program, *link), stdin=code.encode())
    return program


def library(folder: Path, soname: str, code: str = "int f(void){return 0;}") -> Path:
    folder.mkdir(exist_ok=True)
    run(("cc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{soname}", "-o", folder / soname), stdin=code.encode())
    return folder / soname


def by_path(files: tuple[OverlayFile, ...]) -> dict[str, OverlayFile]:
    return {file.path: file for file in files}


def test_a_program_comes_with_its_libraries_and_its_loader(tmp_path: Path) -> None:
    xenctrl = library(tmp_path / "lib", "libxenctrl.so.4.17")
    program = compiled(
        tmp_path,
        link=(str(xenctrl), "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib"),
        code="int f(void); int main(void){return f();}",
    )
    (tmp_path / "share" / "qemu" / "keymaps").mkdir(parents=True)
    (tmp_path / "share" / "qemu" / "keymaps" / "de").write_text("x")
    (tmp_path / "share" / "qemu" / "pvh.bin").write_bytes(b"x")
    (tmp_path / "share" / "qemu" / "edk2.fd").write_bytes(b"x")
    (tmp_path / "share" / "qemu" / "huge.bin").write_bytes(bytes(600 * 1024))
    model = inspect_device_model(program)
    assert model.xen == "4.17"
    assert model.loader is not None
    assert model.libraries["libxenctrl.so.4.17"].resolve() == xenctrl
    assert "libc.so.6" in model.libraries
    assert "libgcc_s.so.1" in model.libraries

    files = by_path(overlay_of(model, ("/opt/dm",)))
    script = files["/opt/dm"]
    assert script.mode == 0o755
    assert isinstance(script.content, bytes)
    root = next(path for path in files if path.endswith("/bin/qemu-system-xen")).removesuffix("/bin/qemu-system-xen")
    assert script.content.decode() == (
        f"#!/bin/sh\nexec {root}/bin/ld.so --library-path {root}/lib --argv0 qemu-system-xen "
        f'{root}/bin/qemu-system-xen -L {root}/share -L {DOM0_FIRMWARE} "$@"\n'
    )
    assert files[f"{root}/lib/libxenctrl.so.4.17"].content == model.libraries["libxenctrl.so.4.17"]
    assert {path.removeprefix(f"{root}/share/") for path in files if "/share/" in path} == {"keymaps/de", "pvh.bin"}


def test_the_started_copy_needs_nothing_of_the_system(tmp_path: Path) -> None:
    """What goes into dom0 runs with its own loader and libraries, from another place."""
    xenctrl = library(tmp_path / "lib", "libxenctrl.so.4.17", "int f(void){return 7;}")
    program = compiled(
        tmp_path, link=(str(xenctrl), "-Wl,-rpath,$ORIGIN/../lib"), code="int f(void); int main(void){return f();}"
    )
    model = inspect_device_model(program)
    dom0 = tmp_path / "dom0"
    for file in overlay_of(model, ("/dm",)):
        place = dom0 / file.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.content, Path):
            shutil.copyfile(file.content, place)
        else:
            place.write_bytes(file.content.replace(b"/usr/lib/xenqemu", bytes(dom0) + b"/usr/lib/xenqemu"))
        place.chmod(file.mode)
    shutil.rmtree(tmp_path / "lib")
    shutil.rmtree(tmp_path / "bin")
    assert run((dom0 / "dm",), env={}, check=False).returncode == 7


def test_a_static_program_needs_no_loader(tmp_path: Path) -> None:
    model = inspect_device_model(compiled(tmp_path, link=("-static",)))
    assert (model.loader, model.libraries, model.script, model.xen) == (None, {}, False, "")
    files = by_path(overlay_of(model, ("/dm",)))
    assert b"ld.so" not in files["/dm"].content  # type: ignore[operator]
    assert len(files) == 2


def test_a_script_goes_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "dm"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    model = inspect_device_model(script)
    assert model == DeviceModel(script, script=True)
    assert overlay_of(model, ("/a", "/b")) == (OverlayFile("/a", script, 0o755), OverlayFile("/b", script, 0o755))


def test_broken_device_models_are_told(tmp_path: Path) -> None:
    program = compiled(tmp_path)
    content = program.read_bytes()

    def why(name: str, data: bytes | None, mode: int = 0o755) -> str:
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
            path.chmod(mode)
        with pytest.raises(LabError) as caught:
            inspect_device_model(path)
        assert caught.value.hint
        return caught.value.message.replace(str(path), "DM")

    assert why("gone", None) == "the device model DM cannot be read: No such file or directory"
    assert why("mode", content, 0o644) == "the device model DM is not executable"
    assert why("text", b"hello") == "the device model DM is neither an ELF program nor a script"
    assert why("short", content[: len(content) // 4]).startswith("the device model DM is truncated (")
    assert why("header", content[:40]) == "the device model DM is a damaged ELF file"
    other = bytearray(content)
    other[18:20] = (183).to_bytes(2, "little")
    assert "is for AARCH64" in why("arm", bytes(other))
    other = bytearray(content)
    other[16:18] = (1).to_bytes(2, "little")
    assert "no program" in why("object", bytes(other))


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    there = library(tmp_path / "lib", "libxenqemu-test.so.0")
    program = compiled(tmp_path, link=(str(there),), code="int f(void); int main(void){return f();}")
    there.unlink()
    with pytest.raises(LabError, match=r"cannot be loaded: libxenqemu-test\.so\.0: cannot open") as caught:
        inspect_device_model(program)
    assert "LD_LIBRARY_PATH" in caught.value.hint


def test_ld_library_path_counts_as_it_does_when_it_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = library(tmp_path / "elsewhere", "libxenctrl.so.4.20")
    program = compiled(tmp_path, link=(str(there),), code="int f(void); int main(void){return f();}")
    with pytest.raises(LabError):
        inspect_device_model(program)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(there.parent))
    assert inspect_device_model(program).xen == "4.20"


@pytest.mark.parametrize("place", ["lib/xen/bin", "bin", "libexec"])
@pytest.mark.parametrize("data", ["share/qemu-xen/qemu", "share/qemu"])
def test_data_is_found_in_the_layouts_of_qemu_and_of_xen(tmp_path: Path, place: str, data: str) -> None:
    program = compiled(tmp_path / "build", link=("-static",))
    (tmp_path / "usr" / place).mkdir(parents=True)
    (tmp_path / "usr" / data).mkdir(parents=True)
    installed = shutil.copy(program, tmp_path / "usr" / place / "qemu-system-i386")
    assert inspect_device_model(Path(installed)).data == tmp_path / "usr" / data


def test_a_build_that_is_not_installed_has_its_data_in_the_bundle(tmp_path: Path) -> None:
    program = compiled(tmp_path).rename(tmp_path / "qemu-system-i386")
    keymaps = tmp_path / "qemu-bundle/opt/xen/share/qemu/keymaps"
    keymaps.mkdir(parents=True)
    (tmp_path / "source").write_text("x")
    (keymaps / "de").symlink_to(tmp_path / "source")
    model = inspect_device_model(program)
    assert model.data == keymaps.parent
    assert any(path.endswith("/share/keymaps/de") for path in by_path(overlay_of(model, ("/opt/dm",))))
