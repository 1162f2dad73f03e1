"""The protocol of Sensirion's sensors: commands of two bytes, and words of two bytes with a checksum after each.

A sensor does not acknowledge while it is busy, nor when it is read and has nothing to say (SHT3x-DIS data sheet, 4.3
and 4.4; SCD4x data sheet, 3.4). Its answer is read once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from firmware_sim.i2c_device import ClockHeld, Nack
from firmware_sim.i2c_part import I2cPart


def crc8(data: Iterable[int], initial: int = 0xFF) -> int:
    """Return the checksum of bytes, with the polynomial x⁸ + x⁵ + x⁴ + 1 (0x31)."""
    return functools.reduce(lambda crc, byte: _CRC[crc ^ byte], data, initial)


def _shifted(byte: int) -> int:
    for _ in range(8):
        byte = byte << 1 ^ (0x131 if byte & 0x80 else 0)
    return byte


_CRC = [_shifted(byte) for byte in range(256)]


@dataclass(eq=False)
class CommandPart(I2cPart):
    """A part that takes commands, and answers with words."""

    def reset(self) -> None:
        self._answer: bytes = b""
        self.busy_until_ns: int = 0
        super().reset()

    def write(self, data: bytes) -> None:
        now_ns = self.now_ns()
        self.update(now_ns)
        if now_ns < self.busy_until_ns:
            raise Nack
        if len(data) < 2:  # no command yet; nothing changes
            return
        code, words = int.from_bytes(data[:2]), list[int]()
        for index in range(2, len(data) - 2, 3):
            if crc8(data[index : index + 2]) != data[index + 2]:
                self.reject(code)
                return
            words.append(int.from_bytes(data[index : index + 2]))
        self._answer = b""
        self.command(code, words)

    def read(self, count: int) -> bytes:
        now_ns = self.now_ns()
        self.update(now_ns)
        if now_ns < self.busy_until_ns and self.waits():
            raise ClockHeld((self.busy_until_ns - now_ns) / 1e9)
        if now_ns < self.busy_until_ns or not self._answer:
            raise Nack
        answer, self._answer = self._answer, b""
        return answer[:count]

    def answer(self, *words: int) -> None:
        """Have these words read next."""
        pairs = [word.to_bytes(2) for word in words]
        self._answer = b"".join(pair + bytes([crc8(pair)]) for pair in pairs)

    def busy(self, seconds: float) -> None:
        """Acknowledge nothing for a time."""
        self.busy_until_ns = self.now_ns() + round(seconds * 1e9)

    def command(self, code: int, words: Sequence[int]) -> None:
        """Carry out a command. Raises `Nack` to reject it."""
        raise Nack

    def reject(self, code: int) -> None:
        """Ignore a command with a wrong checksum."""

    def waits(self) -> bool:
        """Return whether a reading holds the clock until the measurement has ended, instead of no acknowledgement."""
        return False
