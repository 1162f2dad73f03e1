"""`smbus` for programs on a simulated board: the C extension's class, names and errors, over /dev/i2c-N.

The extension (i2c-tools; python3-smbus in Debian) calls open(2) and ioctl(2) in C, where nothing can lead it to a
simulated bus; so this module stands in for it. It keeps the extension's ways: values are cut to a byte, blocks must be
lists, a closed bus is a bad file descriptor, and the class is no context manager.
"""

from __future__ import annotations

import errno
import fcntl
import operator
import os
from typing import Any, SupportsIndex

from firmware_sim.i2c_dev import BLOCK_MAX, Request, Size, SmbusBlock, SmbusData
from firmware_sim.nodes import os_error

_LIST = "Third argument must be a list of at least one, but not more than 32 integers"
_INT = range(-(1 << 31), 1 << 31)


class SMBus:
    """A connection to I2C bus number `bus`; to none if that is below 0, until `open(bus)`."""

    __slots__ = ("_address", "_fd", "_pec")

    def __init__(self, bus: SupportsIndex = -1) -> None:
        self._fd = self._address = -1
        self._pec = False
        if _int(bus) >= 0:
            self.open(bus)

    def __init_subclass__(cls) -> None:
        raise TypeError("type 'SMBus' is not an acceptable base type")

    def __del__(self) -> None:
        try:
            self.close()
        except (AttributeError, OSError):
            pass  # it was never opened, or closed by its number

    def open(self, bus: SupportsIndex) -> None:
        """Connect to a bus. Raises OSError if there is none of this number."""
        self._fd = os.open(f"/dev/i2c-{_int(bus)}", os.O_RDWR)

    def close(self) -> None:
        """Disconnect. Harmless when repeated."""
        fd, self._fd, self._address, self._pec = self._fd, -1, -1, False
        if fd != -1:
            os.close(fd)

    @property
    def pec(self) -> bool:
        """Whether packet error codes are used. A simulated bus has none: setting it raises OSError."""
        return self._pec

    @pec.setter
    def pec(self, value: Any) -> None:
        if bool(value) != self._pec:
            self._ioctl(Request.PEC, int(bool(value)))
            self._pec = bool(value)

    # The transactions.

    def write_quick(self, addr: SupportsIndex, /) -> None:
        """Send the address and a write bit, and nothing else."""
        self._transfer(addr, 0, Size.QUICK, None)

    def read_byte(self, addr: SupportsIndex, /) -> int:
        """Return a byte of a device that needs no register number."""
        return self._read(addr, 0, Size.BYTE)[0]

    def write_byte(self, addr: SupportsIndex, val: SupportsIndex, /) -> None:
        """Send a byte to a device that needs no register number."""
        self._transfer(addr, _int(val), Size.BYTE, None)

    def read_byte_data(self, addr: SupportsIndex, cmd: SupportsIndex, /) -> int:
        """Return the byte of a register."""
        return self._read(addr, cmd, Size.BYTE_DATA)[0]

    def write_byte_data(self, addr: SupportsIndex, cmd: SupportsIndex, val: SupportsIndex, /) -> None:
        """Write a byte to a register."""
        self._transfer(addr, cmd, Size.BYTE_DATA, SmbusBlock(_int(val) & 0xFF))

    def read_word_data(self, addr: SupportsIndex, cmd: SupportsIndex, /) -> int:
        """Return the word of a register, whose low byte comes first."""
        low, high = self._read(addr, cmd, Size.WORD_DATA)[:2]
        return low | high << 8

    def write_word_data(self, addr: SupportsIndex, cmd: SupportsIndex, val: SupportsIndex, /) -> None:
        """Write a word to a register, the low byte first."""
        self._transfer(addr, cmd, Size.WORD_DATA, _word(val))

    def process_call(self, addr: SupportsIndex, cmd: SupportsIndex, val: SupportsIndex, /) -> None:
        """Write a word and read one; the extension does not return it."""
        self._transfer(addr, cmd, Size.PROC_CALL, _word(val))

    def read_block_data(self, addr: SupportsIndex, cmd: SupportsIndex, /) -> list[int]:
        """Return a block whose length the device sends."""
        block = self._read(addr, cmd, Size.BLOCK_DATA)
        return block[1 : block[0] + 1]

    def write_block_data(self, addr: SupportsIndex, cmd: SupportsIndex, vals: list[int], /) -> None:
        """Write a block, its length first."""
        self._transfer(addr, cmd, Size.BLOCK_DATA, _block(vals))

    def block_process_call(self, addr: SupportsIndex, cmd: SupportsIndex, vals: list[int], /) -> list[int]:
        """Write a block and return one, each with its length first."""
        block = _block(vals)
        self._transfer(addr, cmd, Size.BLOCK_PROC_CALL, block)
        return list(block[1 : block[0] + 1])

    def read_i2c_block_data(
        self, addr: SupportsIndex, cmd: SupportsIndex, len: SupportsIndex = BLOCK_MAX, /
    ) -> list[int]:
        """Return `len` bytes, 1 to 32, from a register on."""
        block = self._read(addr, cmd, Size.I2C_BLOCK_DATA, SmbusBlock(_int(len) & 0xFF))
        return block[1 : block[0] + 1]

    def write_i2c_block_data(self, addr: SupportsIndex, cmd: SupportsIndex, vals: list[int], /) -> None:
        """Write bytes, at most 32, from a register on."""
        self._transfer(addr, cmd, Size.I2C_BLOCK_DATA, _block(vals))

    def _read(self, addr: SupportsIndex, cmd: SupportsIndex, size: int, block: Any = None) -> list[int]:
        block = SmbusBlock() if block is None else block
        self._transfer(addr, cmd, size, block, read=True)
        return list(block)

    def _transfer(self, addr: SupportsIndex, cmd: SupportsIndex, size: int, block: Any, *, read: bool = False) -> None:
        address, command = _int(addr), _int(cmd) & 0xFF
        if address != self._address:
            self._address = address
            self._ioctl(Request.SLAVE, address)
        self._ioctl(Request.SMBUS, SmbusData.of(read, command, size, block))

    def _ioctl(self, request: int, argument: Any) -> None:
        if self._fd == -1:
            raise os_error(errno.EBADF)
        fcntl.ioctl(self._fd, request, argument)


def _int(value: SupportsIndex) -> int:
    """Return an argument as a C int, as the extension takes them. Raises TypeError and OverflowError."""
    number = operator.index(value)
    if number not in _INT:
        raise OverflowError("Python int too large to convert to C int")
    return number


def _word(value: SupportsIndex) -> Any:
    number = _int(value)
    return SmbusBlock(number & 0xFF, number >> 8 & 0xFF)


def _block(values: list[int]) -> Any:
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise TypeError(_LIST)
    if len(values) > BLOCK_MAX:
        raise OverflowError(_LIST)
    return SmbusBlock(len(values), *(value & 0xFF for value in values))
