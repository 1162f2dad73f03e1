"""Faults of lines: a line that is stuck, a flood of edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from firmware_sim.faults.fault import Chance, FaultyBoard
from firmware_sim.faults.places import LineFault
from firmware_sim.timeline import Event


@dataclass
class StuckLine(LineFault):
    """A line that is stuck at a level: a wire that touches ground or 3.3 V.

    Parameters:
        line: its number, or the name of the part on it.
        level: 0 or 1.

    Lines that are wired to it are stuck too. A program that drives the other level causes a short circuit, which the
    chip counts. The line of an end floats at the level at which it was stuck if nothing else acts on it.
    """

    name = "stuck-line"
    level: Literal[0, 1] = 0

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        hold = self.find(board).hold(self.name)
        hold.set(self.level)
        return hold.end


@dataclass
class EdgeFlood(LineFault):
    """Edges without end, as from a cable that picks up interference, or an input that floats.

    Parameters:
        line: its number, or the name of the part on it.
        rate: edges a second.
    """

    name = "edge-flood"
    rate: float = 1000.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1e6:
            raise ValueError(f"rate must be more than 0 and at most 1e6 edges a second, not {self.rate!r}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        line = self.find(board)
        hold = line.hold(self.name)
        timeline = board.timeline
        planned: Event

        def toggle() -> None:
            nonlocal planned
            hold.set(1 - line.level)
            planned = timeline.after(1 / self.rate, toggle)

        def end() -> None:
            planned.cancel()
            hold.end()

        planned = timeline.after(0, toggle)
        return end
