"""The base class of devices on a simulated board, and the part of the board that they are connected to.

A device is a dataclass. Its fields are its keys in a board file, and `attach` connects it:

    @dataclass
    class Relay(Device):
        line: int
        clicks: int = field(default=0, init=False)

        def attach(self, board: Connections) -> None:
            line = board.use_line(self.line, f"the relay on line {self.line}")
            line.observe(self.on_level)

        def on_level(self, level: int, when_ns: int) -> None:
            self.clicks += 1

A device does not wait and starts no thread. It reacts to what the program does (a line's level, bytes on a port, a
transfer on a bus), and plans its own actions with `board.timeline.after(seconds, action)`. Both happen with the board's
lock held, so a device needs no lock of its own; in virtual time they happen exactly at their time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from firmware_sim.bus import Bus
from firmware_sim.nodes import Nodes
from firmware_sim.onewire import OneWireBus
from firmware_sim.pins import Chip, Line
from firmware_sim.spi import SpiBus
from firmware_sim.timeline import Timeline
from firmware_sim.uart import Port
from hwloop.errors import suggestion

_set_attribute = object.__setattr__


class Connections(Protocol):
    """The side of a simulated board that devices are connected to."""

    timeline: Timeline
    """The board's time: `now_ns()`, `after(seconds, action)`, and the lock."""
    chip: Chip
    """Its lines, for a device that joins some without using one alone."""
    nodes: Nodes
    """Its files below /dev, /sys and /proc, for a device that has some of its own."""
    directory: Path
    """The directory of the board file, where relative paths begin."""
    names: Mapping[str, Device]
    """The devices of the board file that have a name, attached or not yet."""

    def use_line(self, line: int, user: str) -> Line:
        """Return a line for the sole use of `user`. Raises `WiringError` if there is none, or it is used already."""

    def add_port(self, name: str) -> Port:
        """Return a new serial port, which programs open as `name`. Raises `WiringError` if there is one already."""

    def bus(self, number: int) -> Bus:
        """Return I2C bus `number`, which is made by the first call."""

    def spi_bus(self, number: int) -> SpiBus:
        """Return SPI bus `number`, which is made by the first call."""

    def onewire(self, line: int) -> OneWireBus:
        """Return the 1-Wire bus on a line, which is made by the first call."""


class Device(ABC):
    """A part on a simulated board. Subclasses are dataclasses, and their fields are their keys in a board file.

    Fields are whole numbers, floats, strings, booleans, lists of these, `Literal` choices, or one of these or None.
    `__post_init__` may raise ValueError for a value that makes no sense: the error names the place in the board file.
    A number with limits (`firmware_sim.limits.within`) keeps them whenever it is set.
    """

    wiring: ClassVar[str] = ""
    """One line for `hwloop parts`: which pin goes where, the supply voltage, pull-ups."""
    example: ClassVar[str] = ""
    """One to three lines of Python, or the call of a program, that use it."""

    attached: bool = False
    """Whether it is connected to a board."""

    @abstractmethod
    def attach(self, board: Connections) -> None:
        """Connect to lines, ports or buses of the board. Raises `WiringError`."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. A misspelt one is an error, at least of the parts of this package once they are attached:
        they have no new ones then.

        Raises AttributeError.
        """
        if name not in self.__dict__ and name[0] != "_" and self.attached:
            kind = type(self)
            if hasattr(kind, name):
                if callable(getattr(kind, name)) and not callable(value):
                    raise AttributeError(f"{name} is a method of {kind.__name__}: call it, {name}(…)")
            elif kind.__module__.startswith("firmware_sim.devices."):
                meant = suggestion(name, [each for each in dir(self) if each[0] != "_"])
                raise AttributeError(f"{kind.__name__} has no attribute {name!r}{meant or '; see hwloop parts'}")
        _set_attribute(self, name, value)
