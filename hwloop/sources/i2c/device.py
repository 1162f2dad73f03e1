"""A device on an I2C bus: registers, blocks and plain messages, awaited.

Most devices have registers of a byte each and a pointer that advances by itself, so a block of registers is one
transfer. SMBus has blocks of up to 32 bytes, which every adapter can transfer, even one that has only SMBus; transfers
that are longer or have another shape go as plain messages (I2C_RDWR), one system call for all of them. See
Documentation/i2c/smbus-protocol.rst and dev-interface.rst of the kernel.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, TypeVarTuple

from hwloop.core.urgency import Priority
from hwloop.scheduling.limits import RateLimiter
from hwloop.sources.account import Account
from hwloop.sources.bus import sendable, whole
from hwloop.sources.rate_limit import RateLimit

if TYPE_CHECKING:
    from smbus2 import SMBus

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ByteOrder = Literal["little", "big"]

_SMBUS_BLOCK = 32
_MESSAGE_MAX = 8192
_MESSAGES_MAX = 42


class DeviceBus(Protocol):
    """The part of `Bus` that a device uses."""

    number: int
    """The number of the bus, as in /dev/i2c-1."""

    @property
    def name(self) -> str:
        """The name of the bus, for messages."""
        ...

    async def perform(
        self,
        what: str,
        function: Callable[[SMBus, *Ts], T],
        args: tuple[*Ts],
        *,
        one_transfer: bool = ...,
        priority: Priority | None = ...,
        account: Account | None = ...,
        size: int = ...,
    ) -> T:
        """Call `function(smbus, *args)` on the bus's thread and return what it returns; `what` is for messages."""
        ...


class Device:
    """One device on a bus; made by `Bus.device`, which describes the parameters.

    Every operation is one job on the bus's thread, or several with `split`. All raise `HardwareError` when the device
    does not answer, `BusTimeoutError` when there was no answer in time, and ValueError or TypeError for an impossible
    register, value or length.
    """

    def __init__(
        self,
        bus: DeviceBus,
        address: int,
        account: Account,
        *,
        priority: Priority | None = None,
        max_rate: RateLimit | float | None = None,
        split: int | None = None,
        advance: bool = True,
    ) -> None:
        self.bus = bus
        self.address = address
        self._title = f"address {address:#04x}"
        self.priority: Priority | None = priority
        self._account = account
        self._limiter: RateLimiter | None = None
        if max_rate is not None:
            limit = max_rate if isinstance(max_rate, RateLimit) else RateLimit(max_rate, 1)
            bucket = limit.bucket()
            self._limiter = RateLimiter(bucket.rate, bucket.burst)
        if split is not None and whole("split", split) < 1:
            raise ValueError(f"split is a number of bytes, at least 1, not {split!r}")
        self._split = split
        self._advance = advance

    def __repr__(self) -> str:
        return f"<I2C device {self.address:#04x} on {self.bus.name}>"

    async def read_register(self, register: int) -> int:
        """Return the byte in a register (0 to 255)."""
        _check_byte("a register", register)
        return await self._perform(2, _read_byte, (self.address, register))

    async def write_register(self, register: int, value: int) -> None:
        """Write a byte to a register."""
        _check_byte("a register", register)
        _check_byte("a register's value", value)
        await self._perform(2, _write_byte, (self.address, register, value))

    async def read_block(self, register: int, length: int) -> bytes:
        """Return `length` bytes (1 to 8192) from `register` on, read in one transfer, or in several with `split`."""
        _check_byte("a register", register)
        _check_length(length)
        if self._split is None or length <= self._split:
            return await self._read_part(register, 0, length)
        return b"".join([await self._read_part(*part) for part in self._parts(register, length)])

    async def write_block(self, register: int, data: bytes) -> None:
        """Write bytes to `register` and the registers after it, in one transfer, or in several with `split`."""
        _check_byte("a register", register)
        data = sendable(data)
        if self._split is None:
            _check_length(len(data) + 1)
        for place, start, size in self._parts(register, len(data)):
            await self._write_part(place, start, data[start : start + size])

    async def read_word(self, register: int, byteorder: ByteOrder = "little", *, signed: bool = False) -> int:
        """Return two bytes as a number. SMBus puts the low byte first; many sensors send the high byte first."""
        return int.from_bytes(await self.read_block(register, 2), byteorder, signed=signed)

    async def write_word(
        self, register: int, value: int, byteorder: ByteOrder = "little", *, signed: bool = False
    ) -> None:
        """Write a number as two bytes."""
        low, high = (-0x8000, 0x7FFF) if signed else (0, 0xFFFF)
        if not low <= operator.index(value) <= high:
            raise ValueError(f"a word is {low} to {high}, not {value!r}")
        await self.write_block(register, value.to_bytes(2, byteorder, signed=signed))

    async def write(self, data: bytes) -> None:
        """Write bytes as they are, without a register."""
        await self.transfer(sendable(data))

    async def read(self, count: int) -> bytes:
        """Return `count` bytes (1 to 8192), read without a register."""
        return (await self.transfer(count))[0]

    async def transfer(self, *messages: bytes | int) -> list[bytes]:
        """Several messages as one transfer, a repeated start between them (I2C_RDWR; 42 messages at most).

        Bytes are written; a number is the count of bytes to read. Return the bytes that were read, one entry for each
        number.

            high, = await chip.transfer(b"\x02", 1)

        The adapter of the Pi 0 to 4 takes one read, and that only as the last message.
        """
        if not 0 < len(messages) <= _MESSAGES_MAX:
            raise ValueError(f"a transfer has 1 to {_MESSAGES_MAX} messages, not {len(messages)}")
        parts = tuple(message if isinstance(message, int) else sendable(message) for message in messages)
        sizes = [part if isinstance(part, int) else len(part) for part in parts]
        for size in sizes:
            _check_length(size)
        return await self._perform(sum(sizes), _combined, (self.address, parts))

    def _parts(self, register: int, length: int) -> list[tuple[int, int, int]]:
        """Return the transfers of a block: the register, the place in the block, and the number of bytes of each."""
        size = length if self._split is None else self._split
        if length <= size:
            return [(register, 0, length)]
        parts = [(register + (start if self._advance else 0), start, size) for start in range(0, length, size)]
        last, start, _ = parts[-1]
        if last > 0xFF:
            raise ValueError(f"a block of {length} bytes from register {register:#04x} on ends behind register 0xff")
        return [*parts[:-1], (last, start, length - start)]

    def _read_part(self, register: int, start: int, length: int) -> Coroutine[Any, Any, bytes]:
        read = _read_block if length <= _SMBUS_BLOCK else _read_long_block
        return self._perform(length + 1, read, (self.address, register, length), first=not start)

    def _write_part(self, register: int, start: int, data: bytes) -> Coroutine[Any, Any, object]:
        write = _write_block if len(data) <= _SMBUS_BLOCK else _write_long_block
        return self._perform(len(data) + 1, write, (self.address, register, data), first=not start)

    # No coroutine: each one around a transfer is entered and left twice.

    def _perform(
        self, size: int, function: Callable[[SMBus, *Ts], T], args: tuple[*Ts], *, first: bool = True
    ) -> Coroutine[Any, Any, T]:
        """Make a transfer of `size` bytes: call `function(smbus, *args)` on the bus's thread.

        The limit is on operations, the `first` of their transfers.
        """
        if first and self._limiter is not None:
            return self._perform_within_limit(self._limiter, size, function, args)
        return self.bus.perform(
            self._title,
            function,
            args,
            one_transfer=True,
            priority=self.priority,
            account=self._account,
            size=size,
        )

    async def _perform_within_limit(
        self, limiter: RateLimiter, size: int, function: Callable[[SMBus, *Ts], T], args: tuple[*Ts]
    ) -> T:
        await limiter.acquire()
        return await self._perform(size, function, args, first=False)


def _check_byte(what: str, value: int) -> None:
    if not 0 <= whole(what, value) <= 0xFF:
        raise ValueError(f"{what} is 0 to 255, not {value!r}")


def _check_length(length: int) -> None:
    if not 1 <= length <= _MESSAGE_MAX:
        raise ValueError(f"a message has 1 to {_MESSAGE_MAX} bytes, not {length}")


# The rest runs on the bus's thread.


def _read_byte(smbus: SMBus, address: int, register: int) -> int:
    return smbus.read_byte_data(address, register)


def _write_byte(smbus: SMBus, address: int, register: int, value: int) -> None:
    smbus.write_byte_data(address, register, value)


def _read_block(smbus: SMBus, address: int, register: int, length: int) -> bytes:
    return bytes(smbus.read_i2c_block_data(address, register, length))


def _write_block(smbus: SMBus, address: int, register: int, data: bytes) -> None:
    smbus.write_i2c_block_data(address, register, list(data))


def _read_long_block(smbus: SMBus, address: int, register: int, length: int) -> bytes:
    return _combined(smbus, address, (bytes([register]), length))[0]


def _write_long_block(smbus: SMBus, address: int, register: int, data: bytes) -> None:
    _combined(smbus, address, (bytes([register]) + data,))


def _combined(smbus: SMBus, address: int, messages: tuple[bytes | int, ...]) -> list[bytes]:
    """Make one transfer of the messages."""
    from smbus2 import i2c_msg

    raw = [
        i2c_msg.read(address, message) if isinstance(message, int) else i2c_msg.write(address, message)
        for message in messages
    ]
    smbus.i2c_rdwr(*raw)
    return [bytes(answer) for answer, message in zip(raw, messages, strict=True) if isinstance(message, int)]
