"""The kernel's spidev: /dev/spidevB.C of a simulated bus, with its ioctls and plain reads and writes.

Every library reaches a bus through it: spidev, python-periphery, Adafruit_PureIO and with that Blinka, and code that
calls `fcntl.ioctl` itself. The structures of uapi/linux/spi/spidev.h point at memory of the program, so this module
reads and writes that memory.

The settings are those of the device, not of the open file: they stay when a program closes it (drivers/spi/spidev.c).
The controller is that of the Pi 0 to 4, which sends the highest bit of 8-bit words first and has no loop-back
(drivers/spi/spi-bcm2835.c).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from typing import Any

from firmware_sim.nodes import Handle, Node, os_error
from firmware_sim.spi import FASTEST, Mode, Segment, SpiBus

_MAJOR = 153  # of spidev's device numbers
BUFFER = 4096
"""Bytes in one message, at most: the parameter bufsiz of the kernel's module."""
MODES = Mode.CPHA | Mode.CPOL | Mode.CS_HIGH | Mode.THREE_WIRE | Mode.NO_CS
"""The bits of a mode that the controller has."""
BITS = 8
"""The only number of bits of a word that the controller has."""

_ALL_MODES = 0xFF


class _Request:
    """The ioctls, as uapi/linux/spi/spidev.h numbers them, without direction and size."""

    MESSAGE = 0
    MODE = 1
    LSB_FIRST = 2
    BITS = 3
    SPEED = 4
    MODE32 = 5


_SPIDEV = 0x6B  # the type of its requests
_WRITES = 1 << 30
_WIDTHS = {_Request.MODE: 1, _Request.LSB_FIRST: 1, _Request.BITS: 1, _Request.SPEED: 4, _Request.MODE32: 4}


class _Transfer(ctypes.Structure):
    """struct spi_ioc_transfer."""

    _fields_ = (
        ("tx_buf", ctypes.c_uint64),
        ("rx_buf", ctypes.c_uint64),
        ("len", ctypes.c_uint32),
        ("speed_hz", ctypes.c_uint32),
        ("delay_usecs", ctypes.c_uint16),
        ("bits_per_word", ctypes.c_uint8),
        ("cs_change", ctypes.c_uint8),
        ("tx_nbits", ctypes.c_uint8),
        ("rx_nbits", ctypes.c_uint8),
        ("word_delay_usecs", ctypes.c_uint8),
        ("pad", ctypes.c_uint8),
    )


class SpiNode(Node):
    """/dev/spidevB.C.

    Attributes:
        settings: the mode, with its bits as in `firmware_sim.spi.Mode`.
        speed: the clock of a transfer that asks for none (Hz).
    """

    def __init__(self, bus: SpiBus, select: int) -> None:
        self.bus: SpiBus = bus
        self.select: int = select
        self.settings: int = 0
        self.speed: int = FASTEST
        self.device: int = os.makedev(_MAJOR, bus.number * 16 + select)

    def open(self, flags: int) -> SpiHandle:
        return SpiHandle(self)

    def set_mode(self, settings: int) -> None:
        """Set the mode. Raises OSError for one that the controller does not have."""
        if settings & ~MODES:
            raise os_error(errno.EINVAL)
        self.settings = settings

    def set_bits(self, bits: int) -> None:
        """Set the bits of a word. Raises OSError for a number that the controller does not have."""
        if bits not in (0, BITS):
            raise os_error(errno.EINVAL)

    def set_speed(self, speed: int) -> None:
        """Set the clock (Hz). Raises OSError for 0."""
        if speed == 0:
            raise os_error(errno.EINVAL)
        self.speed = speed

    def message(self, segments: Sequence[Segment]) -> list[bytes]:
        """Make one message; return what was read in each segment. Raises OSError."""
        if sum(len(segment.sent) for segment in segments) > BUFFER:
            raise os_error(errno.EMSGSIZE)
        for segment in segments:
            self.set_bits(segment.bits)
        return self.bus.transfer(self.select, segments, self.settings)

    def exchange(self, sent: bytes, speed: int = 0, delay: float = 0.0, bits: int = 0) -> bytes:
        """Make a message of one segment; `speed` (Hz) and `bits` 0 for the ones that are set. Raises OSError."""
        return self.message([Segment(sent, speed or self.speed, bits or BITS, delay)])[0]


class SpiHandle(Handle):
    """An open /dev/spidevB.C."""

    def __init__(self, node: SpiNode) -> None:
        self.node = node

    def read(self, count: int) -> bytes:
        return self.node.exchange(bytes(count))

    def write(self, data: bytes) -> int:
        self.node.exchange(data)
        return len(data)

    def ioctl(self, request: int, argument: Any) -> int:
        request &= 0xFFFFFFFF  # Python before 3.12 may pass a negative number
        number, size = request & 0xFF, request >> 16 & 0x3FFF
        if request >> 8 & 0xFF != _SPIDEV:
            raise os_error(errno.ENOTTY)
        if number == _Request.MESSAGE:
            return self._message(argument, size)
        if _WIDTHS.get(number) != size:
            raise os_error(errno.ENOTTY)
        if request & _WRITES:
            self._set(number, int.from_bytes(bytes(argument[:size]), "little"))
        else:
            argument[:size] = self._get(number).to_bytes(size, "little")
        return 0

    def _get(self, number: int) -> int:
        node = self.node
        if number == _Request.LSB_FIRST:
            return int(bool(node.settings & Mode.LSB_FIRST))
        return {_Request.BITS: BITS, _Request.SPEED: node.speed}.get(number, node.settings)

    def _set(self, number: int, value: int) -> None:
        node = self.node
        if number == _Request.LSB_FIRST:
            node.set_mode(node.settings | Mode.LSB_FIRST if value else node.settings & ~Mode.LSB_FIRST)
        elif number == _Request.BITS:
            node.set_bits(value)
        elif number == _Request.SPEED:
            node.set_speed(value)
        else:
            node.set_mode(value)

    def _message(self, argument: Any, size: int) -> int:
        """Make the message of SPI_IOC_MESSAGE; return its length."""
        if size % ctypes.sizeof(_Transfer):
            raise os_error(errno.EINVAL)
        raw = (_Transfer * (size // ctypes.sizeof(_Transfer))).from_buffer(argument)
        segments = [
            Segment(
                ctypes.string_at(each.tx_buf, each.len) if each.tx_buf else bytes(each.len),
                each.speed_hz or self.node.speed,
                each.bits_per_word or BITS,
                each.delay_usecs / 1e6,
                bool(each.cs_change),
            )
            for each in raw
        ]
        for each, answer in zip(raw, self.node.message(segments), strict=True):
            if each.rx_buf:
                ctypes.memmove(each.rx_buf, answer, len(answer))
        return sum(each.len for each in raw)
