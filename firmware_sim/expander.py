"""The pins of a port expander, which the expander and the world around it drive.

    board["expander"].drive(3, 0)                 # something outside pulls pin 3 low
    board["expander"].level(3)

With the key `lines` pins are lines of the board, and parts can be joined to them by a `wire`. Lines 28 to 53 are good
for that: they are not on the header, so no program uses them.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.i2c_part import I2cPart
from firmware_sim.pins import Line

logger: logging.Logger = logging.getLogger("firmware_sim")


class Pin:
    """One pin: what the expander drives, what the world drives, and a pull-up."""

    def __init__(self, name: str, line: Line | None) -> None:
        self._name = name
        self._line = line
        self._own: int | None = None
        self._outside: int | None = None
        self._pulled_up = False
        self._warned = False

    @property
    def level(self) -> int:
        """The level now. Low wins where two drive; a pin that floats is low."""
        if self._line is not None:
            return self._line.net.level
        driven = {self._own, self._outside} - {None}
        if len(driven) > 1 and not self._warned:
            self._warned = True
            logger.warning("short circuit: %s is driven both low and high", self._name)
        return int(0 not in driven) if driven else int(self._pulled_up)

    def set(self, own: int | None, *, pulled_up: bool) -> None:
        """Drive it as the expander, or let it go, with or without a pull-up."""
        self._own, self._pulled_up = own, pulled_up
        if self._line is not None:
            self._line.pull("up" if pulled_up else "none")
            self._line.drive(own)

    def drive(self, outside: int | None) -> None:
        """Drive it as the world, or let it go."""
        if self._line is not None:
            raise ValueError(f"{self._name} is line {self._line.number} of the board: drive that")
        self._outside = outside


@dataclass(eq=False)
class Expander(I2cPart):
    """A part that gives a program more pins."""

    pin_names: ClassVar[tuple[str, ...]] = ()
    """The names of its pins, in the order of their bits."""
    lines: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.lines) > len(self.pin_names):
            raise ValueError(f"lines must be {len(self.pin_names)} lines or fewer, not {len(self.lines)}")

    def connect(self, board: Connections) -> None:
        name = f"the {type(self).__name__.upper()} at {self.address:#04x}"
        if self.lines:
            self.passive = False
        self.pins: list[Pin] = []
        for index, pin in enumerate(self.pin_names):
            line = board.use_line(self.lines[index], f"{pin} of {name}") if index < len(self.lines) else None
            if line is not None:
                line.observe(self._line_changed)
            self.pins.append(Pin(f"{pin} of {name}", line))

    def drive(self, pin: int, level: int | None) -> None:
        """Drive a pin to a level from outside, as a switch or another part does, or let it go with None.

        Raises ValueError for another level, IndexError for a pin that does not exist.
        """
        if level not in (0, 1, None):
            raise ValueError(f"pin {pin}: the world drives 0, 1 or None, not {level!r}")
        with self.timeline.lock:
            self._pin(pin).drive(level)
            self.pins_changed()

    def level(self, pin: int) -> int:
        """Return the level of a pin. Raises IndexError for one that does not exist."""
        with self.timeline.lock:
            self.timeline.catch_up()
            return self._pin(pin).level

    @property
    def levels(self) -> int:
        """The levels of all pins, pin 0 in the lowest bit. The timeline's lock is held."""
        return functools.reduce(lambda levels, pin: levels << 1 | pin.level, reversed(self.pins), 0)

    def pins_changed(self) -> None:
        """React to new levels of the pins, with the timeline's lock held."""

    def _line_changed(self, level: int, when_ns: int) -> None:
        self.pins_changed()

    def _pin(self, pin: int) -> Pin:
        if not 0 <= pin < len(self.pins):
            raise IndexError(f"there is no pin {pin}; the pins are 0 to {len(self.pins) - 1}")
        return self.pins[pin]
