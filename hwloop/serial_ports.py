"""The serial ports of a board with the identity of their adapters: the vendor, the product and the serial number.

The kernel names the ports of USB adapters by the order in which they were plugged in: an adapter that comes back may be
/dev/ttyUSB1 instead of /dev/ttyUSB0. sysfs has its identity. (pyserial's `list_ports` reads the same files, but raises
TypeError when an adapter is unplugged while it does, which is when a program looks for ports.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class PortInfo:
    """A serial port. All but `path` are None for a port that is not on USB, or where the adapter lacks them."""

    path: str
    """The device node, such as "/dev/ttyUSB0"."""
    vendor: int | None = None
    """The USB vendor, such as 0x0403 (FTDI); `lsusb` prints it in front of the colon."""
    product: int | None = None
    """The USB product, such as 0x6001; `lsusb` prints it behind the colon."""
    serial_number: str | None = None
    """The serial number of the adapter. Cheap ones (CH340) have none."""
    interface: int | None = None
    """The number of the USB interface, from 0: tells the ports of one adapter apart."""
    location: str | None = None
    """The place where the adapter is plugged in, such as "1-1.2": bus 1, port 1 of the root hub, port 2 of that hub."""
    description: str | None = None
    """The maker and the name of the adapter, as it reports them."""

    def __str__(self) -> str:
        if self.vendor is None or self.product is None:
            return self.path
        texts = [f"{self.vendor:04x}:{self.product:04x}", self.serial_number or "no serial number"]
        if self.interface:
            texts.append(f"interface {self.interface}")
        return f"{self.path} ({', '.join([*texts, f'at {self.location}'])})"


def list_ports(sys: str = "/sys", dev: str = "/dev") -> list[PortInfo]:
    """Return the serial ports of this machine, in order of their names. One that vanishes meanwhile is left out."""
    tty = os.path.join(sys, "class/tty")
    try:
        names = sorted(os.listdir(tty), key=lambda name: (len(name), name))
    except OSError:
        return []
    ports = []
    for name in names:
        path = os.path.join(dev, name)
        # Consoles and pseudo-terminals have no device. The type of an absent port of a PC is 0 (PORT_UNKNOWN).
        if not os.path.exists(os.path.join(tty, name, "device")) or _text(tty, name, "type") == "0":
            continue
        found = _describe(path, os.path.realpath(os.path.join(tty, name, "device")))
        if os.path.exists(path):
            ports.append(found)
    return ports


def _describe(path: str, device: str) -> PortInfo:
    """Return the port at `path` with the identity of its USB adapter, if its directory `device` lies in one."""
    interface = device
    while not os.path.exists(os.path.join(interface, "bInterfaceNumber")):
        interface, name = os.path.split(interface)
        if not name:
            return PortInfo(path)
    adapter = os.path.dirname(interface)
    texts = [text for text in (_text(adapter, "manufacturer"), _text(adapter, "product")) if text]
    return PortInfo(
        path,
        vendor=_hexadecimal(adapter, "idVendor"),
        product=_hexadecimal(adapter, "idProduct"),
        serial_number=_text(adapter, "serial") or None,
        interface=_hexadecimal(interface, "bInterfaceNumber"),
        location=os.path.basename(adapter),
        description=" ".join(texts) or None,
    )


def _hexadecimal(*parts: str) -> int | None:
    try:
        return int(_text(*parts), 16)
    except ValueError:
        return None


def _text(*parts: str) -> str:
    """Return the text of an attribute; "" where there is none."""
    try:
        with open(os.path.join(*parts), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
