"""The targets of drawn faults: what a program used on its board in a run without faults, and how long that took."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

from firmware_sim import SimBoard

LONGEST = 600.0
"""Seconds of a run in which faults begin, at most."""


@dataclasses.dataclass(frozen=True)
class Targets:
    """Where faults can act on a board, and for how long a run takes."""

    lines: Sequence[int]
    ports: Sequence[str]
    buses: Sequence[int]
    devices: Sequence[tuple[int, int]]
    """The I2C devices: bus and address."""
    seconds: float
    """The length of a run without faults."""
    spi_devices: Sequence[tuple[int, int]] = ()
    """The SPI devices: bus and select line."""

    @classmethod
    def of(cls, board: SimBoard, began_ns: int) -> Self:
        """Return the targets of a board on which a run has just ended that began at `began_ns`."""
        return cls(
            [line.number for line in map(board.chip.line, range(len(board.chip))) if line.used],
            sorted(board.ports),
            sorted(board.buses),
            [(number, address) for number, bus in sorted(board.buses.items()) for address in bus.addresses],
            min((board.timeline.now_ns() - began_ns) / 1e9, LONGEST),
            [(number, select) for number, bus in sorted(board.spi_buses.items()) for select in bus.used],
        )
