"""A serial flash memory of Winbond's W25Q family, as data loggers and boot loaders have it.

Source: Winbond W25Q32JV, revision G (16 to 512 Mbit differ in their JEDEC code only, and need no other commands up to
128 Mbit). While it is busy it answers the status register only. Not simulated: dual and quad transfers, protected
blocks, security registers, suspending.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from firmware_sim.device import Connections
from firmware_sim.errors import WiringError
from firmware_sim.spi_device import ByteDevice
from firmware_sim.spi_part import SpiPart

_PAGE = 256
_WRITE_ENABLE, _WRITE_DISABLE, _PROGRAM, _READ, _FAST_READ = 0x06, 0x04, 0x02, 0x03, 0x0B
_STATUS, _STATUS_2, _STATUS_3, _POWER_DOWN, _RELEASE = 0x05, 0x35, 0x15, 0xB9, 0xAB
_JEDEC_ID, _MANUFACTURER, _UNIQUE_ID, _ENABLE_RESET, _RESET = 0x9F, 0x90, 0x4B, 0x66, 0x99
_ERASES = {0x20: (4096, 0.045), 0x52: (32_768, 0.12), 0xD8: (65_536, 0.15)}
"""Bytes and typical seconds."""
_CHIP_ERASES = (0x60, 0xC7)
_PROGRAM_SECONDS = 0.0004
_CHIP_ERASE_SECONDS = 10.0
_RESET_SECONDS = 30e-6
_BUSY, _ENABLED = 0x01, 0x02


@dataclass(eq=False)
class Flash(ByteDevice, SpiPart):
    """A W25Q flash memory on an SPI bus.

    Parameters:
        bus, select: its place.
        line: a line that selects it instead of the bus's own.
        megabits: its size.
        image: a file with its first contents, beside the board file; the rest is erased.

    Attributes:
        data: its contents.
    """

    fixed: ClassVar[str] = "image, megabits"
    wiring: ClassVar[str] = (
        "VCC 3.3 V, GND; CLK to GPIO11, DI to GPIO10, DO to GPIO9, /CS to GPIO8 (CE0); /WP and /HOLD to 3.3 V"
    )
    example: ClassVar[str] = (
        "flash = spi.open(0, 0, speed=10_000_000).open()\nprint((await flash.write_read(b'\\x9f', 3)).hex())  # ef4016"
    )
    megabits: Literal[8, 16, 32, 64, 128] = 32
    image: str = ""

    def attach(self, board: Connections) -> None:
        self.max_speed: float = 104_000_000
        size = self.megabits << 17
        self.data: bytearray = bytearray()
        if self.image:
            try:
                self.data[:] = (board.directory / self.image).read_bytes()
            except OSError as error:
                raise WiringError(f"image {self.image}: {error.strerror}") from error
            if len(self.data) > size:
                raise WiringError(f"image {self.image} has {len(self.data)} bytes, and the flash {size}")
        self.data += b"\xff" * (size - len(self.data))
        super().attach(board)

    def power_on(self) -> None:
        self._enabled = self._asleep = self._resets = False
        self._busy_until_ns = 0
        self.begin()

    def begin(self) -> None:
        self._taken = bytearray()
        self._answers: Iterator[int] | None = None

    def answer(self) -> int | None:
        return None if self._answers is None else next(self._answers, None)

    def take(self, byte: int) -> None:
        self._taken.append(byte)
        if self._answers is None:
            self._answers = self._find_answers()

    @property
    def busy(self) -> bool:
        """Whether it programs or erases."""
        return self.now_ns() < self._busy_until_ns

    def _find_answers(self) -> Iterator[int] | None:
        """Return the bytes to send for a command as soon as it is complete, with its address and dummy bytes."""
        command, count = self._taken[0], len(self._taken)
        if command == _STATUS:
            return iter(lambda: _BUSY * self.busy | _ENABLED * self._may_write(), -1)
        if self.busy or (self._asleep and command != _RELEASE):
            return None
        if command in (_STATUS_2, _STATUS_3):
            return iter(lambda: 0, -1)
        if command == _JEDEC_ID:
            return iter((0xEF, 0x40, (self.megabits << 17).bit_length() - 1))
        if command in (_READ, _FAST_READ) and count == (4 if command == _READ else 5):
            return self._read_from(self._address())
        if command == _RELEASE and count == 4:
            return iter(lambda: self._device_id(), -1)
        if command == _MANUFACTURER and count == 4:
            pair = (0xEF, self._device_id())
            return iter(pair[:: -1 if self._taken[3] & 1 else 1] * 128)
        if command == _UNIQUE_ID and count == 5:
            return iter(bytes.fromhex("d1637c0a0b4e2931"))
        return None

    def _read_from(self, address: int) -> Iterator[int]:
        while True:
            yield self.data[address % len(self.data)]
            address += 1

    def _device_id(self) -> int:
        return (self.megabits << 17).bit_length() - 2

    def _address(self) -> int:
        return int.from_bytes(self._taken[1:4]) % len(self.data)

    def _may_write(self) -> bool:
        """Return whether the write enable latch is set; it clears itself when a write has ended."""
        return self._enabled and (self._busy_until_ns == 0 or self.busy)

    def end(self) -> None:
        """Carry out a command that writes: only complete ones, and only while it is not busy."""
        taken = self._taken
        if not taken or self.busy:
            return
        command = taken[0]
        enabled = self._may_write()
        if command == _RELEASE:
            self._asleep = False
        if self._asleep:
            return
        resets, self._resets = self._resets, command == _ENABLE_RESET
        if command == _RESET and resets:
            self.power_on()
            self._busy_for(_RESET_SECONDS)
        elif command == _POWER_DOWN:
            self._asleep = True
        elif command == _WRITE_ENABLE:
            self._enabled, self._busy_until_ns = True, 0
        elif command == _WRITE_DISABLE:
            self._enabled = False
        elif enabled and command == _PROGRAM and len(taken) > 4:
            self._program(self._address(), taken[4:][-_PAGE:], len(taken) - 4)
        elif enabled and command in _ERASES and len(taken) == 4:
            size, seconds = _ERASES[command]
            start = self._address() // size * size
            self.data[start : start + size] = b"\xff" * size
            self._busy_for(seconds)
        elif enabled and command in _CHIP_ERASES and len(taken) == 1:
            self.data[:] = b"\xff" * len(self.data)
            self._busy_for(_CHIP_ERASE_SECONDS)

    def _program(self, address: int, data: bytearray, count: int) -> None:
        """Clear bits of one page. Bytes beyond its end go to its beginning, and only the last 256 count."""
        page, offset = address // _PAGE * _PAGE, address % _PAGE + count - len(data)
        for index, byte in enumerate(data):
            self.data[page + (offset + index) % _PAGE] &= byte
        self._busy_for(_PROGRAM_SECONDS)

    def _busy_for(self, seconds: float) -> None:
        self._busy_until_ns = self.now_ns() + round(seconds * 1e9)
