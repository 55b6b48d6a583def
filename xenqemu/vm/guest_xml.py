"""What libvirt makes of a domain XML for Xen, as far as it matters to a device model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xenqemu.text import printable
from xenqemu.vm.disk import Disk
from xenqemu.vm.libvirt import parse_domain
from xenqemu.vm.model import VIDEO_MEMORY, GuestFile, GuestView, Vnc
from xenqemu.vm.vif import Vif

# libxlMakeDomCreateInfo and virDomainDefParseBootXML of libvirt: what `<os><type>` says.
_TYPES = {"hvm": "hvm", "linux": "pv", "xen": "pv", "xenpvh": "pvh"}
# libxlMakeVideo: the models that it can turn into a libxl card.
_VIDEO = {"cirrus": "cirrus", "vga": "stdvga", "qxl": "qxl", "xen": "cirrus", "none": "none"}
_UNITS = {"b": 1, "bytes": 1, "KB": 1000, "k": 1024, "KiB": 1024, "MB": 10**6, "M": 1 << 20, "MiB": 1 << 20}
_BIG_UNITS = {"GB": 10**9, "G": 1 << 30, "GiB": 1 << 30, "TB": 10**12, "T": 1 << 40, "TiB": 1 << 40}


def view_libvirt(data: bytes, path: Path) -> GuestView:
    """Return what libvirt's libxl driver makes of the domain XML `data` (of the file `path`).

    After src/libxl/libxl_conf.c. Raises `VmConfigError` for what is no domain XML.
    """
    from xml.etree import ElementTree

    domain = parse_domain(data, printable(path))
    # parse_domain refuses documents that declare entities.
    root = ElementTree.fromstring(data)  # noqa: S314
    kind = _TYPES.get(domain.os_type, "pv")
    hvm = kind == "hvm"
    refusals = []
    if domain.kind != "xen":
        refusals.append(f"it is a domain of type '{domain.kind}', and not of Xen")
    elif domain.os_type not in _TYPES:
        refusals.append(f"<os><type>{domain.os_type}</type> is none of {', '.join(_TYPES)}")
    disks = tuple(_disk(element) for element in root.iterfind("devices/disk"))
    video = root.find("devices/video/model")
    vga = _VIDEO.get(_attribute(video, "type") or "cirrus", "") if hvm else ""
    graphics = {element.get("type", ""): element for element in root.iterfind("devices/graphics")}
    named = {key: _text(root, f"os/{key}") for key in ("kernel", "initrd", "loader")}
    memory = _mebibytes(root.find("memory"))
    return GuestView(
        path=path,
        format="libvirt",
        name=domain.name,
        type=kind,
        type_reason=f"<os><type>{domain.os_type}</type>",
        memory=_mebibytes(root.find("currentMemory")) or memory,
        max_memory=memory,
        vcpus=_number(_attribute(root.find("vcpu"), "current") or _text(root, "vcpu"), 1),
        max_vcpus=_number(_text(root, "vcpu"), 1),
        device_model_override=domain.emulator or "",
        device_model_version="qemu-xen",
        disks=disks,
        vifs=tuple(_vif(element, hvm=hvm) for element in root.iterfind("devices/interface")),
        files=(
            *(GuestFile(key, Path(text)) for key, text in named.items() if text.startswith("/")),
            *(GuestFile("disk", Path(disk.target)) for disk in disks if disk.target.startswith("/")),
        ),
        kernel=named["kernel"],
        ramdisk=named["initrd"],
        cmdline=_text(root, "os/cmdline"),
        firmware=named["loader"] or ("seabios" if hvm else ""),
        vga=vga,
        video_memory=_number(_attribute(video, "vram")) // 1024 or VIDEO_MEMORY.get(vga, 0),
        vnc=_vnc(graphics.get("vnc")),
        sdl="sdl" in graphics,
        spice=hvm and "spice" in graphics,
        soundhw=_attribute(root.find("devices/sound"), "model") if hvm else "",
        usbdevices=tuple(_usb_inputs(root)) if hvm else (),
        pci=tuple(_pci_address(element) for element in root.iterfind("devices/hostdev[@type='pci']/source/address")),
        hdtype="ide" if hvm else "",
        boot="".join(_boot(element) for element in root.iterfind("os/boot")),
        # libxl's own default is on; libvirt passes on whether the feature is listed.
        acpi=not hvm or root.find("features/acpi") is not None,
        serial=tuple(_attribute(element, "type") for element in root.iterfind("devices/serial")) if hvm else (),
        refusals=tuple(refusals),
    )


def _text(root: Any, place: str) -> str:
    return (root.findtext(place) or "").strip()


def _attribute(element: Any, name: str) -> str:
    return "" if element is None else (element.get(name) or "")


def _number(text: str, otherwise: int = 0) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return otherwise


def _mebibytes(element: Any) -> int:
    if element is None:
        return 0
    factor = {**_UNITS, **_BIG_UNITS}.get(element.get("unit", "KiB"), 1024)
    return _number((element.text or "").strip()) * factor // (1 << 20)


def _disk(element: Any) -> Disk:
    source, driver = element.find("source"), element.find("driver")
    target = next((_attribute(source, name) for name in ("file", "dev", "name") if _attribute(source, name)), "")
    cdrom = element.get("device") == "cdrom"
    backend = {"qemu": "qdisk", "phy": "phy", "tap": "tap", "file": ""}.get(_attribute(driver, "name"), "")
    return Disk(
        target=target,
        format="empty" if cdrom and not target else _attribute(driver, "type") or "raw",
        vdev=_attribute(element.find("target"), "dev"),
        writable=not cdrom and element.find("readonly") is None,
        cdrom=cdrom,
        backendtype=backend,
        script=_attribute(element.find("script"), "path"),
        backend=_attribute(element.find("backenddomain"), "name"),
        spec=target,
    )


def _vif(element: Any, *, hvm: bool) -> Vif:
    model = _attribute(element.find("model"), "type")
    return Vif(
        # libxlMakeNic: the netfront model asks for an interface that is not emulated.
        type="vif" if not hvm or model == "netfront" else "ioemu",
        model=model if model and model != "netfront" else "rtl8139",
        mac=_attribute(element.find("mac"), "address"),
        bridge=_attribute(element.find("source"), "bridge") or "xenbr0",
        script=_attribute(element.find("script"), "path") or "vif-bridge",
        ip=_attribute(element.find("ip"), "address"),
        ifname=_attribute(element.find("target"), "dev"),
        backend=_attribute(element.find("backenddomain"), "name"),
    )


def _vnc(element: Any) -> Vnc:
    if element is None:
        return Vnc()
    port = _attribute(element, "port")
    return Vnc(
        enabled=True,
        listen=_attribute(element, "listen") or "127.0.0.1",
        display=int(port) - 5900 if port.isdigit() and int(port) >= 5900 else 0,
        password=bool(_attribute(element, "passwd")),
    )


def _usb_inputs(root: Any) -> list[str]:
    return [
        _attribute(element, "type")
        for element in root.iterfind("devices/input")
        if element.get("bus") == "usb" and element.get("type") in ("tablet", "mouse", "keyboard")
    ]


def _boot(element: Any) -> str:
    return {"fd": "a", "hd": "c", "cdrom": "d", "network": "n"}.get(_attribute(element, "dev"), "")


def _pci_address(element: Any) -> str:
    numbers = [_number(_attribute(element, name)) for name in ("domain", "bus", "slot", "function")]
    return f"{numbers[0]:04x}:{numbers[1]:02x}:{numbers[2]:02x}.{numbers[3]:x}"
