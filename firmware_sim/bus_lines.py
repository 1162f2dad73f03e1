"""The wires of an I2C bus as lines of the board, for programs that free a hung bus by clock pulses.

On a Raspberry Pi the controller has the pins of its bus, but a program can reach the same wires by two other lines that
are joined to them. The lines show no transfers, only a device that holds the data line.
"""

from __future__ import annotations

from firmware_sim.bus import Bus
from firmware_sim.pins import Line


class BusLines:
    """Joins a bus to two lines, with the pull-up resistors of the bus.

    Attributes:
        clocks: falling edges of the clock line so far.
        stops: stops that the program has sent.
    """

    def __init__(self, bus: Bus, scl: Line, sda: Line) -> None:
        self.clocks: int = 0
        self.stops: int = 0
        self._bus = bus
        self._scl, self._sda = scl, sda
        for line in (scl, sda):
            line.pull("up")
        scl.observe(self._on_clock)
        sda.observe(self._on_data)
        bus.at_hold.append(self._on_hold)
        self._on_hold(bus.hung)

    def _on_hold(self, held: bool) -> None:
        self._sda.drive(0 if held else None)

    def _on_clock(self, level: int, when_ns: int) -> None:
        if level == 0:
            self.clocks += 1
            self._bus.clocked()

    def _on_data(self, level: int, when_ns: int) -> None:
        if level == 1 and self._scl.level == 1:
            self.stops += 1
