"""The level of a line that nobody has claimed, read without changing the line.

lgpio has no such call: it claims a line as an input to read it, and a relay that the last program left on would switch
off for a moment. The kernel can grant a line as it is, neither input nor output (Documentation/userspace-api/gpio,
gpio-v2-get-line-ioctl: no direction flag), and its value can be read then.
"""

from __future__ import annotations

from hwloop.boards.line_request import request_line


def read_unclaimed(node: str, number: int) -> int:
    """Return the electrical level of line `number` of the chip at `node`. Raises OSError, EBUSY if it is in use."""
    line = request_line(node, number)
    try:
        return line.get()
    finally:
        line.close()
