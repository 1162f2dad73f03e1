"""A device on an I2C bus: messages that it takes and answers, how it rejects one or holds the clock, and registers."""

from __future__ import annotations

import functools
from collections.abc import Sequence


class Nack(Exception):
    """Raised by a device that does not acknowledge."""


class ClockHeld(Exception):
    """Raised by `read` of a device that holds the clock low for `args[0]` seconds before it answers a second call."""


class I2cDevice:
    """A device on the wire. Its methods run with the timeline's lock held.

    Attributes:
        stretch: seconds for which it holds the clock in each transfer that begins with it.
        passive: whether `write` and `read` touch its own registers only: no line, no port, no planned action. In
            virtual time a transfer with it may then be made in one step.
    """

    stretch: float = 0.0
    passive: bool = False

    def write(self, data: bytes) -> None:
        """Take the bytes of one write message (none for an SMBus quick command). Raises `Nack` to reject them."""

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes of a read message. Missing ones read as 0xFF: nothing pulls the line down."""
        return b""

    def connected(self) -> None:
        """Called once the device was put on a bus."""

    def reset(self) -> None:
        """Begin again as after power-on: called when its supply fails for a moment. By default nothing changes."""

    def general_call(self, data: bytes) -> bool:
        """Take a message to address 0, which all devices hear. Return whether it acknowledges, as few parts do."""
        return False


class GeneralCall(I2cDevice):
    """All devices of a bus, as a message to address 0 reaches them (UM10204, 3.1.13)."""

    def __init__(self, devices: Sequence[I2cDevice]) -> None:
        self._devices = devices

    def write(self, data: bytes) -> None:
        if not sum(device.general_call(data) for device in self._devices):
            raise Nack

    def read(self, count: int) -> bytes:
        raise Nack


class RegisterDevice(I2cDevice):
    """A device with 256 one-byte registers and a pointer, as most sensors have.

    The first byte written sets the pointer, further ones are stored; the pointer advances with every byte and wraps.
    """

    pointer: int = 0

    @functools.cached_property
    def registers(self) -> bytearray:
        # No constructor makes them, because the constructor of a dataclass would not call it.
        return bytearray(256)

    def connected(self) -> None:
        self._at_power_on = bytes(self.registers)

    def reset(self) -> None:
        """Set the pointer to 0, and the registers as they were when the device was put on the bus."""
        self.pointer = 0
        self.registers[:] = self._at_power_on

    def write(self, data: bytes) -> None:
        if data:
            self.move_pointer(data[0])
        for value in data[1:]:
            self.write_register(self.pointer, value)
            self.pointer = (self.pointer + 1) % 256

    def read(self, count: int) -> bytes:
        start = self.pointer
        self.move_pointer((start + count) % 256)
        if start + count <= 256 and type(self).read_register is RegisterDevice.read_register:
            return bytes(self.registers[start : start + count])
        return bytes(self.read_register((start + index) % 256) for index in range(count))

    def move_pointer(self, register: int) -> None:
        """Set the pointer, in each message. Not by an assignment, which parts of a board check for misspelling."""
        self.__dict__["pointer"] = register

    def write_register(self, register: int, value: int) -> None:
        """Store one byte."""
        self.registers[register] = value

    def read_register(self, register: int) -> int:
        """Return one byte."""
        return self.registers[register]
