"""The files of a board's serial ports: their nodes, udev's links to them, and what sysfs says about them.

    [[port]]
    name = "/dev/ttyUSB0"
    serial_number = "A50285BI"
    links = ["/dev/gps"]

pyserial and others list the ports of a computer by these files (`python -m serial.tools.list_ports`). A port of a USB
adapter has a vendor, a product and a serial number, and links below /dev/serial/by-id and by-path. /dev/serial0 and
/dev/serial1 are links to the ports on the header, as on Raspberry Pi OS: the mini UART (ttyS0) first, then the PL011.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from firmware_sim.errors import WiringError
from firmware_sim.fields import check_fields
from firmware_sim.limits import within
from firmware_sim.nodes import Attribute, Link, Node, Nodes
from firmware_sim.port_node import PortNode
from firmware_sim.uart import Port
from hwloop.serial_ports import PortInfo

_HUB = "/sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1"
_HUB_LINK = "platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1"
_SOC = "/sys/devices/platform/soc"
_DRIVERS = (
    "/sys/bus/amba/drivers/uart-pl011",
    "/sys/bus/usb-serial/drivers/ftdi_sio",
    "/sys/bus/usb/drivers/cdc_acm",
)
_NODE = re.compile(r"(tty[A-Za-z]+|serial|rfcomm)\d+")
"""The name of a device node below /dev."""
_ON_HEADER = {"/dev/ttyS0": "fe215040.serial", "/dev/ttyAMA0": "fe201000.serial"}


@dataclasses.dataclass
class PortSettings:
    """A port in a board file.

    Parameters:
        name: the name that programs open: "/dev/ttyUSB0".
        vid, pid: the identifiers of its USB adapter; by default those of an FT232R for a ttyUSB, and of a Raspberry Pi
            Pico for a ttyACM.
        serial_number, manufacturer, product: the texts of the adapter.
        links: further names, as udev rules make them: "/dev/gps".
    """

    name: str
    vid: int | None = within(0, 0xFFFF, "as a USB identifier", default=None)
    pid: int | None = within(0, 0xFFFF, "as a USB identifier", default=None)
    serial_number: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    links: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        for link in self.links:
            if not re.fullmatch(r"/dev/[^/\0]+(/[^/\0]+)*", link) or posixpath.normpath(link) != link:
                raise ValueError(f"links must be names below /dev, such as '/dev/gps', not {link!r}")


class _Adapter(NamedTuple):
    vid: int
    pid: int
    manufacturer: str
    product: str
    serial_number: str = ""


_ADAPTERS = {
    "/dev/ttyUSB": _Adapter(0x0403, 0x6001, "FTDI", "FT232R USB UART"),
    "/dev/ttyACM": _Adapter(0x2E8A, 0x000A, "Raspberry Pi", "Pico"),
}


class PortFiles:
    """The files of the ports of a board.

    Parameters:
        nodes: where they are.
        settings: the settings of ports in the board file, by their names.
    """

    def __init__(self, nodes: Nodes, settings: Mapping[str, PortSettings]) -> None:
        self._nodes = nodes
        self._settings = settings
        self._places = dict[Port, int]()
        self._files: dict[str, list[str]] = {}
        self._found: dict[str, PortInfo] = {}
        self._header: dict[str, Port] = {}
        for driver in _DRIVERS:
            nodes.add(f"{driver}/uevent", Attribute(store=lambda text: None))

    def add(self, port: Port) -> None:
        """Add the files of a port. Raises `WiringError` if another file has one of the names."""
        settings = self._settings.get(port.name) or PortSettings(port.name)
        files: dict[str, Node] = {port.name: PortNode(port)}
        files.update({link: Link(port.name) for link in settings.links})
        kind = next((start for start in _ADAPTERS if port.name.startswith(start)), None)
        self._found[port.name] = PortInfo(port.name)
        if kind is not None:
            place = self._places.setdefault(port, len(self._places) + 1)  # it keeps it under another name
            adapter = _described(settings, _ADAPTERS[kind], place)
            files.update(_usb_files(port.name, adapter, place))
            self._found[port.name] = PortInfo(
                port.name,
                vendor=adapter.vid,
                product=adapter.pid,
                serial_number=adapter.serial_number or None,
                interface=0,
                location=f"1-1.{place}",
                description=f"{adapter.manufacturer} {adapter.product}".strip() or None,
            )
        elif port.name in _ON_HEADER:
            files.update(_soc_files(port.name))
            self._header[port.name] = port
        for path, node in files.items():
            node.there = lambda: port.plugged
            self._nodes.add(path, node)
        self._files[port.name] = list(files)
        self._link_header()

    def describe(self, ports: Iterable[Port]) -> list[PortInfo]:
        """Return the ports with what identifies their adapters, in order of their names."""
        return [self._found[name] for name in sorted(port.name for port in ports)]

    def rename(self, port: Port, old: str) -> None:
        """Give the files of a port that was called `old` its new name."""
        del self._found[old]
        for path in self._files.pop(old):
            self._nodes.remove(path)
        self._header.pop(old, None)
        settings = self._settings.get(old)
        if settings is not None and port.name not in self._settings:
            self._settings = {**self._settings, port.name: dataclasses.replace(settings, name=port.name)}
        self.add(port)

    def _link_header(self) -> None:
        """Make /dev/serial0 and /dev/serial1 the links that they are with these ports on the header."""
        taken = {link for settings in self._settings.values() for link in settings.links} | set(self._files)
        names = [name for name in _ON_HEADER if name in self._header]
        for place in range(2):
            path = f"/dev/serial{place}"
            if path in taken:
                continue
            if isinstance(self._nodes.get(path), Link):
                self._nodes.remove(path)
            if place < len(names):
                self._nodes.add(path, Link(posixpath.basename(names[place])))


def _soc_files(name: str) -> dict[str, Node]:
    """Return sysfs's files of a port on the header."""
    short, unit = posixpath.basename(name), _ON_HEADER[name]
    device = f"{_SOC}/{unit}"
    return {
        f"/sys/class/tty/{short}": Link(f"{device}/tty/{short}"),
        f"{device}/tty/{short}/device": Link(f"../../../{unit}"),
        f"{device}/tty/{short}/type": _text("32"),  # PORT_AMBA
        f"{device}/driver": Link(_DRIVERS[0]),
        f"{device}/subsystem": Link("/sys/bus/amba"),
    }


def _described(settings: PortSettings, adapter: _Adapter, place: int) -> _Adapter:
    """Return an adapter with what the settings say about it."""
    return _Adapter(
        adapter.vid if settings.vid is None else settings.vid,
        adapter.pid if settings.pid is None else settings.pid,
        adapter.manufacturer if settings.manufacturer is None else settings.manufacturer,
        adapter.product if settings.product is None else settings.product,
        f"SIM{place:05}" if settings.serial_number is None else settings.serial_number,
    )


def _usb_files(name: str, adapter: _Adapter, place: int) -> dict[str, Node]:
    """Return sysfs's files of the port of a USB adapter, and udev's links to it."""
    short = posixpath.basename(name)
    usb = f"{_HUB}/1-1.{place}"
    interface = f"{usb}/1-1.{place}:1.0"
    has_own_driver = short.startswith("ttyUSB")
    device = f"{interface}/{short}" if has_own_driver else interface
    texts = {"manufacturer": adapter.manufacturer, "product": adapter.product, "serial": adapter.serial_number}
    ids = {"idVendor": f"{adapter.vid:04x}", "idProduct": f"{adapter.pid:04x}"}
    values = {**ids, "bcdDevice": "0600", "bNumInterfaces": " 1", **texts}
    files: dict[str, Node] = {f"{usb}/{key}": _text(value) for key, value in values.items()}
    files[f"{usb}/subsystem"] = Link("/sys/bus/usb")
    files[f"{interface}/bInterfaceNumber"] = _text("00")
    files[f"{interface}/subsystem"] = Link("/sys/bus/usb")
    files[f"{device}/tty/{short}/device"] = Link(device)
    files[f"/sys/class/tty/{short}"] = Link(f"{device}/tty/{short}")
    files[f"{device}/driver"] = Link(_DRIVERS[1 if has_own_driver else 2])
    if has_own_driver:
        files[f"{device}/port_number"] = _text("0")
        files[f"{device}/subsystem"] = Link("/sys/bus/usb-serial")
    end = "if00-port0" if has_own_driver else "if00"
    identity = re.sub(r"[^A-Za-z0-9#+.:=@_-]", "_", "_".join(texts.values()))
    files[f"/dev/serial/by-id/usb-{identity}-{end}"] = Link(f"../../{short}")
    path_end = ":1.0-port0" if has_own_driver else ":1.0"
    files[f"/dev/serial/by-path/{_HUB_LINK}.{place}{path_end}"] = Link(f"../../{short}")
    return files


def _text(value: str) -> Attribute:
    return Attribute(lambda: value)


def check_port_name(name: str) -> None:
    """Raise `WiringError` unless programs may open a port by this name.

    On a simulated board that may be any name, such as "gps", but for a device node without its directory.
    """
    if not name.strip() or "\0" in name or _NODE.fullmatch(name):
        instead = f"'/dev/{name}'" if _NODE.fullmatch(name) else "such as '/dev/ttyAMA0'"
        raise WiringError(f"port must be the name that programs open, {instead}, not {name!r}")


def port_settings(entries: object, where: str) -> dict[str, PortSettings]:
    """Check the [[port]] tables of a board file, and return them by their names. Raises `WiringError`."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise WiringError(f"{where}: ports are written as [[port]] tables")
    found = dict[str, PortSettings]()
    for number, entry in enumerate(entries, 1):
        try:
            check_fields(PortSettings, entry)
            settings = PortSettings(**entry)
        except ValueError as error:
            raise WiringError(f"{where}: port {number}: {error}") from error
        if settings.name in found:
            raise WiringError(f"{where}: port {number}: there is a port {settings.name} already")
        found[settings.name] = settings
    return found
