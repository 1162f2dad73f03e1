"""A simulated serial port as a device node: opening it opens the pseudo-terminal of the port.

The kernel makes the program's reads and writes. Parity, data bits and modem lines, which a pseudo-terminal lacks, are
answered by the port's `Terminal`, for termios and for the ioctls behind it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Any

from firmware_sim.libraries.serial import DRIVER_REQUESTS, Terminal
from firmware_sim.nodes import Handle, Node, TerminalHandle, os_error
from firmware_sim.uart import Port
from hwloop.errors import HardwareError

_GET = (0x5401, 0x802C542A)  # TCGETS, TCGETS2
_SET = (0x5402, 0x5403, 0x5404, 0x402C542B, 0x402C542C, 0x402C542D)  # TCSETS and TCSETS2, each with W and F
_FLAGS = struct.Struct("I")
_FLAGS_AT = 8  # of c_cflag in struct termios and termios2
_ioctl = fcntl.ioctl  # not the one that leads here


class PortNode(Node):
    """The node of a port, such as /dev/ttyAMA0."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def open(self, flags: int) -> Handle:
        try:
            path = self.port.path
        except HardwareError as error:
            raise os_error(error.errno or errno.ENXIO) from error
        return PortHandle(os.open(path, flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)), self.port.terminal)


class PortHandle(TerminalHandle):
    """One open file of a port."""

    def __init__(self, fd: int, terminal: Terminal) -> None:
        self._fd = fd
        self._terminal = terminal
        self._device = terminal.device
        terminal.opened()

    def descriptor(self) -> int:
        return self._fd

    def get_attributes(self) -> list[Any]:
        return self._terminal.get_attributes(self._fd)

    def set_attributes(self, when: int, attributes: list[Any]) -> None:
        self._terminal.set_attributes(self._fd, when, attributes)

    def ioctl(self, request: int, argument: Any) -> int:
        if self._device != self._terminal.device:
            raise os_error(errno.EIO)  # unplugged
        if request in DRIVER_REQUESTS and not isinstance(argument, int):
            answer = self._terminal.answer(request, bytes(argument))
            count = min(len(answer), len(argument))
            argument[:count] = answer[:count]
            return 0
        if request in _GET:
            result: int = _ioctl(self._fd, request, argument)
            (flags,) = _FLAGS.unpack_from(argument, _FLAGS_AT)
            _FLAGS.pack_into(argument, _FLAGS_AT, self._terminal.read_flags(flags))
            return result
        if request in _SET:
            copy = bytearray(argument)
            (flags,) = _FLAGS.unpack_from(copy, _FLAGS_AT)
            _FLAGS.pack_into(copy, _FLAGS_AT, self._terminal.write_flags(flags))
            return int(_ioctl(self._fd, request, copy))
        return int(_ioctl(self._fd, request, argument))

    def close(self) -> None:
        if self._device == self._terminal.device:
            self._terminal.released()
