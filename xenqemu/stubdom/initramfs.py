"""The file system that a stub domain starts with: a device model, what it needs, and what libxl's protocol takes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from xenqemu.build.manifest import file_sha256
from xenqemu.errors import LabError, MissingError
from xenqemu.glibc import needed_glibc, provided_glibc
from xenqemu.lab.cpio import Entry, directory, link, regular, write_archive
from xenqemu.lab.device_model import DeviceModel
from xenqemu.proc import CommandFailedError, run
from xenqemu.state import write_atomic
from xenqemu.stubdom.model import Parts, StubDomain
from xenqemu.stubdom.recipe import FILES, libc_files, stub_memory
from xenqemu.vm.stubdom import KERNEL, MANIFEST, RAMDISK

_FOLDERS = ("dev", "proc", "sys", "run", "tmp", "var", "etc")
_SCRIPTS = ("bridge", "hotplug")
_PROGRAM = "qemu-system-xen"
_LIBC = "libc.so.6"
_LOADER = "ld-linux-x86-64.so.2"
# zstd is what a slow processor unpacks soonest. The window (2 MiB) is memory that the kernel has to find while
# everything is in memory twice.
_LEVEL, _QUICK_LEVEL = 19, 6
_WINDOW_LOG = 21
_COMPILE = (
    *("cc", "-Os", "-s", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"),
    *("-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-Wl,--build-id=none,-z,noseparate-code"),
)


def compile_programs(folder: Path) -> tuple[Path, ...]:
    """Compile the stub domain's own programs into the existing `folder` and return them; they need no library.

    Raises `MissingError` when there is no C compiler for x86-64.
    """
    return tuple(_compile(source, folder) for source in sorted(FILES.glob("*.c")))


def _compile(source: Path, folder: Path) -> Path:
    program = folder / source.stem
    try:
        run((*_COMPILE, "-o", program, source))
    except CommandFailedError as error:
        said = error.completed.stderr.strip().splitlines() or ["the compiler said nothing"]
        raise MissingError(
            f"the stub domain's program {source.stem} could not be compiled: {said[-1]}",
            "it takes a C compiler for x86-64 as `cc`",
        ) from error
    return program


def write_stub_domain(
    parts: Parts, model: DeviceModel, programs: Sequence[Path], folder: Path, *, quick: bool = False
) -> StubDomain:
    """Write kernel, initial file system and manifest into the existing `folder`; each file appears as a whole.

    `programs` are those of `compile_programs`. A `quick` one is larger. The same input gives the same bytes. Raises
    `LabError` for a device model that cannot run there.
    """
    import zstandard

    if model.script:
        raise LabError(f"{model.path} is a script, which a stub domain has nothing for", "name a program with --dm")
    archive = io.BytesIO()
    write_archive(archive, _entries(parts, model, programs))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _QUICK_LEVEL if quick else _LEVEL,
        window_log=_WINDOW_LOG,
        source_size=len(archive.getbuffer()),
        write_content_size=True,
    )
    packed = zstandard.ZstdCompressor(compression_params=parameters).compress(archive.getbuffer())
    made = StubDomain(folder / KERNEL, folder / RAMDISK, stub_memory(len(archive.getbuffer())))
    write_atomic(made.kernel, parts.kernel.read_bytes())
    write_atomic(made.initramfs, packed)
    facts = {
        "xen": parts.series,
        "kernel": {"release": parts.kernel_release, "size": made.kernel.stat().st_size},
        "initramfs": {"size": len(packed), "unpacked": len(archive.getbuffer()), "sha256": file_sha256(made.initramfs)},
        "memory": made.memory,
        "device_model": {"path": str(model.path), "sha256": file_sha256(model.path)},
        "packages": dict(parts.packages),
    }
    write_atomic(folder / MANIFEST, json.dumps(facts, indent=1, sort_keys=True).encode())
    return made


def _entries(parts: Parts, model: DeviceModel, programs: Sequence[Path]) -> Iterator[Entry]:
    yield from (directory(name) for name in _FOLDERS)
    yield regular("init", FILES / "init", 0o755)
    yield from (regular(f"bin/{name}", FILES / name, 0o755) for name in _SCRIPTS)
    for name, program in sorted({**parts.programs, **{path.name: path for path in programs}}.items()):
        yield regular(f"bin/{name}", program, 0o755)
    yield regular(f"bin/{_PROGRAM}", model.path, 0o755)
    yield link("bin/sh", "busybox")
    yield link("lib64", "lib")
    for soname, library in sorted(_libraries(parts, model).items()):
        yield regular(f"lib/{soname}", library, 0o755)
    yield from (regular(f"share/qemu/{name}", file) for name, file in sorted(parts.firmware.items()))
    if model.data is not None:
        keymaps = sorted((model.data / "keymaps").glob("*"))
        yield from (regular(f"share/qemu/keymaps/{file.name}", file) for file in keymaps if file.is_file())
    yield from (regular(f"modules/{module.name}", module.content) for module in parts.modules)
    for when in dict.fromkeys(module.when for module in parts.modules):
        listed = [f"{module.name} {module.parameters}".rstrip() for module in parts.modules if module.when == when]
        yield regular(f"modules/{when}", "".join(f"{line}\n" for line in listed).encode())


def _libraries(parts: Parts, model: DeviceModel) -> Mapping[str, Path]:
    """Return all libraries by soname: the device model's, and of the C library the newer one's files.

    Programs run with a newer C library than theirs, and not the other way round.
    """
    own = dict(model.libraries)
    if model.loader is not None:
        own[_LOADER] = model.loader
    found = {**parts.libraries, **own}
    beside = own[_LIBC].parent if _LIBC in own else None
    ours = beside is None or provided_glibc(parts.libc[_LIBC]) > provided_glibc(own[_LIBC])
    for name in sorted(found.keys() & set(libc_files())):
        # Since 2.34 most of them are in libc.so.6, and what was linked then does not name them.
        file = parts.libc.get(name) if ours or beside is None else own.get(name, beside / name)
        if file is None or not file.is_file():
            raise LabError(
                f"the stub domain's C library has no {name}, which {model.path} or a program of the archive needs",
                "build the device model on a newer system",
            )
        found[name] = file
    provided = provided_glibc(found[_LIBC])
    for name, file in found.items():
        if needed_glibc(file) > provided:
            raise LabError(f"{name} needs a newer C library than {provided}", "report it")
    return found
