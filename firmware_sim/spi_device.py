"""Devices on an SPI bus: what they do with the bytes, or with the bits, that the controller sends.

In each transfer a device sends as much as it receives. Most send a byte that does not depend on the one that they
receive meanwhile (`ByteDevice`); an ADC may answer within a byte (`BitDevice`). Both can also be read by a program that
switches the lines of the bus itself. A device that knows whole transfers only (`SpiDevice`) can't.
"""

from __future__ import annotations

from abc import ABC, abstractmethod


class SpiDevice(ABC):
    """A device on an SPI bus. Its methods run with the timeline's lock held.

    Attributes:
        modes: the modes that it understands: 0 to 3, of CPOL and CPHA.
        max_speed: the fastest clock (Hz) with which it works.
        lsb_first: whether it sends and expects the lowest bit of a byte first.
        cs_high: whether a high level of its select line selects it.
        passive: whether its methods touch nothing but its own registers: no line, no port, no planned action. In
            virtual time a transfer with it may then be made in one step.
    """

    modes: tuple[int, ...] = (0, 3)
    max_speed: float = 10_000_000
    lsb_first: bool = False
    cs_high: bool = False
    passive: bool = False

    def connected(self) -> None:
        """Called once the device was put on a bus."""

    def begin(self) -> None:
        """Begin a transfer: the select line has become active."""

    @abstractmethod
    def transfer(self, sent: bytes) -> bytes:
        """Take bytes that the controller sends, and return those that it reads at the same time; as many."""

    def end(self) -> None:
        """End a transfer: the select line has become inactive. Most devices carry out a command now."""

    def reset(self) -> None:
        """Begin again as after power-on: called when its supply fails for a moment. By default nothing changes."""


class BitDevice(SpiDevice):
    """A device that is known by its bits."""

    @property
    @abstractmethod
    def output(self) -> int | None:
        """The level of its output, which the controller samples with the next bit; None while it drives nothing."""

    @abstractmethod
    def clock(self, bit: int) -> None:
        """Take a bit from the controller, and set the output for the next one."""

    def transfer(self, sent: bytes) -> bytes:
        received = 0
        for byte in sent:
            for place in range(7, -1, -1):
                received = received << 1 | (self.output or 0)
                self.clock(byte >> place & 1)
        return received.to_bytes(len(sent), "big")


class ByteDevice(SpiDevice):
    """A device that is known by its bytes: `answer()` for the next one to send, then `take(byte)` for the received."""

    @abstractmethod
    def answer(self) -> int | None:
        """Return the byte to send next; None to drive nothing, which reads as zeros."""

    def take(self, byte: int) -> None:
        """Take the byte that was received while the last answer was sent."""

    def transfer(self, sent: bytes) -> bytes:
        received = bytearray()
        for byte in sent:
            received.append(self.answer() or 0)
            self.take(byte)
        return bytes(received)
