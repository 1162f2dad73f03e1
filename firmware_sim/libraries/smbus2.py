"""/dev/i2c-N for smbus2: its `os.open`, `os.close` and `ioctl`, led to a simulated bus.

smbus2 reaches the kernel through three names of its module. While a simulated bus is open they lead here: calls on
simulated descriptors get the answers of Linux's i2c-dev, and all others are passed on. Closing the last one restores
the module. So `SMBus` is smbus2's own, ctypes included, and every driver on top of it runs unchanged.

The kernel offers SMBus transactions on adapters that only know plain messages by composing them
(i2c_smbus_xfer_emulated() in i2c-core-smbus.c); so does `_Descriptor`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import smbus2

# From the kernel's uapi/linux/i2c-dev.h and i2c.h.
_I2C_SLAVE, _I2C_TENBIT, _I2C_FUNCS, _I2C_SLAVE_FORCE = 0x0703, 0x0704, 0x0705, 0x0706
_I2C_RDWR, _I2C_PEC, _I2C_SMBUS = 0x0707, 0x0708, 0x0720
_MESSAGES_MAX, _MESSAGE_MAX = 42, 8192
_READ_FLAG = 0x0001

FUNCTIONS = 0x0FFF_8001
"""The answer to I2C_FUNCS: plain I2C and all SMBus transactions; no 10-bit addresses, no packet error check."""

BLOCK_MAX = 32
"""Bytes in an SMBus block."""

LENGTH_FIRST = -1
"""As a message's count: read one byte, and then as many as its value (the kernel's I2C_M_RECV_LEN)."""


class _Size:
    """The SMBus transactions, as uapi/linux/i2c.h numbers them. Plain numbers, which compare faster than an enum's."""

    QUICK = 0
    BYTE = 1
    BYTE_DATA = 2
    WORD_DATA = 3
    PROC_CALL = 4
    BLOCK_DATA = 5
    BLOCK_PROC_CALL = 7
    I2C_BLOCK_DATA = 8


class Message(NamedTuple):
    """One message of a transfer, from a start condition to the next (or to the stop)."""

    address: int
    data: bytes = b""
    """The bytes to write."""
    reads: int | None = None
    """The number of bytes to read; None for a write."""


class Wire(Protocol):
    """A bus that clocks messages out."""

    def transfer(self, messages: Sequence[Message]) -> list[bytes]:
        """Clock messages out with repeated starts; return the bytes of each read. Raises OSError."""


def os_error(number: int) -> OSError:
    """Return the exception for a system call's error number."""
    return OSError(number, os.strerror(number))


def open_on(wire: Wire, number: int) -> smbus2.SMBus:
    """Return smbus2's own `SMBus(number)`, led to `wire`. Raises ImportError where there is no smbus2."""
    import smbus2

    with redirection.opening(wire):
        return smbus2.SMBus(number)


class _Descriptor:
    """An open /dev/i2c-N, with the slave address that was set."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.address = 0

    def ioctl(self, request: int, argument: Any) -> int:
        """Answer as i2c-dev does (drivers/i2c/i2c-dev.c). `argument` is a number or one of smbus2's ctypes objects."""
        if request in (_I2C_SLAVE, _I2C_SLAVE_FORCE):
            if not 0 <= argument <= 0x7F:
                raise os_error(errno.EINVAL)
            self.address = argument
        elif request == _I2C_FUNCS:
            argument.value = FUNCTIONS
        elif request in (_I2C_TENBIT, _I2C_PEC):
            if argument:
                raise os_error(errno.EOPNOTSUPP)
        elif request == _I2C_SMBUS:
            self._smbus(argument.read_write == 1, argument.command, argument.size, argument.data)
        elif request == _I2C_RDWR:
            return self._combined(argument)
        else:
            raise os_error(errno.ENOTTY)
        return 0

    def _smbus(self, read: bool, command: int, size: int, data: Any) -> None:
        """Make an SMBus transaction of plain messages, as the kernel's i2c_smbus_xfer_emulated() does."""
        block = data.contents.block
        length = block[0]
        if length > BLOCK_MAX and size >= _Size.BLOCK_DATA and not (read and size == _Size.BLOCK_DATA):
            raise os_error(errno.EINVAL)
        written = bytes([command])
        count: int | None = None
        match size:
            case _Size.QUICK:  # the read/write bit is all there is
                written, count = b"", 0 if read else None
            case _Size.BYTE:  # no register
                written, count = (b"", 1) if read else (written, None)
            case _Size.BYTE_DATA | _Size.WORD_DATA:
                width = 1 if size == _Size.BYTE_DATA else 2
                if read:
                    count = width
                else:
                    written += bytes(block[0:width])
            case _Size.PROC_CALL:
                written, count = written + bytes(block[0:2]), 2
            case _Size.BLOCK_DATA:
                if read:
                    count = LENGTH_FIRST
                else:
                    written += bytes(block[0 : length + 1])
            case _Size.BLOCK_PROC_CALL:
                written, count = written + bytes(block[0 : length + 1]), LENGTH_FIRST
            case _Size.I2C_BLOCK_DATA:
                if read:
                    count = length
                else:
                    written += bytes(block[1 : length + 1])
            case _:
                raise os_error(errno.EINVAL)
        messages = []
        if count is None or written:
            messages.append(Message(self.address, written))
        if count is not None:
            messages.append(Message(self.address, reads=count))
        answers = self._wire.transfer(messages)
        if answers:
            first = 1 if size == _Size.I2C_BLOCK_DATA else 0
            block[first : first + len(answers[0])] = list(answers[0])

    def _combined(self, argument: Any) -> int:
        """Make the transfer of I2C_RDWR: messages with repeated starts between them."""
        if not 0 < argument.nmsgs <= _MESSAGES_MAX:
            raise os_error(errno.EINVAL)
        raw = [argument.msgs[index] for index in range(argument.nmsgs)]
        if any(message.len > _MESSAGE_MAX for message in raw):
            raise os_error(errno.EINVAL)
        if any(message.flags & ~_READ_FLAG for message in raw):
            raise os_error(errno.EOPNOTSUPP)
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


class _Redirection:
    """Stands in for `os` and `ioctl` in smbus2's module while a simulated bus is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptors: dict[int, _Descriptor] = {}
        self._users = 0
        self._replaced: dict[str, Any] = {}
        self._real_ioctl: Callable[..., Any] | None = None
        self._opening = threading.local()

    @contextlib.contextmanager
    def opening(self, wire: Wire) -> Iterator[None]:
        """Lead this thread's opening of a bus through smbus2 in this block to `wire`."""
        self._enter()
        self._opening.wire = wire
        try:
            yield
        finally:
            self._opening.wire = None
            self._leave()

    def _enter(self) -> None:
        import smbus2.smbus2 as module

        with self._lock:
            self._users += 1
            if self._users == 1:
                names = vars(module)
                self._replaced = {"os": names["os"], "ioctl": names["ioctl"]}
                self._real_ioctl = names["ioctl"]
                names.update(os=self, ioctl=self.ioctl)

    def _leave(self) -> None:
        import smbus2.smbus2 as module

        with self._lock:
            self._users -= 1
            if self._users == 0:
                vars(module).update(self._replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int) -> int:
        wire = getattr(self._opening, "wire", None)
        if wire is None:
            return os.open(path, flags)
        # A real descriptor of /dev/null, so that nothing else gets its number.
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._enter()
        self._descriptors[fd] = _Descriptor(wire)
        return fd

    def close(self, fd: int) -> None:
        ours = self._descriptors.pop(fd, None)
        os.close(fd)
        if ours is not None:
            self._leave()

    def ioctl(self, fd: int, request: int, *arguments: Any) -> Any:
        descriptor = self._descriptors.get(fd)
        if descriptor is None:
            assert self._real_ioctl is not None
            return self._real_ioctl(fd, request, *arguments)
        return descriptor.ioctl(request, arguments[0])


redirection: _Redirection = _Redirection()
