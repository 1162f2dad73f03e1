"""The base class of faults, and the part of a board that they act on.

A fault is a dataclass. Its fields are its keys, and `begin` does the harm and returns the function that undoes it:

    @dataclass
    class Brownout(Fault):
        name = "brownout"
        volts: float = 2.5

        def target(self, board: FaultyBoard) -> str:
            return "board"

        def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
            supply = board["supply"]
            supply.sag(self.volts)
            return supply.recover

Both are called with the board's lock held. A fault keeps no state of its own, because it may be injected several times
and on several boards; the state of one injection is in the function that `begin` returns.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from firmware_sim.bus import Bus
from firmware_sim.gpio_device import GpioDevice
from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.pins import Chip
from firmware_sim.spi import SpiBus
from firmware_sim.timeline import Timeline
from firmware_sim.uart import Port


class FaultyBoard(Protocol):
    """The side of a simulated board that faults act on."""

    timeline: Timeline
    """Its time: `now_ns()`, `after(seconds, action)`, and the lock."""
    chip: Chip
    """Its lines."""
    gpiochip: GpioDevice
    """The kernel's device of these lines."""
    lgpio: Lgpio
    """The simulated lgpio, which reports their edges."""

    directory: Path
    """The directory of the board file, beside which modules of faults are found."""
    signal_program: Callable[[int], object] | None
    """Sends a signal to the program; None where the board's process is not the program's own."""

    @property
    def ports(self) -> Mapping[str, Port]:
        """Its serial ports, by the names that programs open."""

    @property
    def buses(self) -> Mapping[int, Bus]:
        """Its I2C buses, by number."""

    @property
    def spi_buses(self) -> Mapping[int, SpiBus]:
        """Its SPI buses, by number."""

    def loops(self) -> Iterable[asyncio.AbstractEventLoop]:
        """Return the event loops that have opened something on it."""

    def rename_port(self, old: str, new: str) -> None:
        """Give a port another name for programs."""

    def __getitem__(self, name: str) -> Any:
        """Return the device with this `name` in the board file. Raises KeyError, naming those that are there."""


class Chance:
    """Decides whether a fault happens, each time that it could.

    Parameters:
        probability: 0 to 1.
        seed: the same seed gives the same decisions, in every process and on every version of Python.

    Attributes:
        random: the generator, for what a fault draws besides (which bit flips, how long a contact bounces).
        hits: how often the fault happened so far.
    """

    def __init__(self, probability: float, seed: int | str) -> None:
        self.probability = probability
        self.random: random.Random = random.Random(seed)
        self.hits: int = 0

    def strikes(self) -> bool:
        """Return whether the fault happens this time, and count it if it does."""
        hit = self.probability >= 1 or self.random.random() < self.probability
        self.hits += hit
        return hit


class Fault(ABC):
    """A fault of a simulated board. Subclasses are dataclasses, and their fields are their keys.

    Fields have the types that fields of devices have. `__post_init__` may raise ValueError for a value that makes no
    sense.
    """

    name: ClassVar[str] = ""
    """Its name in traces; for a fault of hwloop the name by which it is injected."""
    occasion: ClassVar[str] = "beginning"
    """The occasions at which its probability counts: each "beginning", or each "transfer", "byte", "message" …"""
    momentary: ClassVar[bool] = False
    """Whether it is over as soon as it has happened, and so has no duration."""
    place: ClassVar[Sequence[str]] = ()
    """The fields that say where it acts; the others are the details in a trace."""

    @abstractmethod
    def target(self, board: FaultyBoard) -> str:
        """Return where it acts, for traces: "line 17", "i2c 1 0x76". Raises `FaultError` if that is not there."""

    @abstractmethod
    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object] | None:
        """Do the harm, and return the function that undoes exactly that; None for a momentary fault.

        A fault whose `occasion` is not "beginning" asks `chance.strikes()` each time.
        """
