"""Serial ports: frames from a device, and bytes to it.

    async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()) as gps:
        async for frame in gps:
            print(frame.data.decode("ascii"))

`open_serial_connection` and `create_serial_connection` have pyserial-asyncio's names and arguments, for programs that
are written for asyncio's streams or protocols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwloop.core.lazy import lazy_names
from hwloop.serial_ports import PortInfo
from hwloop.sources.serial.finding import PortMatch, find, ports
from hwloop.sources.serial.framing import Delimited, Fixed, Frame, Framer, IdleGap, Lines, Raw, nmea_checksum
from hwloop.sources.serial.modem_lines import ModemChange, ModemLevels, ModemLines
from hwloop.sources.serial.port import SerialPort, open

__all__ = [
    "Delimited",
    "Fixed",
    "Frame",
    "Framer",
    "IdleGap",
    "Lines",
    "ModemChange",
    "ModemLevels",
    "ModemLines",
    "PortInfo",
    "PortMatch",
    "RS485Settings",
    "Raw",
    "SerialPort",
    "SerialTransport",
    "connection_for_serial",
    "create_serial_connection",
    "find",
    "nmea_checksum",
    "open",
    "open_serial_connection",
    "ports",
]

if TYPE_CHECKING:
    from serial.rs485 import RS485Settings

    from hwloop.sources.serial.streams import (
        SerialTransport,
        connection_for_serial,
        create_serial_connection,
        open_serial_connection,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        __all__,
        {
            "hwloop.sources.serial.streams": (
                "SerialTransport",
                "connection_for_serial",
                "create_serial_connection",
                "open_serial_connection",
            ),
            "serial.rs485": ("RS485Settings",),
        },
    )
