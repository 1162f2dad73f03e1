"""Short circuits, and currents that a chip's outputs do not give: on a real board they end in damage.

A pin of a Raspberry Pi gives or takes at most 16 mA, and all pins together 50 mA (raspberrypi.com, "GPIO pads
control"). A simulated board goes on, since its program is to be tested, but counts each case, and logs it once with
the names of those that are connected.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
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

    def drivers(self) -> Iterator[int]: ...

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
        self._compare(
            line.number,
            current > PIN_MILLIAMPS,
            f"overload: {line.part or 'a part'} draws {current:.0f} mA from line {line.number}, and a pin gives "
            f"{PIN_MILLIAMPS:.0f} mA; put a resistor in series, or a transistor or driver between them",
        )
        total = sum(each.current() for each in self._loaded.values())
        drawn = ", ".join(
            f"{each.current():.0f} mA from line {number}" for number, each in self._loaded.items() if each.current()
        )
        self._compare(
            "all",
            total > TOTAL_MILLIAMPS,
            f"overload: parts draw {total:.0f} mA together ({drawn}), and all pins give {TOTAL_MILLIAMPS:.0f} mA; "
            "use larger resistors or a driver",
        )

    def _compare(self, place: object, over: bool, text: str) -> None:
        if not over:
            self._over.discard(place)
        elif place not in self._over:
            self._over.add(place)
            self.overloads += 1
            if self._is_first(place):
                logger.warning("%s", text)

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
        levels = list(line.drivers())
        if output is not None:
            levels.remove(output)
        for level in levels:
            names[level].append(line.part or f"a part on line {line.number}")
    return names
