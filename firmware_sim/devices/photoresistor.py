"""A photoresistor that charges a capacitor, the usual light sensor of a board without analog inputs.

A program discharges the capacitor by driving the line low, lets go, and measures until the line reads high: that is
when the capacitor has charged to the threshold, after R·C·ln(3.3 V / (3.3 V - 1.8 V)). The brighter it is, the smaller
the resistance (Advanced Photonix PDV-P8001: 3 to 11 kΩ at 10 lux, more than 200 kΩ in the dark).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.pins import Line
from firmware_sim.timeline import Event, Timeline

_THRESHOLD = math.log(3.3 / (3.3 - 1.8))


@dataclass
class Photoresistor(Device):
    """A photoresistor with a capacitor.

    Parameters:
        line: its line.
        resistance: of the photoresistor, in ohms; less is brighter. May be changed at any time.
        capacitance: of the capacitor, in farads.
    """

    line: int
    resistance: float = within(1, 1e9, "Ω", default=3000.0)
    capacitance: float = within(1e-12, 1, "F", default=1e-6)

    wiring = "the photoresistor from 3.3 V to the line, the capacitor (1 µF) from the line to GND"
    example = "sensor = gpiozero.LightSensor(17); sensor.value"

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._line: Line = board.use_line(self.line, f"the photoresistor on line {self.line}")
        self._charge: Event | None = None
        self._line.pull("up")
        self._line.observe(lambda level, when_ns: self._look())
        board.chip.at_use.append(lambda line, use: self._look() if line is self._line else None)

    @property
    def charge_time(self) -> float:
        """Seconds from the moment at which the program lets go of the line until the line is high."""
        return self.resistance * self.capacitance * _THRESHOLD

    def _look(self) -> None:
        """Discharge the capacitor while the program drives the line low, and charge it afterwards."""
        if self._line.chip_output == 0:
            if self._charge is not None:
                self._charge.cancel()
                self._charge = None
            self._line.pull("down")
        elif self._line.level == 0 and self._charge is None:
            self._charge = self._timeline.after(self.charge_time, self._charged)

    def _charged(self) -> None:
        self._charge = None
        self._line.pull("up")
