"""A device on an I2C bus: registers, blocks and plain messages, awaited.

Most devices have registers of a byte each and a pointer that advances by itself, so a block of registers is one
transfer. SMBus has blocks of up to 32 bytes, which every adapter can transfer, even one that has only SMBus; transfers
that are longer or have another shape go as plain messages (I2C_RDWR), one system call for all of them. See
Documentation/i2c/smbus-protocol.rst and dev-interface.rst of the kernel.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, TypeVarTuple

from hwloop.sources.bus import whole

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

    async def perform(self, what: str, function: Callable[[SMBus, *Ts], T], *args: *Ts, one_transfer: bool = ...) -> T:
        """Call `function(smbus, *args)` on the bus's thread and return what it returns; `what` is for messages."""
        ...


class Device:
    """One device on a bus; made by `Bus.device`. Every operation is one job on the bus's thread.

    All raise `HardwareError` when the device does not answer, `BusTimeoutError` when there was no answer in time, and
    ValueError or TypeError for an impossible register, value or length.
    """

    def __init__(self, bus: DeviceBus, address: int) -> None:
        self.bus = bus
        self.address = address

    def __repr__(self) -> str:
        return f"<I2C device {self.address:#04x} on {self.bus.name}>"

    async def read_register(self, register: int) -> int:
        """Return the byte in a register (0 to 255)."""
        _check_byte("a register", register)
        return await self._perform(lambda smbus: smbus.read_byte_data(self.address, register))

    async def write_register(self, register: int, value: int) -> None:
        """Write a byte to a register."""
        _check_byte("a register", register)
        _check_byte("a register's value", value)
        await self._perform(lambda smbus: smbus.write_byte_data(self.address, register, value))

    async def read_block(self, register: int, length: int) -> bytes:
        """Return `length` bytes (1 to 8192) from `register` on, read in one transfer."""
        _check_byte("a register", register)
        _check_length(length)
        if length > _SMBUS_BLOCK:
            return (await self.transfer(bytes([register]), length))[0]
        return bytes(await self._perform(lambda smbus: smbus.read_i2c_block_data(self.address, register, length)))

    async def write_block(self, register: int, data: bytes) -> None:
        """Write bytes to `register` and the registers after it, in one transfer."""
        _check_byte("a register", register)
        _check_length(len(data) + 1)
        if len(data) > _SMBUS_BLOCK:
            await self.transfer(bytes([register]) + data)
        else:
            await self._perform(lambda smbus: smbus.write_i2c_block_data(self.address, register, list(data)))

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
        await self.transfer(data)

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
        for message in messages:
            _check_length(message if isinstance(message, int) else len(message))
        return await self._perform(_combined, self.address, messages)

    async def _perform(self, function: Callable[[SMBus, *Ts], T], *args: *Ts) -> T:
        return await self.bus.perform(f"address {self.address:#04x}", function, *args, one_transfer=True)


def _check_byte(what: str, value: int) -> None:
    if not 0 <= whole(what, value) <= 0xFF:
        raise ValueError(f"{what} is 0 to 255, not {value!r}")


def _check_length(length: int) -> None:
    if not 1 <= length <= _MESSAGE_MAX:
        raise ValueError(f"a message has 1 to {_MESSAGE_MAX} bytes, not {length}")


def _combined(smbus: SMBus, address: int, messages: tuple[bytes | int, ...]) -> list[bytes]:
    """Make one transfer of the messages. Runs on the bus's thread."""
    from smbus2 import i2c_msg

    raw = [
        i2c_msg.read(address, message) if isinstance(message, int) else i2c_msg.write(address, message)
        for message in messages
    ]
    smbus.i2c_rdwr(*raw)
    return [bytes(answer) for answer, message in zip(raw, messages, strict=True) if isinstance(message, int)]
