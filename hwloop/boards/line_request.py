"""A line that the kernel has granted, driven by ioctls on its descriptor alone.

The libraries drive only the lines that they have requested themselves. A descriptor that came from another process, by
which a line outlives its program, needs the kernel's own calls: those of <linux/gpio.h>, version 2, each on a struct
that is packed here. The kernel frees the line when no process has the descriptor open any more.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol

_GET_LINE_INFO = 0xC100B405
_GET_LINE = 0xC250B407
_SET_CONFIG = 0xC110B40D
_GET_VALUES = 0xC010B40E
_SET_VALUES = 0xC010B40F

_INFO = struct.Struct("=32s 32s I I Q 176x")
"""struct gpio_v2_line_info: name, consumer, offset, number of attributes, flags."""
_CONFIG = struct.Struct("=Q I 20x I 4x Q Q 216x")
"""struct gpio_v2_line_config: flags, number of attributes, and the first attribute with its kind, value and mask."""
_REQUEST = struct.Struct("=I 252x 32s 272s I I 20x i")
"""struct gpio_v2_line_request: offset, consumer, config, number of lines, size of the event buffer, descriptor."""
_VALUES = struct.Struct("=Q Q")
"""struct gpio_v2_line_values: bits, mask."""

ACTIVE_LOW, OUTPUT, OPEN_DRAIN, OPEN_SOURCE = 1 << 1, 1 << 3, 1 << 6, 1 << 7
"""Flags of a line (enum gpio_v2_line_flag)."""
_OUTPUT_VALUES = 2
"""The kind of an attribute with the levels at which outputs begin."""
_CONSUMER_SIZE = 32


class Calls(Protocol):
    """The system calls, for which a simulated board has its own."""

    def open(self, path: str) -> int:
        """Open a chip's device node. Raises OSError."""

    def ioctl(self, fd: int, request: int, argument: bytearray) -> object:
        """Make an ioctl, which may change `argument`. Raises OSError."""

    def close(self, fd: int) -> None:
        """Close a descriptor. Raises OSError."""


class SystemCalls:
    """The calls of this machine's kernel."""

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def ioctl(self, fd: int, request: int, argument: bytearray) -> object:
        return fcntl.ioctl(fd, request, argument)

    def close(self, fd: int) -> None:
        os.close(fd)


SYSTEM: Calls = SystemCalls()


class LineState(NamedTuple):
    """The kernel's description of a line."""

    flags: int
    consumer: str


class LineRequest:
    """One line that the kernel has granted. Levels are logical, by the flags of the request.

    Parameters:
        fd: the descriptor of the request, which has no other line. It belongs to this object.
        calls: the system calls.
    """

    def __init__(self, fd: int, calls: Calls = SYSTEM) -> None:
        self.fd: int = fd
        self._calls = calls

    def get(self) -> int:
        """Return the level of the line. Raises OSError."""
        values = bytearray(_VALUES.pack(0, 1))
        self._calls.ioctl(self.fd, _GET_VALUES, values)
        return int(_VALUES.unpack(values)[0] & 1)

    def set(self, value: int) -> None:
        """Drive the line, which is an output, to a level. Raises OSError."""
        self._calls.ioctl(self.fd, _SET_VALUES, bytearray(_VALUES.pack(value, 1)))

    def configure(self, flags: int, value: int) -> None:
        """Change the flags of the line, and drive it to `value` by the new ones, in one step. Raises OSError."""
        self._calls.ioctl(self.fd, _SET_CONFIG, bytearray(_config(flags, value)))

    def close(self) -> None:
        """Close the descriptor. Harmless when repeated."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._calls.close(fd)


def request_line(
    node: str, number: int, consumer: str = "hwloop", flags: int = 0, value: int = 0, calls: Calls = SYSTEM
) -> LineRequest:
    """Request line `number` of the chip at `node`, an output at `value` if the flags say so. Raises OSError.

    Without a direction in the flags the kernel grants the line as it is, an output that goes on driving included.
    """
    name = consumer.encode()[: _CONSUMER_SIZE - 1].decode(errors="ignore").encode()
    request = bytearray(_REQUEST.pack(number, name, _config(flags, value), 1, 0, 0))
    _on_chip(node, calls, lambda chip: calls.ioctl(chip, _GET_LINE, request))
    return LineRequest(_REQUEST.unpack(request)[-1], calls)


def line_state(node: str, number: int, calls: Calls = SYSTEM) -> LineState:
    """Return the kernel's description of line `number` of the chip at `node`. Raises OSError."""
    info = bytearray(_INFO.pack(b"", b"", number, 0, 0))
    _on_chip(node, calls, lambda chip: calls.ioctl(chip, _GET_LINE_INFO, info))
    _, consumer, _, _, flags = _INFO.unpack(info)
    return LineState(flags, consumer.partition(b"\0")[0].decode(errors="replace"))


def _on_chip(node: str, calls: Calls, call: Callable[[int], object]) -> None:
    chip = calls.open(node)
    try:
        call(chip)
    finally:
        calls.close(chip)


def _config(flags: int, value: int) -> bytes:
    if not flags & OUTPUT:
        return _CONFIG.pack(flags, 0, 0, 0, 0)
    return _CONFIG.pack(flags, 1, _OUTPUT_VALUES, value, 1)
