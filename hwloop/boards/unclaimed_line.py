"""The level of a line that nobody has claimed, read without changing the line.

lgpio has no such call: it claims a line as an input to read it, and a relay that the last program left on would switch
off for a moment. The kernel can grant a line as it is, neither input nor output (Documentation/userspace-api/gpio,
gpio-v2-get-line-ioctl: no direction flag), and its value can be read then.
"""

from __future__ import annotations

import fcntl
import os
import struct

_GET_LINE = 0xC250B407  # GPIO_V2_GET_LINE_IOCTL of <linux/gpio.h>, over struct gpio_v2_line_request
_GET_VALUES = 0xC010B40E  # GPIO_V2_LINE_GET_VALUES_IOCTL, over struct gpio_v2_line_values
_REQUEST = struct.Struct("=64I 32s 272x II 20x i")  # offsets, consumer, no configuration, lines, buffer, descriptor
_VALUES = struct.Struct("=QQ")  # bits, mask


def read_unclaimed(node: str, number: int) -> int:
    """Return the electrical level of line `number` of the chip at `node`. Raises OSError, EBUSY if it is in use."""
    chip = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        request = bytearray(_REQUEST.pack(number, *[0] * 63, b"hwloop", 1, 0, 0))
        fcntl.ioctl(chip, _GET_LINE, request)
    finally:
        os.close(chip)
    line = _REQUEST.unpack(request)[-1]
    try:
        values = bytearray(_VALUES.pack(0, 1))
        fcntl.ioctl(line, _GET_VALUES, values)
    finally:
        os.close(line)
    return int(_VALUES.unpack(values)[0] & 1)
