"""Short circuits, and currents that a chip's outputs do not give: on a real board they end in damage.

A pin of a Raspberry Pi gives or takes at most 16 mA, and all pins together 50 mA (raspberrypi.com, "GPIO pads
control"). A simulated board goes on, since its program is to be tested, but counts each case, and logs it once with
the names of those that are connected.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

logger: logging.Logger = logging.getLogger("firmware_sim")

PIN_MILLIAMPS = 16.0
TOTAL_MILLIAMPS = 50.0


class Loaded(Protocol):
    """A line, as far as this module needs it."""

    @property
    def number(self) -> int: ...

    @property
    def part(self) -> str: ...

    @property
    def chip_output(self) -> int | None: ...

    def drivers(self) -> list[int]: ...

    def current(self) -> float: ...


class Strain:
    """The short circuits and excessive currents of a chip.

    Attributes:
        short_circuits: how often two strong drivers began to disagree.
        overloads: how often a pin began to give more than it can, or all pins together did.
    """

    def __init__(self) -> None:
        self.short_circuits: int = 0
        self.overloads: int = 0
        self._loaded: dict[int, Loaded] = {}
        self._over: set[object] = set()
        self._logged: set[object] = set()

    def short_circuit(self, lines: Sequence[Loaded]) -> None:
        """Count a short circuit between drivers of these lines, which are joined."""
        self.short_circuits += 1
        place = "+".join(str(line.number) for line in lines)
        if self._is_first(place):
            low, high = (" and ".join(drivers) or "a fault" for drivers in _drivers(lines))
            logger.warning(
                "short circuit: line %s is driven low by %s and high by %s; "
                "make the program's line an input or open-drain, or put a resistor between them",
                *(place, low, high),
            )

    def check(self, line: Loaded) -> None:
        """Count and log an overload that begins with the present currents of this line."""
        self._loaded[line.number] = line
        current = line.current()
        if self._begins(line.number, current > PIN_MILLIAMPS):
            logger.warning(
                "overload: %s draws %.0f mA from line %d, and a pin gives %.0f mA; "
                "put a resistor in series, or a transistor or driver between them",
                *(line.part or "a part", current, line.number, PIN_MILLIAMPS),
            )
        total = 0.0
        for other in self._loaded.values():
            total += other.current()
        if self._begins("all", total > TOTAL_MILLIAMPS):
            currents = [(number, each.current()) for number, each in self._loaded.items()]
            logger.warning(
                "overload: parts draw %.0f mA together (%s), and all pins give %.0f mA; "
                "use larger resistors or a driver",
                total,
                ", ".join(f"{each:.0f} mA from line {number}" for number, each in currents if each),
                TOTAL_MILLIAMPS,
            )

    def _begins(self, place: object, over: bool) -> bool:
        """Count an overload if it begins. Return whether it is to be logged."""
        if not over:
            self._over.discard(place)
            return False
        if place in self._over:
            return False
        self._over.add(place)
        self.overloads += 1
        return self._is_first(place)

    def _is_first(self, place: object) -> bool:
        """Return whether this place was not reported before, and note it."""
        if place in self._logged:
            return False
        self._logged.add(place)
        return True


def _drivers(lines: Sequence[Loaded]) -> tuple[list[str], list[str]]:
    """Return the names of those that drive joined lines low, and high."""
    names: tuple[list[str], list[str]] = ([], [])
    for line in lines:
        output = line.chip_output
        if output is not None:
            names[output].append(f"the program's output {line.number}")
        levels = line.drivers()
        if output is not None:
            levels.remove(output)
        for level in levels:
            names[level].append(line.part or f"a part on line {line.number}")
    return names
