"""lgpio's serial functions, on the terminals of the simulated ports: raw bytes, and no call that waits for them."""

from __future__ import annotations

import array
import fcntl
import os
import select
import termios
import tty as terminals
from collections.abc import Callable
from typing import NamedTuple

from firmware_sim.libraries.lgpio.calls import Count, Data, called, to_bytes
from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.constants import Refused
from firmware_sim.libraries.lgpio.handles import Process

_SPEEDS = {
    speed: getattr(termios, f"B{speed}")
    for speed in (
        *(50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800),
        *(9600, 19200, 38400, 57600, 115200, 230400),
    )
}
_RETRY = 0.002
"""Seconds until lgpio tries again to write to a terminal that takes no more."""


class _Port(NamedTuple):
    fd: int


class SerialFunctions:
    """The functions `serial_*`. `sleep` waits on the board's clock."""

    def __init__(self, process: Process, sleep: Callable[[float], None]) -> None:
        self.process: Process = process
        self._sleep = sleep

    def close(self) -> None:
        """Close the ports that are open."""
        for handle, opened in list(self.process.handles.items()):
            if isinstance(opened, _Port):
                self.serial_close(handle)

    @called()
    def serial_open(self, tty: str, baud: int, ser_flags: int = 0) -> int:
        if baud not in _SPEEDS:
            raise Refused(lg.BAD_SERIAL_SPEED)
        if ser_flags:
            raise Refused(lg.BAD_SERIAL_FLAGS)
        try:
            fd = os.open(tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            raise Refused(lg.SERIAL_OPEN_FAILED) from None
        try:
            terminals.setraw(fd)
            settings = termios.tcgetattr(fd)
            settings[4] = settings[5] = _SPEEDS[baud]
            settings[6][termios.VMIN] = settings[6][termios.VTIME] = 0
            termios.tcflush(fd, termios.TCIFLUSH)
            termios.tcsetattr(fd, termios.TCSANOW, settings)
        except termios.error:
            pass  # lgpio opens any file
        return self.process.handles.add(_Port(fd))

    @called()
    def serial_close(self, handle: int) -> int:
        os.close(self.process.handles.take(handle, _Port).fd)
        return lg.OKAY

    @called()
    def serial_read_byte(self, handle: int) -> int:
        data = self._read(handle, 1)
        if not data:
            raise Refused(lg.SERIAL_READ_NO_DATA)
        return data[0]

    @called()
    def serial_write_byte(self, handle: int, byte_val: int) -> int:
        if not 0 <= byte_val <= 0xFF:
            raise Refused(lg.BAD_SERIAL_PARAM)
        try:
            os.write(self._fd(handle), bytes([byte_val]))
        except OSError:
            raise Refused(lg.SERIAL_WRITE_FAILED) from None
        return lg.OKAY

    @called(bytearray())
    def serial_read(self, handle: int, count: Count = 1000) -> list[int | bytearray]:
        if not count:
            raise Refused(lg.BAD_SERIAL_PARAM)
        data = self._read(handle, count)
        return [len(data), bytearray(data)]

    @called()
    def serial_write(self, handle: int, data: Data) -> int:
        left = to_bytes(data)
        if not left:
            raise Refused(lg.BAD_SERIAL_PARAM)
        fd = self._fd(handle)
        while left:
            try:
                left = left[os.write(fd, left) :]
            except BlockingIOError:
                pass
            except OSError:
                raise Refused(lg.SERIAL_WRITE_FAILED) from None
            if left:
                self._sleep(_RETRY)
        return lg.OKAY

    @called()
    def serial_data_available(self, handle: int) -> int:
        waiting = array.array("i", [0])
        fd = self._fd(handle)
        try:
            select.select([fd], [], [], 0)  # waits until the kernel has passed on the first bytes
            fcntl.ioctl(fd, termios.FIONREAD, waiting)
        except OSError:
            return 0
        return waiting[0]

    def _fd(self, handle: int) -> int:
        return self.process.handles.find(handle, _Port).fd

    def _read(self, handle: int, count: int) -> bytes:
        fd, data = self._fd(handle), b""
        try:
            data = os.read(fd, count)
            # A pseudo-terminal passes bytes on in the background, and only a read that finds none waits for the rest.
            while data and len(data) < count and (more := os.read(fd, count - len(data))):
                data += more
        except BlockingIOError:
            if not data:
                raise Refused(lg.SERIAL_READ_NO_DATA) from None
        except OSError:
            raise Refused(lg.SERIAL_READ_FAILED) from None
        return data
