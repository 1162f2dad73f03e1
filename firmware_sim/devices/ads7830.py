"""An ADS7830: Texas Instruments' 8-bit ADC with eight inputs.

Source: TI SBAS302C. Conversions take no time, and the internal reference is
there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.analog import Voltage, inputs, volts_at
from firmware_sim.i2c_part import I2cPart
from firmware_sim.limits import within

_SINGLE_ENDED, _INTERNAL_REFERENCE = 0x80, 0x08
_INTERNAL_VOLTS = 2.5


@dataclass(eq=False)
class Ads7830(I2cPart):
    """An ADS7830 ADC with eight inputs and 8 bits.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x48 to 0x4b (pins A0 and A1).
        inputs: the voltages of CH0 to CH7, in volts, or functions of time (`firmware_sim.analog`).
        reference: the voltage at REF, in volts, which counts while the program leaves the internal 2.5 V off.
    """

    wiring: ClassVar[str] = "VDD and REF 3.3 V, GND, COM to GND; SDA to GPIO2, SCL to GPIO3; A0, A1 to GND is 0x48"
    example: ClassVar[str] = (
        "channel = 2  # the bits of the channel are in another order: the lowest first\n"
        "raw = smbus.read_byte_data(0x48, 0x84 | ((channel << 2 | channel >> 1) & 7) << 4)"
    )
    addresses: ClassVar[Sequence[int]] = range(0x48, 0x4C)
    address: int = 0x48
    inputs: list[Voltage] = inputs(8, -0.3, 5.3)
    reference: float = within(0.05, 5.0, "volts", default=3.3)

    def power_on(self) -> None:
        self._command = 0

    def write(self, data: bytes) -> None:
        if data:
            self._command = data[-1]

    def read(self, count: int) -> bytes:
        full_scale = _INTERNAL_VOLTS if self._command & _INTERNAL_REFERENCE else self.reference
        code = int(self._volts() * 256 / full_scale)
        return bytes([min(max(code, 0), 255)] * count)

    def _volts(self) -> float:
        """Return the voltage of an input against ground, or against the other one of its pair."""
        selected = self._command >> 4 & 7
        channel = (selected & 3) << 1 | selected >> 2
        seconds = self.seconds(self.now_ns())
        volts = volts_at(self.inputs, channel, seconds)
        return volts if self._command & _SINGLE_ENDED else volts - volts_at(self.inputs, channel ^ 1, seconds)
