"""A PCF8591: NXP's 8-bit ADC with four inputs, and a DAC.

A reading begins with the result of the conversion before: a program that chooses an input and reads one byte gets the
value of the input that was chosen before. Source: NXP, PCF8591 product data sheet, rev. 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.analog import Voltage, inputs, volts_at
from firmware_sim.i2c_part import I2cPart
from firmware_sim.limits import within

_OUTPUT, _INCREMENT = 0x40, 0x04
_AT_POWER_ON = 0x80
_CHANNELS: tuple[tuple[tuple[int, int | None], ...], ...] = (
    ((0, None), (1, None), (2, None), (3, None)),
    ((0, 3), (1, 3), (2, 3)),
    ((0, None), (1, None), (2, 3)),
    ((0, 1), (2, 3)),
)
"""The inputs of each channel, by two bits of the control byte: one against ground, or against another."""


@dataclass(eq=False)
class Pcf8591(I2cPart):
    """A PCF8591 ADC with four inputs and 8 bits, and a DAC.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x48 to 0x4f (pins A0 to A2).
        inputs: the voltages of AIN0 to AIN3, in volts, or functions of time (`firmware_sim.analog`).
        reference: the voltage of VREF, in volts: the full scale of the ADC and the DAC.

    Attributes:
        output: the voltage of AOUT, in volts; None while the DAC is off.
    """

    wiring: ClassVar[str] = "VDD 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; A0 to A2 to GND is 0x48"
    example: ClassVar[str] = (
        "smbus.write_byte(0x48, 0x40)  # AIN0\nsmbus.read_byte(0x48)  # the conversion before\n"
        "volts = smbus.read_byte(0x48) * 3.3 / 255"
    )
    addresses: ClassVar[Sequence[int]] = range(0x48, 0x50)
    address: int = 0x48
    inputs: list[Voltage] = inputs(4, -0.5, 6.5)
    reference: float = within(0.1, 6.0, "volts", default=3.3)

    def power_on(self) -> None:
        self._control = self._dac = 0
        self._result = _AT_POWER_ON

    @property
    def output(self) -> float | None:
        return self.reference * self._dac / 256 if self._control & _OUTPUT else None

    def write(self, data: bytes) -> None:
        if data:
            self._control = data[0] & 0x77
        if len(data) > 1:
            self._dac = data[-1]

    def read(self, count: int) -> bytes:
        results = []
        for _ in range(count):
            results.append(self._result)
            self._result = self._convert()
        return bytes(results)

    def _convert(self) -> int:
        channels = _CHANNELS[self._control >> 4 & 3]
        channel = min(self._control & 3, len(channels) - 1)  # beyond the last there is the last
        positive, negative = channels[channel]
        seconds = self.seconds(self.now_ns())
        volts = volts_at(self.inputs, positive, seconds)
        if self._control & _INCREMENT:
            self._control = self._control & ~3 | (channel + 1) % len(channels)
        if negative is None:
            return min(max(int(volts * 256 / self.reference), 0), 255)
        volts -= volts_at(self.inputs, negative, seconds)
        return min(max(round(volts * 256 / self.reference), -128), 127) & 0xFF
