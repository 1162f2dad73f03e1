"""A simulated serial port as a device node: opening it opens the pseudo-terminal of the port."""

from __future__ import annotations

import errno
import os

from firmware_sim.nodes import Handle, Node, os_error
from firmware_sim.uart import Port
from hwloop.errors import HardwareError


class PortNode(Node):
    """The node of a port, such as /dev/ttyAMA0."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def open(self, flags: int) -> Handle:
        try:
            path = self.port.path
        except HardwareError as error:
            raise os_error(error.errno or errno.ENXIO) from error
        return _PortHandle(os.open(path, flags))


class _PortHandle(Handle):
    native = True

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def descriptor(self) -> int:
        return self._fd
