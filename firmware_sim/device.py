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

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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


def _noting(attach: Callable[[Any, Connections], None]) -> Callable[[Any, Connections], None]:
    """Return the method `attach` of a class, which notes that the part is attached, unless it is that of a base."""

    @functools.wraps(attach)
    def noting(self: Device, board: Connections) -> None:
        attach(self, board)
        if type(self).attach is noting:
            vars(self)["_board_time"] = board.timeline
            self.attached = True

    return noting


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

    fixed: ClassVar[str] = "line, lines, port, bus, address, select, interrupt"
    """Keys that count while the board is made: to set one later is an error. A subclass names its own ones."""
    fixed_keys: ClassVar[frozenset[str]] = frozenset(fixed.split(", "))
    """All of them, those of base classes included."""

    attached: bool = False
    """Whether it is connected to a board."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.fixed_keys = cls.fixed_keys.union(cls.fixed.split(", "))
        if "attach" in vars(cls):
            setattr(cls, "attach", _noting(cls.attach))  # noqa: B010

    @abstractmethod
    def attach(self, board: Connections) -> None:
        """Connect to lines, ports or buses of the board. Raises `WiringError`."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. Once the part is attached, it is an error to set one of its `fixed` keys or a result, and a
        misspelt one, at least of the parts of this package: they have no new ones then.

        Raises AttributeError.
        """
        if name in self.fixed_keys and self.attached:
            raise AttributeError(
                f"{name} of {type(self).__name__} counts while the board is made, and can't change afterwards"
            )
        if name not in self.__dict__ and name[0] != "_" and self.attached:
            kind = type(self)
            if hasattr(kind, name):
                found = getattr(kind, name)
                if callable(found) and not callable(value):
                    raise AttributeError(f"{name} is a method of {kind.__name__}: call it, {name}(…)")
                if isinstance(found, property) and found.fset is None:
                    raise AttributeError(f"{name} of {kind.__name__} can be read only")
            elif kind.__module__.startswith("firmware_sim.devices."):
                meant = suggestion(name, [each for each in dir(self) if each[0] != "_"])
                raise AttributeError(f"{kind.__name__} has no attribute {name!r}{meant or '; see hwloop parts'}")
        _set_attribute(self, name, value)
