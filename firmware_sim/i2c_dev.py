"""The kernel's i2c-dev: /dev/i2c-N of a simulated bus, with its ioctls and plain reads and writes.

Every library reaches a bus through it: smbus2, smbus, Adafruit_PureIO, python-periphery, and code that calls
`fcntl.ioctl` itself. They describe a transfer by the structures of uapi/linux/i2c-dev.h, which point at memory of the
program; so this module reads and writes that memory.

The kernel offers SMBus transactions on adapters that only know plain messages by composing them
(i2c_smbus_xfer_emulated() in i2c-core-smbus.c); so does `I2cHandle`.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from firmware_sim.nodes import Handle, Node, os_error

_MAJOR = 89  # of i2c-dev's device numbers
_MESSAGES_MAX, _MESSAGE_MAX = 42, 8192
_READ_FLAG = 0x0001


class Request:
    """The ioctls, as uapi/linux/i2c-dev.h numbers them."""

    RETRIES = 0x0701
    TIMEOUT = 0x0702
    SLAVE = 0x0703
    TENBIT = 0x0704
    FUNCS = 0x0705
    SLAVE_FORCE = 0x0706
    RDWR = 0x0707
    PEC = 0x0708
    SMBUS = 0x0720


FUNCTIONS = 0x0FFF_8001
"""The answer to I2C_FUNCS: plain I2C and all SMBus transactions; no 10-bit addresses, no packet error check."""

BLOCK_MAX = 32
"""Bytes in an SMBus block."""

LENGTH_FIRST = -1
"""As a message's count: read one byte, and then as many as its value (the kernel's I2C_M_RECV_LEN)."""


class Size:
    """The SMBus transactions, as uapi/linux/i2c.h numbers them. Plain numbers, which compare faster than an enum's."""

    QUICK = 0
    BYTE = 1
    BYTE_DATA = 2
    WORD_DATA = 3
    PROC_CALL = 4
    BLOCK_DATA = 5
    I2C_BLOCK_BROKEN = 6
    BLOCK_PROC_CALL = 7
    I2C_BLOCK_DATA = 8


_SIZES = range(9)


class Message(NamedTuple):
    """One message of a transfer, from a start condition to the next (or to the stop)."""

    address: int
    data: bytes = b""
    """The bytes to write."""
    reads: int | None = None
    """The number of bytes to read; None for a write."""


_message = functools.lru_cache(256)(Message)
"""Makes a message, or returns an equal one: a driver sends the same few again and again."""


class Wire(Protocol):
    """A bus that clocks messages out."""

    def transfer(self, messages: Sequence[Message]) -> list[bytes]:
        """Clock messages out with repeated starts; return the bytes of each read. Raises OSError."""


SmbusBlock: type[ctypes.Array[ctypes.c_uint8]] = ctypes.c_uint8 * (BLOCK_MAX + 2)
"""`union i2c_smbus_data`: a byte, a word, or a block with its length first."""

_Memory = ctypes.c_char * (BLOCK_MAX + 2)  # the same: its slices are bytes, and `raw` stores some at its beginning


class SmbusData(ctypes.Structure):
    """`struct i2c_smbus_ioctl_data`."""

    _fields_ = (
        ("read_write", ctypes.c_uint8),
        ("command", ctypes.c_uint8),
        ("size", ctypes.c_uint32),
        ("block", ctypes.POINTER(SmbusBlock)),
    )

    @classmethod
    def of(cls, read: bool, command: int, size: int, block: ctypes.Array[ctypes.c_uint8] | None) -> SmbusData:
        """Return the request for a transaction."""
        return cls(int(read), command, size, None if block is None else ctypes.pointer(block))


_SMBUS_DATA = struct.Struct("@BBIP")  # the same, taken apart in a tenth of the time


class _RawMessage(ctypes.Structure):
    """`struct i2c_msg`."""

    _fields_ = (
        ("addr", ctypes.c_uint16),
        ("flags", ctypes.c_uint16),
        ("len", ctypes.c_uint16),
        ("buf", ctypes.c_void_p),
    )


class _RawMessages(ctypes.Structure):
    """`struct i2c_rdwr_ioctl_data`."""

    _fields_ = (("msgs", ctypes.POINTER(_RawMessage)), ("nmsgs", ctypes.c_uint32))


class I2cNode(Node):
    """/dev/i2c-N of a bus."""

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire = wire
        self.device: int = os.makedev(_MAJOR, number)

    def open(self, flags: int) -> Handle:
        return I2cHandle(self._wire)


class I2cHandle(Handle):
    """An open /dev/i2c-N, with the slave address that was set."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.address: int = 0

    def read(self, count: int) -> bytes:
        return self._wire.transfer([Message(self.address, reads=min(count, _MESSAGE_MAX))])[0]

    def write(self, data: bytes) -> int:
        sent = data[:_MESSAGE_MAX]
        self._wire.transfer([Message(self.address, sent)])
        return len(sent)

    def ioctl(self, request: int, argument: Any) -> int:
        """Answer as i2c-dev does (drivers/i2c/i2c-dev.c)."""
        if request == Request.SMBUS:
            self._smbus(*_SMBUS_DATA.unpack_from(argument))
        elif request == Request.RDWR:
            return self._combined(_RawMessages.from_buffer(argument))
        elif request == Request.FUNCS:
            size = min(8, memoryview(argument).nbytes)  # smbus2 makes room for four bytes
            ctypes.memmove((ctypes.c_char * size).from_buffer(argument), FUNCTIONS.to_bytes(8, "little"), size)
        else:
            self._set(request, argument)
        return 0

    def _set(self, request: int, value: int) -> None:
        """Take the requests whose argument is a number."""
        match request:
            case Request.SLAVE | Request.SLAVE_FORCE:
                if not 0 <= value <= 0x7F:
                    raise os_error(errno.EINVAL)
                self.address = value
            case Request.TENBIT | Request.PEC:
                if value:
                    raise os_error(errno.EOPNOTSUPP)
            case Request.RETRIES | Request.TIMEOUT:
                pass
            case _:
                raise os_error(errno.ENOTTY)

    def _smbus(self, read_write: int, command: int, size: int, block_address: int) -> None:
        """Make an SMBus transaction of plain messages, as the kernel's i2c_smbus_xfer_emulated() does."""
        read = read_write == 1
        if read_write > 1 or size not in _SIZES:
            raise os_error(errno.EINVAL)
        has_data = size != Size.QUICK and (size != Size.BYTE or read)
        if has_data and not block_address:
            raise os_error(errno.EINVAL)
        block: Any = _Memory.from_address(block_address) if has_data else b""
        length = ord(block[0]) if size >= Size.BLOCK_DATA else 0
        if size == Size.I2C_BLOCK_BROKEN:  # of old programs, which read whole blocks only
            size, length = Size.I2C_BLOCK_DATA, BLOCK_MAX if read else length
        if length > BLOCK_MAX and not (read and size == Size.BLOCK_DATA):
            raise os_error(errno.EINVAL)
        written = bytes([command])
        count: int | None = None
        match size:
            case Size.BYTE_DATA | Size.WORD_DATA:  # these and the next are what most drivers use
                width = 1 if size == Size.BYTE_DATA else 2
                if read:
                    count = width
                else:
                    written += block[0:width]
            case Size.I2C_BLOCK_DATA:
                if read:
                    count = length
                else:
                    written += block[1 : length + 1]
            case Size.QUICK:  # the read/write bit is all there is
                written, count = b"", 0 if read else None
            case Size.BYTE:  # no register
                written, count = (b"", 1) if read else (written, None)
            case Size.PROC_CALL:
                written, count = written + block[0:2], 2
            case Size.BLOCK_DATA:
                if read:
                    count = LENGTH_FIRST
                else:
                    written += block[0 : length + 1]
            case Size.BLOCK_PROC_CALL:
                written, count = written + block[0 : length + 1], LENGTH_FIRST
        messages = []
        if count is None or written:
            messages.append(_message(self.address, written))
        if count is not None:
            messages.append(_message(self.address, b"", count))
        answers = self._wire.transfer(messages)
        if answers and has_data:
            begin = block_address + 1 if size == Size.I2C_BLOCK_DATA else block_address
            _Memory.from_address(begin).raw = answers[0]

    def _combined(self, argument: _RawMessages) -> int:
        """Make the transfer of I2C_RDWR: messages with repeated starts between them."""
        if not 0 < argument.nmsgs <= _MESSAGES_MAX:
            raise os_error(errno.EINVAL)
        raw = [argument.msgs[index] for index in range(argument.nmsgs)]
        if any(message.len > _MESSAGE_MAX for message in raw):
            raise os_error(errno.EINVAL)
        if any(message.flags & ~_READ_FLAG for message in raw):
            raise os_error(errno.EOPNOTSUPP)
        if any(message.len and not message.buf for message in raw):
            raise os_error(errno.EFAULT)
        answers = iter(
            self._wire.transfer(
                [
                    Message(message.addr, reads=message.len)
                    if message.flags
                    else Message(message.addr, ctypes.string_at(message.buf, message.len))
                    for message in raw
                ]
            )
        )
        for message in raw:
            if message.flags:
                ctypes.memmove(message.buf, next(answers), message.len)
        return len(raw)
