"""A potentiometer, or another part with a voltage as its output, on an input of an ADC."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.adc_inputs import adc_input
from firmware_sim.analog import Adc
from firmware_sim.device import Connections, Device
from firmware_sim.limits import within


@dataclass
class Potentiometer(Device):
    """A potentiometer on an input of an ADC; with other limits a soil probe, a light sensor, a gas sensor.

    Parameters:
        adc: the name of the ADC part.
        channel: its input, from 0.
        position: from one end, 0, to the other, 1. Assign another at any time.
        low, high: the voltages at both ends.
    """

    adc: str
    channel: int = 0
    position: float = within(0, 1, "of the way", default=0.5, changed="apply")
    low: float = within(-5.3, 5.3, "volts", default=0.0, changed="apply")
    high: float = within(-5.3, 5.3, "volts", default=3.3, changed="apply")
    _adc: Adc | None = field(default=None, init=False, repr=False)

    fixed = "adc, channel"
    wiring = "ends to 3.3 V and GND, wiper to the input of the ADC"
    example = 'board["knob"].position = 0.75   # in a test; the program reads the ADC'

    def attach(self, board: Connections) -> None:
        self._adc = adc_input(board, self.adc, self.channel, f"the potentiometer on channel {self.channel}")
        self.apply()

    def apply(self) -> None:
        """Set the input of the ADC to the voltage of the present position."""
        if self._adc is not None:
            self._adc.inputs[self.channel] = self.low + self.position * (self.high - self.low)
