"""The base of parts on an SPI bus: their keys, their time, and the lines of the bus.

@dataclass(eq=False)
class Thermometer(ByteDevice, SpiPart):
    temperature: float = within(-55, 125, "°C", default=21.5)

    def begin(self) -> None:
        self._bytes = iter(round(self.temperature * 128).to_bytes(2, signed=True))

    def answer(self) -> int | None:
        return next(self._bytes, None)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections, Device
from firmware_sim.spi_device import BitDevice, ByteDevice, SpiDevice
from firmware_sim.spi_lines import LINES, SwitchedLines
from firmware_sim.timeline import Timeline


@dataclass(eq=False)
class SpiPart(SpiDevice, Device):
    """A part on an SPI bus.

    Parameters:
        bus, select: its place: 0 and 1 for /dev/spidev0.1. A program may also switch the lines of bus 0 or 1 itself.
        line: a line that selects it instead, whichever device of the bus a transfer is for.
    """

    bus: int = 0
    select: int = 0
    line: int | None = None
    _timeline: ClassVar[Timeline | None] = None

    def attach(self, board: Connections) -> None:
        """Connect to the board's bus and its lines. Raises `WiringError`."""
        vars(self)["_timeline"] = board.timeline
        self._began_ns = board.timeline.now_ns()
        self.passive: bool = True
        bus, user = board.spi_bus(self.bus), type(self).__name__.upper()
        if self.line is None:
            bus.attach(self.select, self)
        else:
            line = board.use_line(self.line, f"CS of the {user} on line {self.line}")
            bus.attach_to_line(line, self)
        lines = LINES.get(self.bus)
        if lines is None or not isinstance(self, BitDevice | ByteDevice):
            return
        if self.line is None:
            number = lines.selects[self.select]
            line = board.use_line(number, f"CS of the {user} on SPI bus {self.bus}")
        line_of = board.chip.line
        wires = line_of(lines.clock), line_of(lines.mosi), line_of(lines.miso), line
        SwitchedLines(self, *wires, selects=self.line is None)

    def connected(self) -> None:
        self.power_on()

    def reset(self) -> None:
        """Begin again as after power-on."""
        self.power_on()

    def power_on(self) -> None:
        """Set everything as after power-on."""

    def catch_up(self) -> None:
        """Take note that what it measures is about to change. By default it converts when it is read."""

    @property
    def timeline(self) -> Timeline:
        """The board's time."""
        assert self._timeline is not None, "the part is on no board yet"
        return self._timeline

    def now_ns(self) -> int:
        """Return the time (nanoseconds, the timeline's clock)."""
        return self.timeline.moment_ns()

    def seconds(self) -> float:
        """Return the time in seconds since the board began."""
        return (self.now_ns() - self._began_ns) / 1e9
