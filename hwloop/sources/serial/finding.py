"""Finding a serial port by its adapter instead of its name: by vendor, product, serial number, interface or place.

An adapter that is plugged in again may get another name. So a match is no path but a search, which a port makes anew
each time it is opened.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TypeVar

from hwloop import board
from hwloop.core.naming import short_name
from hwloop.errors import HardwareError
from hwloop.serial_ports import PortInfo

T = TypeVar("T")
_USB_ID = re.compile(r"(?:0[xX])?[0-9a-fA-F]{4}")


@dataclass(frozen=True)
class PortMatch(os.PathLike[str]):
    """A search for the one port that has these properties; made by `find`. It can be used wherever a path can.

    `os.fspath(match)` searches now. `serial.open(match, reopen=...)` searches each time the port is opened.
    """

    vendor: int | None = None
    product: int | None = None
    serial_number: str | None = None
    interface: int | None = None
    location: str | None = None

    def ports(self) -> list[PortInfo]:
        """Return all ports of the board in use that have these properties."""
        wanted = self._wanted()
        return [port for port in ports() if all(getattr(port, name) == value for name, value in wanted.items())]

    def __fspath__(self) -> str:
        """Return the path of the port. Raises `HardwareError` if there is none, or more than one."""
        found = self.ports()
        if len(found) == 1:
            return found[0].path
        if found:
            listed = ", ".join(map(str, found))
            differing = [name for name in ("serial_number", "interface", "location") if _differ(found, name)]
            hint = f"add {' or '.join(f'{name}=' for name in differing)}" if differing else "unplug the others"
            raise HardwareError(str(self), f"{len(found)} ports match: {listed}", hint, errno=errno.ENOTUNIQ)
        others = [port for port in ports() if port.vendor is not None]
        hint = f"there are: {', '.join(map(str, others))}" if others else "there is none on USB; is it plugged in?"
        raise HardwareError(str(self), "no such port", hint, errno=errno.ENOENT)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{name}={value:#06x}" if name in ("vendor", "product") else f"{name}={value!r}"
            for name, value in self._wanted().items()
        )
        return f"serial.find({shown})"

    def _wanted(self) -> dict[str, int | str]:
        return {name: value for name, value in vars(self).items() if value is not None}


def find(
    *,
    vendor: int | str | None = None,
    product: int | str | None = None,
    serial_number: str | None = None,
    interface: int | None = None,
    location: str | None = None,
) -> PortMatch:
    """Return a search for a port by its USB adapter, to use in place of a path. Nothing is searched yet.

        async with serial.open(serial.find(vendor=0x0403, serial_number="A50285BI"), reopen=Backoff()) as port: ...

    Parameters:
        vendor, product: the two numbers that `lsusb` prints, as numbers (0x0403) or in its digits ("0403").
        serial_number: the text of the adapter. Cheap adapters have none: use `location` to tell them apart.
        interface: the number of the USB interface, from 0, for an adapter with several ports.
        location: the place where the adapter is plugged in, such as "1-1.2"; `serial.ports()` shows it.

    Raises TypeError or ValueError for arguments that make no sense, or without any.
    """
    match = PortMatch(
        vendor=_usb_id("vendor", vendor),
        product=_usb_id("product", product),
        serial_number=_checked("serial_number", serial_number, str, "text such as 'A50285BI'"),
        interface=_checked("interface", interface, int, "a number from 0"),
        location=_checked("location", location, str, "text such as '1-1.2'"),
    )
    if match == PortMatch():
        raise TypeError("serial.find() needs at least one property, such as vendor=0x0403; serial.ports() lists them")
    return match


def ports() -> list[PortInfo]:
    """Return the serial ports of the board in use, with what identifies their adapters."""
    return board.current().serial_ports()


def _usb_id(name: str, value: int | str | None) -> int | None:
    if isinstance(value, str):
        if not _USB_ID.fullmatch(value):
            raise ValueError(f"{name} must be four hexadecimal digits, such as '0403', not {value!r}")
        return int(value, 16)
    number = _checked(name, value, int, "a number such as 0x0403")
    if number is not None and not 0 <= number <= 0xFFFF:
        raise ValueError(f"{name} must be 0 to 0xffff, not {number:#x}")
    return number


def _checked(name: str, value: T | None, kind: type[T], what: str) -> T | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
        raise TypeError(f"{name} must be {what}, not {short_name(value)}")
    return value


def _differ(found: list[PortInfo], name: str) -> bool:
    values = {getattr(port, name) for port in found}
    return len(values) == len(found) and None not in values
