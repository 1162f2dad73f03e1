"""Wrong bytes in what a bus reads: for faults of I2C and SPI, which have no check of their own."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

from firmware_sim.faults.fault import Chance

Answer = Literal["flipped", "ones", "zeros", "stale"]


class WrongAnswers:
    """Spoils answers: "flipped" changes one bit, "stale" repeats the answer before."""

    def __init__(self, chance: Chance, answer: Answer) -> None:
        self._chance = chance
        self._answer = answer
        self._last: dict[Hashable, bytes] = {}

    def spoil(self, place: Hashable, data: bytes, *, strikes: bool) -> bytes:
        """Return the bytes that are read where a device sent `data`; right ones unless the fault strikes."""
        place = place, len(data)
        stale, self._last[place] = self._last.get(place, data), data
        if not strikes:
            return data
        if self._answer == "stale":
            self._last[place] = stale
            return stale
        if self._answer != "flipped":
            return (b"\xff" if self._answer == "ones" else b"\0") * len(data)
        changed = bytearray(data)
        bit = self._chance.random.randrange(8 * len(data))
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)
