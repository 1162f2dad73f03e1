"""An RGB LED: three LEDs in one case, whose brightness is the duty cycle of their lines."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.pulse_meter import PulseMeter

_DROPS = (1.3, 0.3, 0.3)
"""Volts over the resistors of red, green and blue at 3.3 V."""
_PIN_RESISTANCE = 45.0


@dataclass
class RgbLed(Device):
    """An RGB LED.

    Parameters:
        red, green, blue: their lines.
        common_anode: whether they light while their lines are low.
        resistor: the series resistor of each.
    """

    red: int
    green: int
    blue: int
    common_anode: bool = False
    resistor: float = within(0, 1e6, "Ω", default=330.0)

    fixed = "red, green, blue, common_anode, resistor"
    wiring = "each leg over 330 Ω to its line, the long leg to GND, or with common_anode to 3.3 V"
    example = "led = gpiozero.RGBLED(17, 27, 22); led.color = gpiozero.Color('orange')"

    def attach(self, board: Connections) -> None:
        lit = 0 if self.common_anode else 1
        self._meters: list[PulseMeter] = []
        for name, number, volts in zip(
            ("red", "green", "blue"), (self.red, self.green, self.blue), _DROPS, strict=True
        ):
            line = board.use_line(number, f"the {name} LED on line {number}")
            line.load(1000 * volts / (self.resistor + _PIN_RESISTANCE), lit)
            self._meters.append(PulseMeter(board.timeline, line, active=lit))

    @property
    def color(self) -> tuple[float, float, float]:
        """The brightness of red, green and blue, 0 to 1 each."""
        red, green, blue = (meter.duty for meter in self._meters)
        return red, green, blue
